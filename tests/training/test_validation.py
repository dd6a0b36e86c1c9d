"""Validation: its worker processes, and `on_bad_sample: skip`, where a damaged image is left out and named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from srdist.machine.errors import WorkError
from srdist.shards.reader import BadSampleError, ShardIndex
from srdist.training import inputs, trainer
from tests.stream.test_pairs import damage
from tests.training.runs import Here

SKIP = ("data.on_bad_sample=skip", "train.steps=2", "train.validate_every=1")


def test_a_damaged_image_is_left_out_of_the_validation_named_and_counted(
    small_set: Path, tmp_path: Path
) -> None:
    shards = tmp_path / "set"
    shutil.copytree(small_set, shards)
    index = ShardIndex.open(str(shards), "val")
    damage(index, 1)
    here = Here(shards, tmp_path / "run", SKIP)
    here.train("data.max_bad_fraction=0.5")
    assert [row["images"] for row in here.rows("val")] == [len(index) - 1] * 2
    listed = [json.loads(line) for line in (here.run / "bad_samples.jsonl").read_text().splitlines()]
    assert [(row["step"], row["key"]) for row in listed] == [(1, index.key(1)), (2, index.key(1))]

    with pytest.raises(WorkError, match=r"1 of \d+ images are damaged .*above data.max_bad_fraction 0.001"):
        Here(shards, tmp_path / "strict", SKIP).train()
    with pytest.raises(BadSampleError, match=index.key(1)):
        Here(shards, tmp_path / "fail", SKIP).train("data.on_bad_sample=fail")


def test_all_workers_are_forked_before_the_device_and_the_process_group_and_stay_for_all_validations(
    small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    for module, name, event in (
        (os, "fork", "fork"),
        (torch.accelerator, "is_available", "device"),
        (trainer, "open_accelerator", "group"),
    ):
        monkeypatch.setattr(module, name, _noting(events, event, getattr(module, name)))
    monkeypatch.setattr(inputs, "_FEW", 0)
    here = Here(small_set, tmp_path / "run", ("data.workers=1", "train.validate_every=1"))
    for steps in (2, 4):  # begun, and resumed
        events.clear()
        here.train(f"train.steps={steps}")
        assert events[:3] == ["fork", "fork", "group"]
        assert "fork" not in events[3:]
    plain = Here(small_set, tmp_path / "plain", ("train.steps=4", "train.validate_every=1"))
    plain.train()
    assert here.loss_trace() == plain.loss_trace()
    for here_row, plain_row in zip(here.rows("val"), plain.rows("val"), strict=True):
        assert here_row["psnr_y_db"] == plain_row["psnr_y_db"]


def _noting(events: list[str], event: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def noted(*args: Any, **named: Any) -> Any:
        events.append(event)
        return real(*args, **named)

    return noted
