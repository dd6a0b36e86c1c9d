"""Several patches of an image: each once an epoch, the same on any ranks and workers, and the image decoded once."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from jaxtyping import UInt8, UInt64
from PIL import Image

from benchmarks.runs import Launch
from srdist.cli.main import main
from srdist.config import parse
from srdist.degradations.degradation import Degradation
from srdist.degradations.section import DegradationSection
from srdist.machine.errors import UserError, WorkError
from srdist.runs.folder import changes
from srdist.shards.reader import Member, ShardIndex
from srdist.stream.config import DataConfig
from srdist.stream.order import OrderMode, make_order
from srdist.stream.pairs import TrainStream
from srdist.stream.proof import EpochProof
from srdist.stream.share import Share
from tests.packed_sets import Packed
from tests.stream.test_order import MASK, _mix64
from tests.stream.test_pairs import BATCH, Step, assert_equal, damage, global_batches, train_stream

K = 5
"""Divides no batch here: each cuts an image's patches in two."""


def in_a_row(steps: list[Step], name: str) -> torch.Tensor:
    return torch.cat([step[name] for step in steps])


@pytest.mark.parametrize("order", ["global", "window"])
def test_global_batches_are_the_same_for_any_ranks_and_workers(packed: Packed, order: str) -> None:
    index = packed(30, shard_samples=7, sizes="vary")
    settings: dict[str, Any] = {"steps": 8, "order": order, "patches_per_image": K}
    reference = global_batches(index, **settings)
    for world, workers in ((1, 2), (2, 1), (3, 2), (8, 1)):
        assert_equal(global_batches(index, world=world, workers=workers, **settings), reference)
    assert_equal(global_batches(index, world=2, accumulation=3, workers=2, **settings), reference)


@pytest.mark.parametrize("order", ["global", "window"])
def test_a_resumed_stream_goes_on_with_the_same_batches_at_another_world_size(
    packed: Packed, order: str
) -> None:
    index = packed(30, shard_samples=7)
    settings: dict[str, Any] = {"order": order, "patches_per_image": K}
    reference = global_batches(index, steps=9, **settings)
    for stop in range(9):
        world, workers = ((1, 2), (3, 0), (2, 1))[stop % 3]
        start = stop * BATCH
        resumed = global_batches(index, steps=9 - stop, start=start, world=world, workers=workers, **settings)
        assert_equal(resumed, reference[stop:])


@pytest.mark.parametrize("order", ["global", "window"])
def test_the_patches_of_an_image_follow_one_another_and_each_comes_once_an_epoch(
    packed: Packed, order: str
) -> None:
    index = packed(24, shard_samples=7)
    one = global_batches(index, steps=2, order=order)
    several = global_batches(index, steps=2 * K, order=order, patches_per_image=K, world=2, workers=2)
    assert in_a_row(several, "positions").tolist() == list(range(2 * 24 * K))
    assert in_a_row(several, "ids").tolist() == in_a_row(one, "ids").repeat_interleave(K).tolist()
    # The first of them is the patch that the image has alone.
    for name in ("hr", "lr"):
        assert torch.equal(in_a_row(several, name)[::K], in_a_row(one, name))
    hr = in_a_row(several, "hr").reshape(48, K, -1)
    differing = [len({patch.numpy().tobytes() for patch in image}) for image in hr]
    assert sum(differing) > 48 * K * 0.95


