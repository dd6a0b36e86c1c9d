"""Sample ids in, one slot of finished uint8 pixels out: the work of a worker process.

A slot is plain memory (of a shared ring, or of this process); its layout is fixed for a stream, so that worker
and consumer need to tell each other nothing but the slot's number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from srdist.degradations.kernel import degrade, margin
from srdist.images.kernels import Kernel
from srdist.shards.reader import BadSample, BadSampleError, ShardIndex, read_into
from srdist.stream.order import Order
from srdist.stream.patches import corners, sample_keys, turned, turns, windows

_ALIGN = 64
_CACHED_BYTES = 2 << 20
"""HR pixels that are reduced at a time: they are still in the core's cache from decoding (docs/log.md)."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Views of a slot's memory: the arrays of one Pair."""

    hr: UInt8[np.ndarray, "n H W 3"]
    lr: UInt8[np.ndarray, "n h w 3"]
    weight: Float32[np.ndarray, " n"]
    ids: Int64[np.ndarray, " n"]
    positions: Int64[np.ndarray, " n"]


@dataclass(frozen=True, slots=True)
class Shape:
    """Of one Pair: samples, HR side lengths and the scale."""

    count: int
    height: int
    width: int
    scale: int

    def slot_bytes(self) -> int:
        """Memory a slot needs."""
        return sum(-(-size // _ALIGN) * _ALIGN for size in self._sizes())

    def views(self, memory: UInt8[np.ndarray, " bytes"]) -> Slot:
        """The arrays of a slot."""
        parts, start = [], 0
        for size in self._sizes():
            parts.append(memory[start : start + size])
            start += -(-size // _ALIGN) * _ALIGN
        hr, lr, weight, ids, positions = parts
        n, s = self.count, self.scale
        return Slot(
            hr.reshape(n, self.height, self.width, 3),
            lr.reshape(n, self.height // s, self.width // s, 3),
            weight.view(np.float32),
            ids.view(np.int64),
            positions.view(np.int64),
        )

    def _sizes(self) -> tuple[int, ...]:
        pixels = self.count * self.height * self.width * 3
        return pixels, pixels // self.scale**2, 4 * self.count, 8 * self.count, 8 * self.count


class Batches(Protocol):
    """What a ring works through: numbered batches, each of which knows its shape and how to be made."""

    def shape(self, number: int) -> Shape: ...

    def make(self, number: int, slot: Slot) -> tuple[BadSample, ...]: ...


@dataclass(frozen=True, slots=True)
class Frames:
    """Whole images, cropped at the right and bottom to multiples of the scale, and their LR.

    `on_bad_sample` skip: a damaged sample's slot is zeros of weight 0, and the sample is reported.
    """

    index: ShardIndex
    scale: int
    kernel: Kernel
    on_bad_sample: Literal["fail", "skip"]

    def fill(self, slot: Slot, ways: Int64[np.ndarray, " n"] | None) -> tuple[BadSample, ...]:
        """Read, decode, turn and reduce the samples whose ids stand in the slot."""
        bad = []
        height, width = slot.hr.shape[1:3]
        at_a_time = max(1, _CACHED_BYTES // (height * width * 3))
        sizes = self.index.sizes(slot.ids).tolist()
        for place, sample_id in enumerate(slot.ids.tolist()):
            out = slot.hr[place]
            way = 0 if ways is None else int(ways[place])
            direct = sizes[place] == [height, width] and not way
            target = out if direct else np.empty((*sizes[place], 3), np.uint8)
            problem = read_into(self.index, sample_id, target)
            if problem is not None:
                bad.append(_skipped(problem, self.on_bad_sample))
                out[...] = 0
            elif not direct:
                out[...] = turned(target[:height, :width], way)
            slot.weight[place] = problem is None
            if (place + 1) % at_a_time == 0 or place + 1 == len(sizes):
                some = slice(place // at_a_time * at_a_time, place + 1)
                slot.lr[some] = degrade(slot.hr[some], scale=self.scale, kernel=self.kernel)
        return tuple(bad)


@dataclass(frozen=True, slots=True)
class Patches:
    """Square patches, one an image, and the same part of each image's LR."""

    index: ShardIndex
    scale: int
    kernel: Kernel
    on_bad_sample: Literal["fail", "skip"]
    hr_patch: int

    def fill(
        self, slot: Slot, keys: np.ndarray, ways: Int64[np.ndarray, " n"] | None
    ) -> tuple[BadSample, ...]:
        """Read, decode, crop, reduce and turn the samples whose ids stand in the slot."""
        bad = []
        side, scale = self.hr_patch, self.scale
        sizes = self.index.sizes(slot.ids)
        tops = corners(keys, sizes, hr_patch=side, scale=scale)
        border = margin(self.kernel, scale)
        starts, extents = windows(tops, sizes, hr_patch=side, scale=scale, margin=border)
        hr_windows: list[np.ndarray] = []
        for place, sample_id in enumerate(slot.ids.tolist()):
            image = np.empty((*sizes[place], 3), np.uint8)
            problem = read_into(self.index, sample_id, image)
            if problem is not None:
                bad.append(_skipped(problem, self.on_bad_sample))
                image[...] = 0
            (top, left), (height, width) = starts[place], extents[place]
            hr_windows.append(image[top : top + height, left : left + width])
            slot.weight[place] = problem is None
        lr_windows = self._reduce(hr_windows)
        for place, (top, left) in enumerate((tops - starts).tolist()):
            way = 0 if ways is None else int(ways[place])
            hr = hr_windows[place][top : top + side, left : left + side]
            lr = lr_windows[place][top // scale :, left // scale :][: side // scale, : side // scale]
            slot.hr[place] = turned(hr, way)
            slot.lr[place] = turned(lr, way)
        return tuple(bad)

    def _reduce(self, hr_windows: list[np.ndarray]) -> list[np.ndarray]:
        lr_windows: list[np.ndarray] = [hr_windows[0]] * len(hr_windows)
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for place, window in enumerate(hr_windows):
            by_shape.setdefault(window.shape, []).append(place)
        for places in by_shape.values():
            batch = np.stack([hr_windows[place] for place in places])
            for place, lr in zip(places, degrade(batch, scale=self.scale, kernel=self.kernel), strict=True):
                lr_windows[place] = lr
        return lr_windows


@dataclass(frozen=True, slots=True)
class TrainBatches:
    """One rank's micro-batches of the endless stream, numbered from the start of the stream."""

    maker: Frames | Patches
    order: Order
    num_samples: int
    seed: int
    flips: bool
    global_batch: int
    rank_batch: int
    rank: int
    world: int
    start: int
    height: int
    width: int

    def shape(self, number: int) -> Shape:  # noqa: ARG002 (all are alike)
        return Shape(self.rank_batch, self.height, self.width, self.maker.scale)

    def positions(self, number: int) -> Int64[np.ndarray, " n"]:
        """Positions in the endless stream of micro-batch `number`, counted from `start`."""
        micro = self.global_batch // (self.rank_batch * self.world)
        step, part = divmod(number, micro)
        first = self.start + step * self.global_batch + (self.rank * micro + part) * self.rank_batch
        return np.arange(first, first + self.rank_batch)

    def make(self, number: int, slot: Slot) -> tuple[BadSample, ...]:
        slot.positions[...] = self.positions(number)
        slot.ids[...] = self.order.ids(slot.positions)
        keys = sample_keys(self.seed, slot.positions // self.num_samples, slot.ids)
        if isinstance(self.maker, Patches):
            return self.maker.fill(slot, keys, turns(keys, square=True) if self.flips else None)
        return self.maker.fill(slot, turns(keys, square=False) if self.flips else None)


@dataclass(frozen=True, slots=True)
class EvalBatches:
    """Some samples in batches of one size each; positions are the ids."""

    maker: Frames
    batches: tuple[tuple[tuple[int, int], Int64[np.ndarray, " n"]], ...]

    def shape(self, number: int) -> Shape:
        (height, width), ids = self.batches[number]
        return Shape(len(ids), height, width, self.maker.scale)

    def make(self, number: int, slot: Slot) -> tuple[BadSample, ...]:
        slot.ids[...] = slot.positions[...] = self.batches[number][1]
        return self.maker.fill(slot, None)


def _skipped(bad: BadSample, on_bad_sample: Literal["fail", "skip"]) -> BadSample:
    if on_bad_sample == "fail":
        raise BadSampleError(bad)
    return bad
