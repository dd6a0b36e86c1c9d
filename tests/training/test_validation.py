"""`on_bad_sample: skip` in a validation: a damaged image is left out and named, and many of them end the run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from srdist.machine.errors import WorkError
from srdist.shards.reader import BadSampleError, ShardIndex
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
