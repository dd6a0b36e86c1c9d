"""Sample ids in, one slot of finished uint8 pixels out: the work of a worker process.

A slot is plain memory (of a shared ring, or of this process); its layout is fixed for a stream, so that worker
and consumer need to tell each other nothing but the slot's number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from srdist.degradations.degradation import Degradation
from srdist.degradations.packed import PackedLR
from srdist.shards.reader import BadSample, BadSampleError, Member, ShardIndex, read_into
from srdist.stream.cuts import Cuts
from srdist.stream.order import Order
from srdist.stream.patches import named_keys, patch_keys, turned
from srdist.stream.share import Share

_ALIGN = 64
_CACHED_BYTES = 2 << 20
"""HR pixels that are degraded at a time: they are still in the core's cache from decoding (docs/log.md)."""


_NO_IMAGE = np.empty((0, 0, 3), np.uint8)


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
class Filler:
    """Makes a batch of images: the one way from samples to pixels.

    `on_bad_sample` skip: the places of a damaged sample are zeros of weight 0, and the sample is reported.
    """

    index: ShardIndex
    degradation: Degradation | PackedLR
    on_bad_sample: Literal["fail", "skip"]

    def fill(self, slot: Slot, cuts: Cuts) -> dict[int, BadSample]:
        """Read, decode, cut, degrade and turn the samples whose ids stand in the slot; what is wrong, by place.

        A sample that stands in several places in a row is read and decoded once.
        """
        bad: dict[int, BadSample] = {}
        ids, sizes = slot.ids.tolist(), self.index.sizes(slot.ids).tolist()
        starts, ways = cuts.starts.tolist(), cuts.ways.tolist()
        scale = self.degradation.scale
        opened, image, lr_image, problem = -1, _NO_IMAGE, _NO_IMAGE, None
        for places in cuts.alike(most_bytes=_CACHED_BYTES):
            height, width = cuts.extents[places[0]].tolist()
            lr_windows = np.empty((len(places), height // scale, width // scale, 3), np.uint8)
            if cuts.whole:  # they are of one size, so these are places in a row
                hr_windows = slot.hr[places[0] : places[-1] + 1]
            else:
                hr_windows = np.empty((len(places), height, width, 3), np.uint8)
            for window, lr_window, place in zip(hr_windows, lr_windows, places, strict=True):
                (top, left), way = starts[place], ways[place] if cuts.whole else 0
                if ids[place] != opened:
                    direct = sizes[place] == [height, width] and not way
                    image = window if direct else np.empty((*sizes[place], 3), np.uint8)
                    opened, problem = ids[place], self._read(ids[place], image)
                    if problem is None and isinstance(self.degradation, PackedLR):
                        lr_image = np.empty((sizes[place][0] // scale, sizes[place][1] // scale, 3), np.uint8)
                        problem = self._read(ids[place], lr_image, member="lr")
                slot.weight[place] = problem is None
                if problem is not None:
                    bad[place] = problem
                    window[...] = 0
                elif image is not window:
                    window[...] = turned(image[top : top + height, left : left + width], way)
                if problem is None and isinstance(self.degradation, PackedLR):
                    below, right = (top + height) // scale, (left + width) // scale
                    lr_window[...] = turned(lr_image[top // scale : below, left // scale : right], way)
            if not isinstance(self.degradation, PackedLR):
                lr_windows = self.degradation(hr_windows, cuts.keys[places])
            if cuts.whole:
                slot.lr[places[0] : places[-1] + 1] = lr_windows
            else:
                self._keep(hr_windows, lr_windows, slot, cuts, places)
        for place in bad:
            slot.lr[place] = 0
        return bad

    def _read(
        self, sample_id: int, image: UInt8[np.ndarray, "h w 3"], *, member: Member = "hr"
    ) -> BadSample | None:
        """Read and decode one image of a sample; what is wrong with it, where that may be."""
        problem = read_into(self.index, sample_id, image, member=member)
        if problem is not None and self.on_bad_sample == "fail":
            raise BadSampleError(problem)
        return problem

    def _keep(
        self,
        hr_windows: UInt8[np.ndarray, "m H W 3"],
        lr_windows: UInt8[np.ndarray, "m h w 3"],
        slot: Slot,
        cuts: Cuts,
        places: list[int],
    ) -> None:
        """Put the patches of some windows into their places, turned."""
        scale, (height, width) = self.degradation.scale, slot.hr.shape[1:3]
        small_height, small_width = slot.lr.shape[1:3]
        insets, ways = cuts.insets[places].tolist(), cuts.ways[places].tolist()
        for i, place in enumerate(places):
            (top, left), way = insets[i], ways[i]
            slot.hr[place] = turned(hr_windows[i, top : top + height, left : left + width], way)
            top, left = top // scale, left // scale
            slot.lr[place] = turned(lr_windows[i, top : top + small_height, left : left + small_width], way)


@dataclass(frozen=True, slots=True)
class TrainBatches:
    """One rank's micro-batches of the endless stream, numbered from its position 0."""

    filler: Filler
    order: Order
    seed: int
    flips: bool
    hr_patch: int | None
    """Side of the patches; None: whole images."""
    patches_per_image: int
    global_batch: int
    rank_batch: int
    share: Share
    height: int
    width: int

    def shape(self, number: int) -> Shape:  # noqa: ARG002 (all are alike)
        return Shape(self.rank_batch, self.height, self.width, self.filler.degradation.scale)

    def positions(self, number: int) -> Int64[np.ndarray, " n"]:
        """Positions in the endless stream of micro-batch `number`."""
        micro = self.global_batch // (self.rank_batch * self.share.world)
        step, part = divmod(number, micro)
        first = step * self.global_batch + (self.share.rank * micro + part) * self.rank_batch
        return np.arange(first, first + self.rank_batch)

    def make(self, number: int, slot: Slot) -> tuple[BadSample, ...]:
        slot.positions[...] = self.positions(number)
        slot.ids[...] = self.order.ids(slot.positions)
        bad = self.filler.fill(slot, self._cuts(slot))
        # A damaged sample is told of with its first patch alone: once an epoch, whoever has its other ones.
        return tuple(
            bad[place] for place in sorted(bad) if not slot.positions[place] % self.patches_per_image
        )

    def _cuts(self, slot: Slot) -> Cuts:
        index, degradation = self.filler.index, self.filler.degradation
        epochs, patches = slot.positions // self.order.epoch_length, slot.positions % self.patches_per_image
        keys = patch_keys(self.seed, epochs, slot.ids, patches)
        sizes, scale = index.sizes(slot.ids), degradation.scale
        if self.hr_patch is None:
            return Cuts.frames(sizes, keys, scale=scale, flips=self.flips)
        return Cuts.patches(
            sizes, keys, hr_patch=self.hr_patch, scale=scale, margin=degradation.margin, flips=self.flips
        )


@dataclass(frozen=True, slots=True)
class EvalBatches:
    """Some samples in batches of one size each; positions are the ids."""

    filler: Filler
    batches: tuple[tuple[tuple[int, int], Int64[np.ndarray, " _"]], ...]

    def shape(self, number: int) -> Shape:
        (height, width), ids = self.batches[number]
        return Shape(len(ids), height, width, self.filler.degradation.scale)

    def make(self, number: int, slot: Slot) -> tuple[BadSample, ...]:
        slot.ids[...] = slot.positions[...] = self.batches[number][1]
        index = self.filler.index
        # By name, so that the LR of an image is the same in every run, set and folder.
        keys = named_keys([index.key(sample_id) for sample_id in slot.ids.tolist()])
        sizes = index.sizes(slot.ids)
        cuts = Cuts.frames(sizes, keys, scale=self.filler.degradation.scale, flips=False)
        bad = self.filler.fill(slot, cuts)
        return tuple(bad[place] for place in sorted(bad))
