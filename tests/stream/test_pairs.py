"""The stream: exact on any number of ranks and workers, from any position, with pixels that Pillow confirms."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from srdist.degradations.kernel import KernelDegradation
from srdist.images.kernels import Kernel
from srdist.machine.errors import UserError, WorkError
from srdist.shards.reader import BadSampleError, ShardIndex
from srdist.stream import patches
from srdist.stream.config import DataConfig
from srdist.stream.pairs import EvalStream, TrainStream
from srdist.stream.proof import EpochProof
from srdist.stream.share import Share
from tests.packed_sets import Packed

BATCH = 24
PILLOW = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
}
Step = dict[str, torch.Tensor]


def train_stream(
    index: ShardIndex, *, rank: int = 0, world: int = 1, start: int = 0, **changes: Any
) -> TrainStream:
    """Of the given settings: fields of the config's section `data`, or arguments of the stream."""
    settings: dict[str, Any] = {"scale": 2, "seed": 5, "global_batch": BATCH, "rank_batch": BATCH}
    data: dict[str, Any] = {"hr_patch": 16, "window_shards": 2, "workers": 0}
    for name, value in changes.items():
        (settings if name in {*settings, "should_stop", "prefetch"} else data)[name] = value
    stream = TrainStream(index, DataConfig(**data), Share(rank, world), **settings)
    stream.begin_at(start)
    return stream


def global_batches(
    index: ShardIndex, *, steps: int, world: int = 1, accumulation: int = 1, **changes: Any
) -> list[Step]:
    """The global batches of `steps` steps, put together from all ranks."""
    rank_batch = BATCH // world // accumulation
    result: list[list[Step]] = [[] for _ in range(steps)]
    for rank in range(world):
        with train_stream(index, rank_batch=rank_batch, rank=rank, world=world, **changes) as stream:
            pairs = iter(stream)
            for step in range(steps):
                for _ in range(accumulation):
                    pair = next(pairs)
                    result[step].append(
                        {
                            name: getattr(pair, name).clone()
                            for name in ("lr", "hr", "weight", "ids", "positions")
                        }
                    )
    return [{name: torch.cat([part[name] for part in step]) for name in step[0]} for step in result]


def assert_equal(left: Sequence[Step], right: Sequence[Step]) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        for name in one:
            assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("order", ["global", "window"])
@pytest.mark.parametrize("hr_patch", [16, None])
def test_global_batches_are_the_same_for_any_ranks_and_workers(
    packed: Packed, order: str, hr_patch: int | None
) -> None:
    index = packed(100, shard_samples=30)
    settings: dict[str, Any] = {"steps": 10, "order": order, "hr_patch": hr_patch}
    reference = global_batches(index, **settings)
    for world, workers in ((1, 2), (2, 1), (3, 2), (4, 4), (8, 1)):
        assert_equal(global_batches(index, world=world, workers=workers, **settings), reference)
    assert_equal(global_batches(index, world=2, accumulation=3, workers=2, **settings), reference)


@pytest.mark.parametrize("order", ["global", "window"])
def test_a_resumed_stream_goes_on_with_the_same_batches_at_another_world_size(
    packed: Packed, order: str
) -> None:
    index = packed(50, shard_samples=10)
    reference = global_batches(index, steps=9, order=order)
    for stop in range(9):
        world, workers = ((1, 2), (3, 0), (2, 1))[stop % 3]
        resumed = global_batches(
            index, steps=9 - stop, order=order, start=stop * BATCH, world=world, workers=workers
        )
        assert_equal(resumed, reference[stop:])


