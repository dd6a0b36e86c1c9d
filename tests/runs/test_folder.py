"""A run's folder: one process group at a time, and nothing overwritten that a resumption cannot bring back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from srdist.config import Config
from srdist.machine.errors import UserError
from srdist.runs import folder


def test_a_folder_in_use_is_refused_with_its_holder_and_free_when_that_one_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "_PATIENCE_S", 0.0)
    run = tmp_path / "run"
    with folder.lock(run), pytest.raises(UserError, match=f"is in use by process {os.getpid()} on "):
        folder.lock(run)
    folder.lock(run).release()


@pytest.mark.parametrize(
    "name",
    ["metrics.jsonl", "checkpoints/step-00000004/manifest.json", "checkpoints/step-00000004/trainer.json"],
)
def test_a_fifo_in_the_place_of_a_file_of_the_run_is_not_waited_for(tmp_path: Path, name: str) -> None:
    """Training waited for it through every signal but -9."""
    path = tmp_path / "run" / name
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    with pytest.raises(UserError, match=rf"{name}: a FIFO, expected a regular file"):
        folder.lock(tmp_path / "run")


def test_what_changed_is_found_by_field_and_what_makes_the_run_cannot_change(tmp_path: Path) -> None:
    old = Config()
    longer = Config.model_validate({"train": {"steps": 9, "log_every": 3}})
    assert folder.changes(old, old, source=tmp_path) == {}
    assert folder.changes(old, longer, source=tmp_path) == {
        "train.steps": [2000, 9],
        "train.log_every": [50, 3],
    }
    for section, fields in (("model", {"widths": [128, 32]}), ("train", {"loss": "l1"})):
        other = Config.model_validate({section: fields})
        with pytest.raises(UserError, match=rf"^{section}\..* cannot change on resume"):
            folder.changes(old, other, source=tmp_path)


def test_another_set_of_images_is_refused_by_the_ids(tmp_path: Path) -> None:
    folder.check_manifest("a" * 64, trained="a" * 64, source=tmp_path)
    with pytest.raises(UserError, match="manifest_id aaaaaaaaaaaa differs from bbbbbbbbbbbb"):
        folder.check_manifest("a" * 64, trained="b" * 64, source=tmp_path)


def test_stopped_is_left_for_scripts_and_taken_away_when_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "STOP").touch()
    folder.mark_stopped(tmp_path, reason="STOP file", step=3)
    assert json.loads((tmp_path / "STOPPED").read_text()) == {"reason": "STOP file", "step": 3}
    assert not (tmp_path / "STOP").exists()
    (tmp_path / "STOP").touch()
    folder.clear_stopped(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_wandb_id_is_kept_from_the_first_start_on(tmp_path: Path) -> None:
    assert folder.wandb_id(tmp_path, candidate="first") == "first"
    assert folder.wandb_id(tmp_path, candidate="second") == "first"


def test_a_new_start_over_weights_is_refused(tmp_path: Path) -> None:
    folder.check_no_weights(tmp_path)
    (tmp_path / "last.safetensors").touch()
    with pytest.raises(UserError, match=r"holds last\.safetensors but no checkpoint"):
        folder.check_no_weights(tmp_path)


def test_ranks_that_would_train_by_other_values_or_on_other_images_are_refused_by_name() -> None:
    one = Config()
    elsewhere = Config.model_validate({"data": {"shards": "disk/set", "workers": 0}, "train": {"threads": 1}})
    folder.check_alike([one, elsewhere], ["a", "a"])
    shorter = Config.model_validate({"train": {"steps": 30}})
    with pytest.raises(UserError, match=r"train\.steps: rank 2 has 30, rank 0 has 2000: all ranks need one"):
        folder.check_alike([one, one, shorter], ["a", "a", "a"])
    with pytest.raises(UserError, match=r"data\.shards: rank 1 has manifest_id b, rank 0 has a"):
        folder.check_alike([one, one], ["a", "b"])
