"""A URL in the place of a file or folder of this machine is refused, and its password stays unsaid."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from srdist.cli.main import main
from srdist.machine.errors import UserError
from srdist.networks.config import SRCNNConfig
from srdist.networks.weightfile import WeightsInfo, save_weights

SECRET = "https://user:sekret@host/x"


@pytest.mark.parametrize(
    "command",
    [
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


@pytest.mark.parametrize(
    "command",
    [
        ["export", "w.safetensors", "--onnx", "w.safetensors"],
        ["export", "w.safetensors", "--spandrel", "link.safetensors"],
        ["blend", "w.safetensors", "fast_x2", "--alpha", "0.5", "--out", "link.safetensors"],
        ["compare", "photos/a.png", "--weights", "w.safetensors", "--out", "photos/a.png"],
        ["evaluate", "--weights", "w.safetensors", "--hr", "photos", "--csv", "w.safetensors"],
        ["evaluate", "--hr", "photos", "--scale", "2", "--csv", "photos/a.png"],
        ["report", "run", "--out", "run/metrics.jsonl"],
    ],
    ids=lambda command: command[0],
)
def test_an_output_never_takes_the_place_of_what_is_read_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    network = SRCNNConfig(kernels=(3, 3), widths=(2,))
    info = WeightsInfo(network, "bicubic", "", 0)
    save_weights(tmp_path / "w.safetensors", network.build(seed=1).state_dict(), info)
    (tmp_path / "link.safetensors").symlink_to("w.safetensors")
    for folder in ("photos", "run"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "photos/a.png")
    (tmp_path / "run/metrics.jsonl").write_text("{}\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line == f"srdist: {command[-2]} {command[-1]}: is a file that is read for it: give another one"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
