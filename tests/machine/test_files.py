"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from srdist.machine import files


def test_the_mode_is_that_of_the_umask_which_no_thread_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "Umask:" not in Path("/proc/self/status").read_text():
        pytest.skip("this system does not tell its umask")

    def refuse(_mask: int) -> int:
        raise AssertionError("the umask is the process's: other threads make files at this moment")

    before = os.umask(0o027)
    try:
        files._umask.cache_clear()
        monkeypatch.setattr(os, "umask", refuse)
        files.write_bytes(tmp_path / "x", b"")
        assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640
    finally:
        monkeypatch.undo()
        os.umask(before)
        files._umask.cache_clear()
