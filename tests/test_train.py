"""The door of training: what it says where it cannot begin."""

from __future__ import annotations

from pathlib import Path

import pytest

from srdist import train
from srdist.machine.errors import UserError


def test_without_a_config_outside_a_clone_training_says_in_one_line_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "__file__", str(tmp_path / "site-packages/srdist/train.py"))
    with pytest.raises(UserError, match=r"give --config FILE, a YAML file .* data: \{shards: DIR\}"):
        train.train(None, (), run=None, quiet=True)
    assert list(tmp_path.iterdir()) == []
