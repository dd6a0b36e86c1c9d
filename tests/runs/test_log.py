"""What a run tells W&B, read back with W&B's own reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from srdist.runs.log import RunLog
from srdist.runs.wandb_run import mode_for
from tests.conftest import Run
from tests.training.runs import Launch


def read_offline(run: Run, folder: Path) -> list[dict[str, Any]]:
    """All records of the offline runs below a run folder, in order."""
    records = []
    for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        done = run("wandb", "leet", "inspect", "--json", path)
        assert done.returncode == 0, done.stderr
        records += [json.loads(line) for line in done.stdout.splitlines()]
    return records


def history(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The logged rows, names of nested values joined by a dot."""
    return [record["history"]["item"] for record in records if record["type"] == "history"]


@pytest.mark.slow
def test_an_offline_run_holds_every_row_and_a_picture_and_goes_on_under_its_id(
    small_set: Path, tmp_path: Path, run: Run
) -> None:
    settings = ("log.wandb=offline", "train.validate_every=2", "log.sample_images=2", "train.decay_steps=9")
    launch = Launch(small_set, tmp_path / "run", settings)
    launch.finish("train.steps=2")
    launch.finish("train.steps=4")
    records = read_offline(run, launch.run)
    ids = {record["run"]["run_id"] for record in records if record["type"] == "run"}
    assert ids == {(launch.run / "wandb_id.txt").read_text().strip()}

    rows = history(records)
    losses = {row["step"]: row["loss"] for row in rows if "loss" in row}
    assert losses == {step: values[0] for step, values in launch.loss_trace().items()}
    for name in ("learning_rate", "images_per_s", "grad_norm", "data_wait_share", "memory_mb"):
        assert all(name in row for row in rows if "loss" in row), name
    val = [row for row in rows if "val/psnr_y_db" in row]
    assert [row["step"] for row in val] == [2, 4]
    assert val[0]["val/bicubic_psnr_y_db"] == launch.rows("val")[0]["bicubic_psnr_y_db"]

    pictures = [row["samples.path"] for row in rows if "samples.path" in row]
    assert len(pictures) == 2
    stored = next(launch.run.glob(f"wandb/offline-run-*/files/{pictures[-1]}"))
    drawn = launch.run / "samples/step-00000004.png"
    np.testing.assert_array_equal(np.asarray(Image.open(stored)), np.asarray(Image.open(drawn)))
    artifacts = {record["artifact"]["name"] for record in records if record["type"] == "artifact"}
    assert any(name.startswith("shards-") for name in artifacts)
    assert "run-best" in artifacts


@pytest.mark.slow
def test_an_unreachable_server_is_one_warning_and_the_run_is_logged_offline(
    small_set: Path, tmp_path: Path, run: Run
) -> None:
    env = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9", "NETRC": str(tmp_path / "none")}
    launch = Launch(small_set, tmp_path / "run", ("log.wandb=auto", "train.steps=2"), env=env)
    done = launch.finish()
    assert "W&B cannot be reached" in done.stderr
    assert [row["step"] for row in history(read_offline(run, launch.run)) if "loss" in row] == [1, 2]


def test_auto_goes_online_only_with_an_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert mode_for("auto") == "offline"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password key\n")
    assert mode_for("auto") == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert mode_for("auto") is None
    assert [mode_for(mode) for mode in ("online", "offline", "disabled")] == ["online", "offline", None]


def test_rows_after_the_resumed_step_and_a_torn_line_are_forgotten(tmp_path: Path) -> None:
    log = RunLog(tmp_path, main=True, quiet=True)
    for step in (1, 2, 3):
        log.row("train", step, loss=float(step))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "kind": "tr')
    with (tmp_path / "metrics.jsonl").open("ab") as binary:
        binary.write(b"\xff\x00\n" + b"[" * 100_000 + b'\n{"step": 1' + b"0" * 400 + b"}\n")
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples/step-best.png").touch()
    log.forget_after(2)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]


def test_numbers_that_json_does_not_know_are_written_as_words(tmp_path: Path) -> None:
    RunLog(tmp_path, main=True, quiet=True).row("train", 1, loss=float("nan"), grad_norm=float("inf"))
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert (row["loss"], row["grad_norm"]) == ("nan", "inf")