@pytest.mark.parametrize(("count", "shard_samples"), [(24, 24), (25, 3), (61, 61), (100, 1)])
def test_every_sample_comes_exactly_once_an_epoch(packed: Packed, count: int, shard_samples: int) -> None:
    """Also with one shard for four workers and with a shard a sample."""
    index = packed(count, shard_samples=shard_samples)
    assert len(index.shard_samples) == -(-count // shard_samples)
    for order in ("global", "window"):
        ids: list[int] = []
        for step in global_batches(index, steps=count // 4, world=2, workers=4, order=order):
            assert step["positions"].tolist() == list(range(len(ids), len(ids) + BATCH))
            ids += step["ids"].tolist()
        epochs = len(ids) // count
        assert epochs >= 2
        for epoch in range(epochs):
            assert sorted(ids[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_the_proof_holds_for_an_exact_epoch_on_any_ranks_and_across_a_resume(packed: Packed) -> None:
    index = packed(50)
    first = [EpochProof(index, start=0) for _ in range(2)]
    seen = 0
    for step in global_batches(index, steps=3):
        for rank, proof in enumerate(first):
            half = slice(rank * 12, rank * 12 + 12)
            proof.add(step["positions"][half], step["ids"][half])
        seen += BATCH
        for epoch in first[0].finished(seen):
            assert first[1].finished(seen) == [epoch]
            first[0].check(
                epoch, sum((proof.take(epoch) for proof in first), torch.zeros(2, dtype=torch.int64))
            )
    assert seen == 72
    assert first[0].finished(seen) == []
    stored = first[0].open_sums() + first[1].open_sums()
    resumed = [EpochProof(index, start=seen) for _ in range(3)]
    resumed[0].restore(stored)
    for proof in resumed[1:]:
        proof.restore(torch.zeros(2, dtype=torch.int64))
    for step in global_batches(index, steps=4, start=seen):
        for rank, proof in enumerate(resumed):
            third = slice(rank * 8, rank * 8 + 8)
            proof.add(step["positions"][third], step["ids"][third])
    finished = resumed[0].finished(seen + 4 * BATCH)
    assert finished == [1, 2]
    for epoch in finished:
        resumed[0].check(
            epoch, sum((proof.take(epoch) for proof in resumed), torch.zeros(2, dtype=torch.int64))
        )


def test_the_proof_fails_for_a_sample_left_out_repeated_or_exchanged(packed: Packed) -> None:
    index = packed(30)
    exact = torch.arange(30)
    exchanged = exact.clone()
    exchanged[3] = 4
    for ids in (exact[:-1], torch.cat([exact, exact[:1]]), exchanged):
        proof = EpochProof(index, start=0)
        proof.add(torch.zeros_like(ids), ids)
        with pytest.raises(WorkError, match="epoch 0 was not every sample exactly once: expected 30 samples"):
            proof.check(0, proof.take(0))


def _decoded(index: ShardIndex, sample_id: int) -> Image.Image:
    return Image.open(io.BytesIO(index.read(sample_id))).convert("RGB")


def _array(image: torch.Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy().astype(int)


@pytest.mark.parametrize("kernel", list(PILLOW))
@pytest.mark.parametrize("scale", [2, 3])
def test_whole_frames_are_pillows_pixels_and_their_lr_is_pillows_reduction(
    packed: Packed, kernel: Kernel, scale: int
) -> None:
    index = packed(24)
    batch = global_batches(index, steps=1, hr_patch=None, flips=False, scale=scale, kernel=kernel)[0]
    differing = 0
    for hr, lr, sample_id in zip(batch["hr"], batch["lr"], batch["ids"].tolist(), strict=True):
        image = _decoded(index, sample_id)
        cropped = image.crop((0, 0, image.width // scale * scale, image.height // scale * scale))
        assert np.array_equal(_array(hr), np.asarray(cropped))
        small = cropped.resize((cropped.width // scale, cropped.height // scale), PILLOW[kernel])
        difference = np.abs(_array(lr) - np.asarray(small))
        assert difference.max() <= 1
        differing += int(np.count_nonzero(difference))
    # torch keeps its weights in 16 bits, Pillow in 22: measured 0.01 % at x2, 0.25 % at x3, by one level.
    assert differing / batch["lr"].numel() < 4e-3


@pytest.mark.parametrize("kernel", list(PILLOW))
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_patch_and_its_lr_are_the_same_part_of_the_image_and_of_its_lr(
    packed: Packed, kernel: Kernel, scale: int
) -> None:
    index = packed(40, sizes="vary")
    side = 24
    step = global_batches(index, steps=1, hr_patch=side, flips=False, scale=scale, kernel=kernel)[0]
    places = set()
    for hr, lr, sample_id in zip(step["hr"], step["lr"], step["ids"].tolist(), strict=True):
        image = _decoded(index, sample_id)
        whole = np.asarray(image).astype(int)
        cropped = image.crop((0, 0, image.width // scale * scale, image.height // scale * scale))
        small = np.asarray(cropped.resize((cropped.width // scale, cropped.height // scale), PILLOW[kernel]))
        found = [
            (top, left)
            for top in range(0, whole.shape[0] - side + 1, scale)
            for left in range(0, whole.shape[1] - side + 1, scale)
            if np.array_equal(whole[top : top + side, left : left + side], _array(hr))
        ]
        assert found
        top, left = found[0][0] // scale, found[0][1] // scale
        part = small[top : top + side // scale, left : left + side // scale].astype(int)
        assert np.abs(part - _array(lr)).max() <= 1
        places.add(found[0])
    assert len(places) > 10


def test_patches_are_turned_all_eight_ways_with_their_lr_and_differ_between_epochs(packed: Packed) -> None:
    index = packed(24)
    plain = global_batches(index, steps=8, flips=False)
    turned = global_batches(index, steps=8, flips=True)
    ways: set[int] = set()
    for before, after in zip(plain, turned, strict=True):
        assert torch.equal(before["ids"], after["ids"])
        for hr, lr, hr_turned, lr_turned in zip(
            before["hr"], before["lr"], after["hr"], after["lr"], strict=True
        ):
            fits = [
                way
                for way in range(8)
                if all(
                    torch.equal(_turn(one, way), other) for one, other in ((hr, hr_turned), (lr, lr_turned))
                )
            ]
            assert fits
            ways.update(fits if len(fits) == 1 else ())
    assert ways == set(range(8))
    first, second = (
        {int(i): hr for i, hr in zip(step["ids"], step["hr"], strict=True)} for step in plain[:2]
    )
    assert sum(torch.equal(first[i], second[i]) for i in first) < 6


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 1)])
def test_an_image_of_one_row_or_column_is_turned_all_eight_ways(size: tuple[int, int]) -> None:
    image = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(*size, 3)
    for way in range(8):
        expected = _turn(torch.from_numpy(image).permute(2, 0, 1), way).permute(1, 2, 0)
        assert np.array_equal(patches.turned(image, way), expected)


def test_whole_frames_are_mirrored_but_never_turned_upside_down(packed: Packed) -> None:
    index = packed(24)
    plain, turned = (global_batches(index, steps=1, hr_patch=None, flips=flips)[0] for flips in (False, True))
    mirrored = 0
    for hr, hr_turned, lr_turned in zip(plain["hr"], turned["hr"], turned["lr"], strict=True):
        mirrored += torch.equal(hr.flip(-1), hr_turned)
        assert torch.equal(hr, hr_turned) or torch.equal(hr.flip(-1), hr_turned)
        assert lr_turned.shape == (3, 27, 22)
    assert 4 < mirrored < 20


def _turn(image: torch.Tensor, way: int) -> torch.Tensor:
    rotated = torch.rot90(image, way // 2, (-2, -1))
    return rotated.flip(-1) if way % 2 else rotated


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_other_formats_stream_like_jpeg(packed: Packed, suffix: str) -> None:
    index = packed(24, suffix=suffix)
    batch = global_batches(index, steps=1, hr_patch=None, flips=False)[0]
    for hr, sample_id in zip(batch["hr"], batch["ids"].tolist(), strict=True):
        assert np.array_equal(_array(hr), np.asarray(_decoded(index, sample_id)))


def test_a_pair_holds_its_values_until_the_next_one_is_asked_for(packed: Packed) -> None:
    index = packed(24)
    reference = global_batches(index, steps=12, hr_patch=None)
    with train_stream(index, workers=2, hr_patch=None) as stream:
        for step, pair in zip(reference, stream, strict=False):
            time.sleep(0.02)  # the workers run ahead into every slot that they may use
            assert torch.equal(pair.hr, step["hr"])
            assert torch.equal(pair.lr, step["lr"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"global_batch": 60, "rank_batch": 60},
            r"split train has 50 samples, less than .* 60: set it to at most 50",
        ),
        ({"hr_patch": 15}, "data.hr_patch 15 is not a multiple of model.scale 2"),
        ({"hr_patch": 46}, r"larger than the smallest image .*\(54x44\): set it to at most 44"),
        (
            {"rank_batch": 5, "world": 4},
            "not a multiple of rank_batch x ranks = 5 x 4: the nearest that fits is 20 or 40",
        ),
        ({"rank_batch": 50}, "the nearest that fits is 50"),
    ],
)
def test_what_does_not_fit_is_said_with_what_would(
    packed: Packed, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train_stream(packed(50), **changes)


def test_whole_frames_of_many_sizes_are_refused_with_the_largest_patch_that_fits(packed: Packed) -> None:
    with pytest.raises(UserError, match=r"not of one size .* set data.hr_patch, at most 34"):
        train_stream(packed(50, sizes="vary"), hr_patch=None)


@pytest.mark.parametrize("sizes", ["one", "vary"])
@pytest.mark.parametrize(("world", "workers"), [(1, 0), (2, 2), (3, 1), (60, 0)])
def test_evaluation_sees_each_sample_once_in_batches_of_one_size(
    packed: Packed, sizes: str, world: int, workers: int
) -> None:
    index = packed(50, sizes=sizes)
    for limit in (None, 7, 1000):
        seen: list[int] = []
        for rank in range(world):
            for pair in EvalStream(
                index,
                KernelDegradation(3, "bicubic"),
                Share(rank, world),
                batch=4,
                workers=workers,
                limit=limit,
            ):
                assert len(pair.ids) <= 4
                for hr, sample_id in zip(pair.hr, pair.ids.tolist(), strict=True):
                    image = np.asarray(_decoded(index, sample_id))
                    height, width = image.shape[0] // 3 * 3, image.shape[1] // 3 * 3
                    assert np.array_equal(_array(hr), image[:height, :width])
                seen += pair.ids.tolist()
        assert sorted(seen) == list(range(min(limit or 50, 50)))


def test_a_damaged_sample_stops_evaluation(packed: Packed) -> None:
    index = packed(20)
    damage(index, 13)
    with pytest.raises(BadSampleError, match=index.key(13)):
        list(EvalStream(index, KernelDegradation(2, "bicubic"), Share(), batch=4, workers=2))


def damage(index: ShardIndex, sample_id: int) -> None:
    """Turn one bit of a sample's body."""
    bad = index.bad(sample_id, "")
    with Path(bad.shard).open("r+b") as file:
        file.seek(bad.offset + 200)
        byte = file.read(1)[0]
        file.seek(bad.offset + 200)
        file.write(bytes([byte ^ 4]))


@pytest.mark.parametrize("workers", [0, 2])
def test_fail_stops_at_a_damaged_sample_and_names_it(packed: Packed, workers: int) -> None:
    index = packed(24)
    damage(index, 7)
    with train_stream(index, workers=workers) as stream, pytest.raises(BadSampleError) as caught:
        next(iter(stream))
    bad = caught.value.bad
    assert (bad.key, bad.sample_id) == (index.key(7), 7)
    assert "crc32" in str(caught.value)
    assert f"offset {bad.offset}" in str(caught.value)


@pytest.mark.parametrize("hr_patch", [16, None])
def test_skip_gives_a_damaged_sample_weight_0_and_leaves_all_else_as_it_was(
    packed: Packed, hr_patch: int | None
) -> None:
    index = packed(24)
    clean = global_batches(index, steps=2, hr_patch=hr_patch)
    damage(index, 7)
    for workers, world in ((0, 1), (2, 2)):
        marked = global_batches(
            index, steps=2, hr_patch=hr_patch, workers=workers, world=world, on_bad_sample="skip"
        )
        for before, after in zip(clean, marked, strict=True):
            bad = after["ids"] == 7
            assert torch.equal(after["ids"], before["ids"])
            assert torch.equal(after["weight"], (~bad).float())
            assert torch.equal(after["hr"][~bad], before["hr"][~bad])
            assert torch.equal(after["lr"][~bad], before["lr"][~bad])
            assert after["hr"][bad].count_nonzero() == 0
    with train_stream(index, on_bad_sample="skip") as stream:
        pair = next(iter(stream))
        assert [bad.sample_id for bad in pair.bad] == [7]
