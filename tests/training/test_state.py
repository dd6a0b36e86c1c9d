"""Where a run stands: taken over from its folder, saved there, and never over something better."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from benchmarks.runs import pack_small_set
from srdist.machine.errors import UserError, WorkError
from srdist.networks.weightfile import load_weights
from tests.training.runs import trainer_here


def test_a_run_whose_checkpoints_are_gone_is_refused_and_its_weights_stay(
    small_set: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with trainer_here(small_set, run, "train.steps=2") as trainer:
        trainer.fit()
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    shutil.rmtree(run / "checkpoints")
    with (
        pytest.raises(UserError, match=r"best.safetensors and last.safetensors but no checkpoint.*--run"),
        trainer_here(small_set, run, "train.steps=2"),
    ):
        pass
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_anew(
    small_set: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with trainer_here(small_set, run, "train.steps=2"):
        pass
    with trainer_here(small_set, run, "train.steps=2") as trainer:
        trainer.fit()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["kind"] for row in rows][:2] == ["start", "start"]
    assert rows[-1]["step"] == 2


def test_a_score_that_is_no_number_is_never_the_best_and_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Of images as small as their border nothing is left to score.
    shards = pack_small_set(tmp_path, height=16, width=16)
    run = tmp_path / "run"
    settings = ("model.scale=8", "data.hr_patch=16", "log.sample_images=0", "train.validate_every=1")
    with trainer_here(shards, run, *settings, "train.steps=2") as trainer:
        assert trainer.fit().stopped is None
        assert trainer.state.counts.best_psnr_y_db is None
    assert "validation at step 1: PSNR-Y is not a number" in capsys.readouterr().err
    assert not (run / "best.safetensors").exists()
    assert (run / "last.safetensors").exists()
    with trainer_here(shards, run, *settings, "train.steps=3") as trainer:
        assert trainer.fit().stopped is None


def test_weights_that_are_not_finite_are_never_written(small_set: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with trainer_here(small_set, run, "train.steps=2") as trainer:
        trainer.fit()
    saved = {path: path.read_bytes() for path in sorted(run.rglob("*.safetensors"))}
    with trainer_here(small_set, run, "train.steps=4", "train.checkpoint_every=3") as trainer:
        # After the ReLU it is nought: no loss and no output shows it.
        trainer.learner.network.module.get_parameter("conv1.bias").data[0] = -torch.inf
        with pytest.raises(WorkError, match=r"step 3: conv1\.bias not finite, so nothing is saved"):
            trainer.fit()
    assert {path: path.read_bytes() for path in sorted(run.rglob("*.safetensors"))} == saved
    assert load_weights(run)[1].step == 2


@pytest.mark.parametrize("cut", ["old", "gone"])
@pytest.mark.parametrize("name", ["last.safetensors", "best.safetensors"])
def test_killed_between_a_checkpoint_and_the_weights_beside_it_the_rerun_writes_them(
    small_set: Path, tmp_path: Path, name: str, cut: str
) -> None:
    run = tmp_path / "run"
    with trainer_here(small_set, run, "train.steps=2") as trainer:
        trainer.fit()
    old = (run / name).read_bytes()
    with trainer_here(small_set, run, "train.steps=60") as trainer:
        trainer.fit()
    new = (run / name).read_bytes()
    assert new != old
    if cut == "old":
        (run / name).write_bytes(old)
    else:
        (run / name).unlink()
    with trainer_here(small_set, run, "train.steps=60") as trainer:
        trainer.fit()
    assert (run / name).read_bytes() == new
