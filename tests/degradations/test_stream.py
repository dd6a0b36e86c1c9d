"""Degraded training batches: the same bytes on any number of ranks and workers, from any position, on a resumed run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from srdist.runs import checkpoint
from tests.packed_sets import Packed
from tests.stream.test_pairs import BATCH, assert_equal, global_batches
from tests.training.runs import Here, assert_equal_states

STAGES = [{"kind": kind} for kind in ("blur", "resize", "noise", "kernel", "jpeg")]
KINDS: list[dict[str, Any]] = [
    {"kind": "chain", "stages": STAGES},
    {"kind": "second_order", "preset": "photo"},
    {"kind": "bsrgan"},
]


@pytest.mark.parametrize("hr_patch", [16, None])
@pytest.mark.parametrize("degradation", KINDS, ids=lambda section: str(section["kind"]))
def test_batches_are_the_same_for_any_ranks_and_workers_and_from_any_position(
    packed: Packed, degradation: dict[str, Any], hr_patch: int | None
) -> None:
    index = packed(50, sizes="vary" if hr_patch else "one")
    settings: dict[str, Any] = {"hr_patch": hr_patch, "degradation": degradation}
    reference = global_batches(index, steps=4, **settings)
    for world, workers in ((1, 2), (2, 0), (3, 2)):
        assert_equal(global_batches(index, steps=4, world=world, workers=workers, **settings), reference)
    assert_equal(global_batches(index, steps=2, start=2 * BATCH, world=4, **settings), reference[2:])


def test_a_resumed_run_is_the_undisturbed_one(small_set: Path, tmp_path: Path) -> None:
    own = ("data.degradation.kind=second_order", "train.decay_steps=4", "train.validate_every=2")
    Here(small_set, tmp_path / "whole", own).train("data.kernel=null", "train.steps=4")
    for steps in (2, 4):
        Here(small_set, tmp_path / "parts", own).train("data.kernel=null", f"train.steps={steps}")
    whole, parts = (checkpoint.newest(tmp_path / name / "checkpoints") for name in ("whole", "parts"))
    assert whole is not None
    assert parts is not None
    assert_equal_states(whole[1], parts[1])
