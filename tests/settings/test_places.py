"""A URL in the place of a file or folder of this machine is refused, and its password stays unsaid."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from srdist.cli.main import main
from srdist.machine.errors import UserError

SECRET = "https://user:sekret@host/x"


@pytest.mark.parametrize(
    "command",
    [
        ["pack", "r.yaml", "--images", "photos", "--out", SECRET],
        ["pack", "r.yaml", "--images", SECRET, "--out", "set"],
        ["shards", "index", SECRET],
        ["blend", "a", "b", "--alpha", "0.5", "--out", SECRET],
        ["report", SECRET],
        ["report", "runs/x", "--out", SECRET],
        ["degrade", SECRET, "--config", "c.yaml", "--out", "seen"],
        ["compare", SECRET, "--out", "a.png"],
        ["sweep", SECRET, "--out", "q"],
        ["train", "--config", SECRET],
        ["train", "--run", SECRET],
        ["evaluate", "--weights", SECRET, "--hr", "photos"],
        ["upscale", "photos", SECRET],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_url_makes_no_folder_and_its_password_is_not_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """It became a folder named `https:`, and the password stood on the screen."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "r.yaml").write_text("name: x\n")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, command)
    said = result.output + str(result.exception)
    assert isinstance(result.exception, UserError | SystemExit)
    assert result.exit_code != 0
    assert "https://***@host/x: is a URL; " in said
    assert "sekret" not in said
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "r.yaml"}