def test_crops_and_turns_are_the_documented_ones(packed: Packed) -> None:
    """A second implementation, in Python's integers, after docs/order.md."""
    index = packed(24, sizes="vary")
    steps = global_batches(index, steps=2 * K, patches_per_image=K)
    ids, hr = in_a_row(steps, "ids").tolist(), in_a_row(steps, "hr")
    for position in range(2 * 24 * K):
        epoch, patch, sample = position // (24 * K), position % K, ids[position]
        stream = _mix64(_mix64((_mix64(5) + 3) & MASK) ^ epoch)
        key = _mix64(stream ^ _mix64(sample))
        key = key if patch == 0 else _mix64(key ^ _mix64(patch))
        image = np.asarray(Image.open(io.BytesIO(index.read(sample))).convert("RGB"))
        top, left = (
            2 * (_mix64((key + axis) & MASK) % ((image.shape[axis] - 16) // 2 + 1)) for axis in (0, 1)
        )
        way = _mix64((key + 2) & MASK) % 8
        expected = np.rot90(image[top : top + 16, left : left + 16], way // 2)
        expected = expected[:, ::-1] if way % 2 else expected
        assert np.array_equal(hr[position].permute(1, 2, 0).numpy(), expected)


class KeyConfig(DegradationSection):
    """LR that shows the key it was made with."""

    kind: Literal["key"] = "key"

    def build(self, *, scale: int) -> Degradation:
        return ShowsKey(scale)


@dataclass(frozen=True, slots=True)
class ShowsKey:
    scale: int
    margin = 0

    def __call__(
        self, hr_u8: UInt8[np.ndarray, "n H W 3"], keys: UInt64[np.ndarray, " n"], /
    ) -> UInt8[np.ndarray, "n h w 3"]:
        lr = np.zeros_like(hr_u8[:, :: self.scale, :: self.scale])
        lr[...] = keys.view(np.uint8).reshape(len(keys), 8)[:, 2, None, None, None]
        return lr

    def explained(
        self, hr_u8: UInt8[np.ndarray, "H W 3"], key: int, /
    ) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
        return self(hr_u8[None], np.array([key], np.uint64))[0], ()


class _Data(DataConfig):
    degradation: KeyConfig | None = None  # type: ignore[assignment]


def test_each_patch_is_degraded_by_a_key_of_its_own(packed: Packed) -> None:
    index = packed(24)
    data = _Data(hr_patch=16, workers=0, patches_per_image=16, degradation=KeyConfig())
    with TrainStream(index, data, Share(), scale=2, seed=5, global_batch=384, rank_batch=384) as all_:
        shown = next(iter(all_)).lr[:, 0, 0, 0].reshape(24, 16).clone()
    assert min(len(set(image.tolist())) for image in shown) > 10
    assert len({tuple(image.tolist()) for image in shown}) == 24


@pytest.mark.parametrize("patches", [1, 4, K])
def test_an_image_is_decoded_once_a_batch(
    packed: Packed, patches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = packed(24)
    read: list[int] = []
    real = ShardIndex.read

    def noted(self: ShardIndex, sample_id: int, *, member: Member = "hr") -> bytes:
        read.append(sample_id)
        return real(self, sample_id, member=member)

    monkeypatch.setattr(ShardIndex, "read", noted)
    for start in (0, 10):
        read.clear()
        with train_stream(
            index, patches_per_image=patches, start=start, global_batch=10, rank_batch=10
        ) as stream:
            pair = next(iter(stream))
        # An image may come again in the next epoch.
        images = (pair.positions // patches).tolist()
        assert read == list(dict(zip(images, pair.ids.tolist(), strict=True)).values())


def test_an_image_is_decoded_once_also_where_its_windows_are_more_than_are_degraded_at_a_time(
    packed: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("srdist.stream.batch._CACHED_BYTES", 3 * 24 * 24 * 3)
    test_an_image_is_decoded_once_a_batch(packed, K, monkeypatch)


@pytest.mark.parametrize("mode", ["global", "window"])
@pytest.mark.parametrize(("start", "stop"), [(0, 1), (17, 17), (20, 20), (60, 150), (71, 76), (5, 2000)])
def test_the_shards_ahead_are_those_that_the_positions_read(mode: OrderMode, start: int, stop: int) -> None:
    shards = [11, 10, 1, 11, 10, 19, 10]
    order = make_order(mode, shard_samples=shards, window_shards=3, seed=5, patches_per_image=K)
    assert order.epoch_length == 72 * K
    read = np.repeat(np.arange(7), shards)[order.ids(np.arange(start, stop))] if start < stop else []
    assert order.shards(start, stop) == list(dict.fromkeys(np.asarray(read).tolist()))


def test_the_proof_holds_across_ranks_and_a_resume_in_the_middle_of_an_image(packed: Packed) -> None:
    index = packed(30)
    steps = global_batches(index, steps=13, patches_per_image=K)
    first = [EpochProof(index, start=0, patches=K) for _ in range(2)]
    for step in steps[:4]:
        for rank, proof in enumerate(first):
            proof.add(step["positions"][rank * 12 :][:12], step["ids"][rank * 12 :][:12])
    assert 4 * BATCH % K
    assert first[0].finished(4 * BATCH) == []
    resumed = EpochProof(index, start=4 * BATCH, patches=K)
    resumed.restore(first[0].open_sums() + first[1].open_sums())
    for step in steps[4:]:
        resumed.add(step["positions"], step["ids"])
    assert resumed.finished(13 * BATCH) == [0, 1]
    for epoch in (0, 1):
        resumed.check(epoch, resumed.take(epoch))


def test_the_proof_fails_for_a_patch_left_out_repeated_or_exchanged(packed: Packed) -> None:
    index = packed(30)
    positions, ids = torch.arange(30 * K), torch.arange(30).repeat_interleave(K)
    repeated = positions.clone()
    repeated[7] = 8  # another patch of the same image
    exchanged = ids.clone()
    exchanged[[7, 13]] = ids[[13, 7]]  # two images have exchanged patches of other numbers
    for wrong in (
        (positions[:-1], ids[:-1]),
        (torch.cat([positions, positions[:1]]), torch.cat([ids, ids[:1]])),
        (repeated, ids),
        (positions, exchanged),
    ):
        proof = EpochProof(index, start=0, patches=K)
        proof.add(*wrong)
        expected = "not every one of 5 patches a sample exactly once: expected 150 samples"
        with pytest.raises(WorkError, match=expected):
            proof.check(0, proof.take(0))


def test_skip_gives_all_patches_of_a_damaged_sample_weight_0_and_names_it_once_an_epoch(
    packed: Packed,
) -> None:
    index = packed(24)
    clean = global_batches(index, steps=2 * K, patches_per_image=K)
    damage(index, 7)
    for world, workers in ((1, 0), (2, 2), (8, 1)):
        bad: list[int] = []
        marked: list[dict[str, torch.Tensor]] = []
        for rank in range(world):
            settings: dict[str, Any] = {"rank_batch": BATCH // world, "on_bad_sample": "skip"}
            with train_stream(
                index, rank=rank, world=world, workers=workers, patches_per_image=K, **settings
            ) as stream:
                for pair, _ in zip(stream, range(2 * K), strict=False):
                    bad += [one.sample_id for one in pair.bad]
                    marked.append({name: getattr(pair, name).clone() for name in clean[0]})
        assert bad == [7, 7]
        marked.sort(key=lambda pair: int(pair["positions"][0]))
        damaged = in_a_row(marked, "ids") == 7
        assert int(damaged.sum()) == 2 * K
        assert torch.equal(in_a_row(marked, "weight"), (~damaged).float())
        for name in ("hr", "lr"):
            after, before = in_a_row(marked, name), in_a_row(clean, name)
            assert torch.equal(after[~damaged], before[~damaged])
            assert after[damaged].count_nonzero() == 0


@pytest.mark.parametrize("mode", ["global", "window"])
def test_order_prints_the_keys_that_the_stream_delivers(packed: Packed, mode: str) -> None:
    index = packed(30)
    ids = in_a_row(global_batches(index, steps=4, order=mode, patches_per_image=K), "ids")
    command = ["shards", "order", index.folder, "--seed", "5", "--order", mode, "--window-shards", "2"]
    command += ["--patches-per-image", str(K), "--from", "7", "--count", str(4 * BATCH - 7)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [index.key(sample_id) for sample_id in ids.tolist()[7:]]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"patches_per_image": 0}, "data.patches_per_image: found 0, expected: greater than or equal to 1"),
        ({"patches_per_image": 10**30}, "data.patches_per_image: found 1000"),
        ({"patches_per_image": "4"}, "data.patches_per_image: found '4', expected: a valid integer"),
        (
            {"patches_per_image": 4, "hr_patch": None},
            "data: patches_per_image: found 4, expected 1 with hr_patch: null (whole images)",
        ),
    ],
)
def test_a_number_that_makes_no_patches_is_one_line(data: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as refused:
        parse({"data": data}, source="run.yaml")
    assert words in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_batch_may_be_as_large_as_all_patches_and_no_larger(packed: Packed) -> None:
    index = packed(20)
    assert len(global_batches(index, steps=1, patches_per_image=2)[0]["ids"]) == BATCH
    with pytest.raises(
        UserError, match=r"20 samples of 2 patches, less than .* 60: set it to at most 40, or"
    ):
        train_stream(index, patches_per_image=2, global_batch=60, rank_batch=60)


@pytest.mark.slow
def test_two_ranks_stopped_in_the_middle_of_an_image_train_as_one_rank_does(
    small_set: Path, tmp_path: Path
) -> None:
    shards = shutil.copytree(small_set, tmp_path / "set")
    index = ShardIndex.open(str(shards), "train")
    damage(index, 3)
    epochs = 2
    steps = epochs * len(index) * K // 12 + 1
    settings = (
        f"data.patches_per_image={K}",
        "data.on_bad_sample=skip",
        "data.max_bad_fraction=0.1",
        f"train.decay_steps={steps}",
    )
    alone = Launch(shards, tmp_path / "alone", settings)
    alone.finish(f"train.steps={steps}")
    launch = Launch(shards, tmp_path / "run", settings, ranks=2)
    launch.finish("train.steps=4")
    assert launch.final().trainer["samples_seen"] == 48
    launch.finish(f"train.steps={steps}")
    assert list(launch.loss_trace()) == list(range(1, steps + 1))
    for step, values in alone.loss_trace().items():
        assert launch.loss_trace()[step] == pytest.approx(values, rel=1e-4)
    listed = [
        [json.loads(line)["step"] for line in (run.run / "bad_samples.jsonl").read_text().splitlines()]
        for run in (alone, launch)
    ]
    assert listed[0] == listed[1]
    assert len(listed[0]) in (epochs, epochs + 1)


def test_a_run_that_goes_on_with_another_number_of_patches_is_refused(tmp_path: Path) -> None:
    four, five = (parse({"data": {"patches_per_image": n}}, source="run.yaml") for n in (4, 5))
    with pytest.raises(
        UserError, match=r"data.patches_per_image: the run in .* has 4, found 5; this field cannot"
    ):
        changes(four, five, source=tmp_path)
