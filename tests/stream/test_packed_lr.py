"""Pairs that were packed as such: LR comes from the sample, cut and turned as its HR is, exact like everything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from srdist.cli.main import main
from srdist.degradations.config import PairsConfig
from srdist.degradations.packed import PackedLR
from srdist.machine.errors import UserError
from srdist.networks.weightfile import load_weights
from srdist.runs import checkpoint
from srdist.shards.pack import pack
from srdist.shards.reader import ShardIndex
from srdist.shards.recipe import Recipe
from srdist.stream.pairs import EvalStream
from srdist.stream.share import Share
from tests.packed_sets import Folders, Packed, lr_of
from tests.stream.test_pairs import BATCH, Step, assert_equal, global_batches, train_stream
from tests.training.runs import Here, assert_equal_states, trainer_here

PAIRS: dict[str, Any] = {"degradation": PairsConfig()}
OWN = ("data.kernel=null", "data.degradation.kind=pairs", "data.hr_patch=16", "train.global_batch=12")


def assert_lr_is_that_of_hr(hr: Tensor, lr: Tensor, *, scale: int = 2) -> None:
    for hr_image, lr_image in zip(hr, lr, strict=True):
        expected = lr_of(hr_image.permute(1, 2, 0).contiguous().numpy(), scale=scale)
        assert np.array_equal(lr_image.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize(
    "settings", [{"hr_patch": 12}, {"hr_patch": 12, "patches_per_image": 4}, {"hr_patch": None}]
)
def test_lr_is_the_same_part_of_the_sample_the_same_way_round_on_any_ranks_and_workers(
    packed_pairs: Packed, settings: dict[str, Any], scale: int
) -> None:
    index = packed_pairs(30, scale=scale, sizes="vary" if settings["hr_patch"] else "one")
    settings = {**settings, **PAIRS, "scale": scale}
    reference = global_batches(index, steps=3, **settings)
    for step in reference:
        assert_lr_is_that_of_hr(step["hr"], step["lr"], scale=scale)
    # They are turned, and HR is what a set of HR alone would show.
    plain = global_batches(index, steps=3, flips=False, **settings)
    assert not torch.equal(plain[0]["lr"], reference[0]["lr"])
    for world, workers in ((2, 0), (3, 1)):
        assert_equal(global_batches(index, steps=3, world=world, workers=workers, **settings), reference)
    assert_equal(global_batches(index, steps=1, start=2 * BATCH, **settings), reference[2:])


def test_hr_comes_as_from_a_set_of_hr_alone_and_a_url_gives_the_same_bytes(
    pair_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRDIST_CACHE", str(tmp_path / "cache"))
    hr, lr = pair_folders(30)
    recipe = Recipe(name="test", fractions={"train": 1.0}, shard_samples=10)
    pack(recipe, hr, lr=lr, out=tmp_path / "pairs-set")
    pack(recipe, hr, out=tmp_path / "alone")
    batches: list[list[Step]] = [
        global_batches(ShardIndex.open(place, "train"), steps=2, **more)
        for place, more in (
            (str(tmp_path / "pairs-set"), PAIRS),
            (f"file://{tmp_path / 'pairs-set'}", PAIRS),
            (str(tmp_path / "alone"), {"kernel": "bicubic"}),
        )
    ]
    assert_equal(batches[0], batches[1])
    assert all(torch.equal(a["hr"], b["hr"]) for a, b in zip(batches[0], batches[2], strict=True))


def test_a_pair_with_a_damaged_lr_has_weight_0_and_is_told_of(packed_pairs: Packed) -> None:
    index = packed_pairs(24)
    bad = index.bad(5, "", member="lr")
    with Path(bad.shard).open("r+b") as tar:
        tar.seek(bad.offset + 40)
        tar.write(b"\xff\x00\xff")
    for hr_patch in (16, None):
        with train_stream(index, hr_patch=hr_patch, on_bad_sample="skip", **PAIRS) as stream:
            pair = next(iter(stream))
        place = pair.ids.tolist().index(5)
        assert [(one.sample_id, one.offset, one.reason[:9]) for one in pair.bad] == [
            (5, bad.offset, "its LR: i")
        ]
        assert pair.weight.sum() == 23
        assert not pair.weight[place]
        assert not pair.hr[place].any()
        assert not pair.lr[place].any()
        rest = pair.weight > 0
        assert_lr_is_that_of_hr(pair.hr[rest], pair.lr[rest])


def test_an_evaluation_sees_each_pair_once_on_any_number_of_ranks(packed_pairs: Packed) -> None:
    index = packed_pairs(20, sizes="vary")
    seen: list[int] = []
    for rank in range(3):
        for pair in EvalStream(index, PackedLR(2), Share(rank, 3), batch=4, workers=0):
            assert_lr_is_that_of_hr(pair.hr, pair.lr)
            seen += pair.ids.tolist()
    assert sorted(seen) == list(range(20))


@pytest.fixture
def paired_set(pair_folders: Folders, tmp_path: Path) -> Path:
    hr, lr = pair_folders(60)
    recipe = Recipe(name="t", fractions={"train": 0.7, "val": 0.15, "test": 0.15}, shard_samples=9)
    pack(recipe, hr, lr=lr, out=tmp_path / "set")
    return tmp_path / "set"


def test_a_run_on_pairs_resumes_exactly_and_its_weights_are_evaluated_on_pairs_alone(
    paired_set: Path, tmp_path: Path
) -> None:
    own = (*OWN, "train.decay_steps=4", "train.validate_every=2", "log.sample_images=2")
    Here(paired_set, tmp_path / "whole", own).train("train.steps=4")
    for steps in (2, 4):
        Here(paired_set, tmp_path / "parts", own).train(f"train.steps={steps}")
    whole, parts = (checkpoint.newest(tmp_path / name / "checkpoints") for name in ("whole", "parts"))
    assert whole is not None
    assert parts is not None
    assert_equal_states(whole[1], parts[1])
    assert list((tmp_path / "whole" / "samples").iterdir())

    _, info = load_weights(tmp_path / "whole")
    assert (info.kernel, json.loads(info.degradation)) == ("pairs", {"kind": "pairs"})

    def said(*arguments: str | Path) -> tuple[int, str, str]:
        result = CliRunner().invoke(main, ["evaluate", *map(str, arguments)])
        return result.exit_code, result.stdout, result.stderr

    weights = ("--weights", tmp_path / "whole")
    code, out, err = said(*weights, "--hr", paired_set, "--split", "val", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["protocol"]["lr"] == "packed beside HR"
    # What validation saw is what evaluation sees, and what the two folders hold.
    rows = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if row["kind"] == "val"][-1]
    assert json.loads(out)["methods"]["bicubic"]["psnr_y_db"] == pytest.approx(last["bicubic_psnr_y_db"])
    code, out, err = said("--hr", paired_set, "--split", "train", "--json")
    assert json.loads(out)["protocol"]["scale"] == 2

    folders = tmp_path / "pairs"
    for arguments, words in (
        ((*weights, "--hr", paired_set, "--kernel", "bicubic"), "leave --kernel and --degrade out"),
        (("--scale", 3, "--hr", paired_set), "its pairs are of scale 2, model.scale (or --scale) is 3"),
        ((*weights, "--hr", folders / "hr"), "degradation pairs: LR at x2 is not made of HR"),
    ):
        code, out, err = said(*map(str, arguments))
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert words in err
    assert said(*weights, "--hr", folders / "hr", "--lr", folders / "lr")[0] == 0
    _, _, err = said("--weights", "srcnn_x2", "--hr", paired_set, "--split", "val")
    assert err == (
        "srdist: warning: LR is that of the pairs, but srcnn_x2 was trained for bicubic: expect a worse result\n"
    )


def test_a_config_that_does_not_fit_the_set_is_one_line_before_anything_is_written(
    paired_set: Path, small_set: Path, tmp_path: Path
) -> None:
    for shards, settings, words in (
        (paired_set, (), "a set of pairs, whose LR is there (x2), but LR is to be made by bicubic"),
        (small_set, OWN, "LR is to be that of pairs, but the set has HR images alone: pack it with --lr"),
        (paired_set, (*OWN, "model.scale=4"), "its pairs are of scale 2, model.scale (or --scale) is 4"),
    ):
        with pytest.raises(UserError) as refused, trainer_here(shards, tmp_path / "run", *settings):
            pass
        assert words in str(refused.value)
        assert not (tmp_path / "run/config.yaml").exists()
