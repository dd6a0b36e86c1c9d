"""Index and order in, batches of (lr, hr) pixels out: what training and evaluation read.

`TrainStream` is endless and exact: any number of ranks and workers sees the same global batches. Nothing here
asks which rank this is; rank and world come as numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from srdist.degradations.config import PairsConfig
from srdist.degradations.degradation import Degradation
from srdist.degradations.packed import PackedLR
from srdist.degradations.section import DegradationSection
from srdist.machine.errors import UserError
from srdist.machine.waiting import signalled
from srdist.shards.reader import BadSample, ShardIndex
from srdist.stream.batch import EvalBatches, Filler, Slot, TrainBatches
from srdist.stream.config import DataConfig
from srdist.stream.order import make_order
from srdist.stream.prefetch import Prefetcher, refuse_small_cache, wanted_here
from srdist.stream.ring import Ring
from srdist.stream.share import Share


@dataclass(frozen=True, slots=True)
class Pair:
    """A micro-batch. Its values hold until the next Pair is asked for: copy or move them at once.

    The images are views of NHWC memory, so of channels_last strides.
    """

    lr: UInt8[Tensor, "n 3 h w"]
    hr: UInt8[Tensor, "n 3 H W"]
    weight: Float32[Tensor, " n"]
    """0 for a damaged sample that was skipped (its pixels are 0), else 1."""
    ids: Int64[Tensor, " n"]
    """Sample ids, 0 to len(index) - 1."""
    positions: Int64[Tensor, " n"]
    """Positions in the endless stream: the epoch is position // (len(index) * data.patches_per_image)."""
    bad: tuple[BadSample, ...]


class TrainStream:
    """One rank's endless micro-batches, from position 0 or from where `begin_at` says."""

    def __init__(
        self,
        index: ShardIndex,
        data: DataConfig,
        share: Share,
        *,
        scale: int,
        seed: int,
        global_batch: int,
        rank_batch: int,
        should_stop: Callable[[], bool] = signalled,
        prefetch: bool = True,
    ) -> None:
        """Start the workers, which make whatever is asked for: where the stream begins may be settled later.

        Args:
            prefetch: whether the shards of a remote set are fetched ahead from here: one rank of a machine does so.
            rank_batch: samples of one Pair; global_batch // (rank_batch * world) Pairs are one step of this rank.
            should_stop: asked while a Pair is waited for; StopRequested is raised where it says yes.

        Raises:
            UserError: the batch, the patch or the images do not fit each other; the message says what would.
        """
        check_batch(global_batch, rank_batch=rank_batch, world=share.world)
        height, width = check_set(index, data, scale=scale, global_batch=global_batch)
        order = make_order(
            data.order,
            shard_samples=index.shard_samples,
            window_shards=data.window_shards,
            seed=seed,
            patches_per_image=data.patches_per_image,
        )
        batches = TrainBatches(
            Filler(index, what_makes_lr(index, data.how_degraded, scale=scale), data.on_bad_sample),
            order,
            seed=seed,
            flips=data.flips,
            hr_patch=data.hr_patch,
            patches_per_image=data.patches_per_image,
            global_batch=global_batch,
            rank_batch=rank_batch,
            share=share,
            height=height,
            width=width,
        )
        self._prefetcher = Prefetcher(index, order) if prefetch and wanted_here(index) else None
        self._ring = Ring(
            batches,
            slot_bytes=batches.shape(0).slot_bytes(),
            workers=data.workers,
            who=f"rank {share.rank}",
            should_stop=should_stop,
        )
        self._global_batch, self._parts = global_batch, global_batch // (rank_batch * share.world)
        self._pairs: Iterator[Pair] | None = None

    def begin_at(self, position: int) -> None:
        """Let the first Pair be that of this position, a multiple of the global batch: the patches seen before."""
        step, within = divmod(position, self._global_batch)
        assert not within
        if self._prefetcher is not None:
            self._prefetcher.at(position)
        self._pairs = _told_of(
            (_pair(slot, bad) for slot, bad in self._ring.take(step * self._parts)),
            self._prefetcher,
            start=position,
            global_batch=self._global_batch,
        )

    def __iter__(self) -> Iterator[Pair]:
        """The one iterator of this stream: micro-batches without end."""
        if self._pairs is None:
            self.begin_at(0)
        assert self._pairs is not None
        return self._pairs

    @property
    def memory(self) -> UInt8[Tensor, " bytes"]:
        """Of the ring: what every Pair's values are views of."""
        return torch.from_numpy(self._ring.memory)

    def close(self) -> None:
        """Stop the workers and the prefetcher."""
        self._ring.close()
        if self._prefetcher is not None:
            self._prefetcher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class EvalStream:
    """Every sample (of the first `limit` ids) exactly once over all ranks, whole, in Pairs of one image size; as often as asked for.

    Rank r has every world-th id from r on, at most `batch` a Pair; a rank may have none. Positions are the ids. What
    is random in an image's LR comes from the image's key, and never changes.
    """

    def __init__(
        self,
        index: ShardIndex,
        degradation: Degradation | PackedLR,
        share: Share,
        *,
        batch: int,
        workers: int,
        limit: int | None = None,
        on_bad_sample: Literal["fail", "skip"] = "fail",
        should_stop: Callable[[], bool] = signalled,
    ) -> None:
        """Start the workers, which stay until `close`.

        Raises:
            UserError: an image is smaller than the scale.
        """
        count = len(index) if limit is None else min(limit, len(index))
        ids = np.arange(share.rank, count, share.world)
        by_size = _batches_of_one_size(index, ids, scale=degradation.scale, batch=batch)
        batches = EvalBatches(Filler(index, degradation, on_bad_sample), by_size)
        self._number = len(batches.batches)
        self._ring = Ring(
            batches,
            slot_bytes=max((batches.shape(each).slot_bytes() for each in range(self._number)), default=1),
            workers=min(workers, self._number),
            who=f"rank {share.rank}",
            should_stop=should_stop,
        )

    def __iter__(self) -> Iterator[Pair]:
        """All of them, once more; one that is not taken to its end is the last.

        Raises:
            BadSampleError: at a damaged sample; with skip it has weight 0 in its Pair, and is one of its `bad`.
            StopRequested: `should_stop` said yes while a Pair was waited for.
        """
        for slot, bad in self._ring.take(0, self._number):
            yield _pair(slot, bad)
        self._ring.give_back()

    @property
    def memory(self) -> UInt8[Tensor, " bytes"]:
        """Of the ring: what every Pair's values are views of."""
        return torch.from_numpy(self._ring.memory)

    def close(self) -> None:
        """Stop the workers."""
        self._ring.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_batch(global_batch: int, *, rank_batch: int, world: int) -> None:
    """Refuse a global batch that is no whole number of micro-batches on each rank, and name the nearest that is."""
    unit = rank_batch * world
    if global_batch % unit:
        below, above = global_batch // unit * unit, -(-global_batch // unit) * unit
        fits = f"{above}" if below == 0 else f"{below} or {above}"
        raise UserError(
            f"train.global_batch {global_batch} is not a multiple of rank_batch x ranks = {rank_batch} x {world}: "
            f"the nearest that fits is {fits}"
        )


def what_makes_lr(index: ShardIndex, section: DegradationSection, *, scale: int) -> Degradation | PackedLR:
    """What LR of a set's samples comes from.

    Raises:
        UserError: the set has pairs and `section` makes LR from HR, or the other way round, or pairs of another scale.
    """
    held = index.lr_scale
    if not isinstance(section, PairsConfig):
        if held is not None:
            raise UserError(
                f"{index.folder}: a set of pairs, whose LR is there (x{held}), but LR is to be made by {section.name}: "
                "set data.degradation={kind: pairs}, or pack HR alone"
            )
        return section.build(scale=scale)
    if held is None:
        raise UserError(
            f"{index.folder}: LR is to be that of pairs, but the set has HR images alone: "
            "pack it with --lr DIR, or choose another degradation"
        )
    if held != scale:
        raise UserError(f"{index.folder}: its pairs are of scale {held}, model.scale (or --scale) is {scale}")
    return PackedLR(scale)


def check_set(index: ShardIndex, data: DataConfig, *, scale: int, global_batch: int) -> tuple[int, int]:
    """Refuse a set without the LR wanted, with too few images or too small ones; return their HR (height, width)."""
    what_makes_lr(index, data.how_degraded, scale=scale)
    _check_epoch(index, data.patches_per_image, global_batch=global_batch)
    refuse_small_cache(index, data, global_batch=global_batch)
    return _frame(index, data.hr_patch, scale)


def _check_epoch(index: ShardIndex, patches: int, *, global_batch: int) -> None:
    """Refuse a batch that holds more than an epoch."""
    length = len(index) * patches
    if length < global_batch:
        of_patches = f" of {patches} patches" if patches > 1 else ""
        raise UserError(
            f"{index.folder}: split {index.split} has {len(index)} samples{of_patches}, less than train.global_batch "
            f"{global_batch}: set it to at most {length}, or pack at least {-(-global_batch // patches)} images"
        )


def _frame(index: ShardIndex, hr_patch: int | None, scale: int) -> tuple[int, int]:
    low_h, low_w = index.smallest
    if hr_patch is not None:
        if hr_patch % scale:
            raise UserError(f"data.hr_patch {hr_patch} is not a multiple of model.scale {scale}")
        if hr_patch > min(low_h, low_w):
            raise UserError(
                f"data.hr_patch {hr_patch} is larger than the smallest image of {index.folder} "
                f"({low_h}x{low_w}): set it to at most {min(low_h, low_w) // scale * scale}"
            )
        return hr_patch, hr_patch
    if index.image_size is None:
        raise UserError(
            f"{index.folder}: the images of split {index.split} are not of one size "
            f"(heights {index.entry.heights}, widths {index.entry.widths}): "
            f"set data.hr_patch, at most {min(low_h, low_w) // scale * scale}"
        )
    if min(low_h, low_w) < scale:
        raise UserError(f"{index.folder}: images of {low_h}x{low_w} are smaller than model.scale {scale}")
    return low_h - low_h % scale, low_w - low_w % scale


def _batches_of_one_size(
    index: ShardIndex, ids: np.ndarray, *, scale: int, batch: int
) -> tuple[tuple[tuple[int, int], np.ndarray], ...]:
    sizes = index.sizes(ids)
    cropped = sizes - sizes % scale
    if len(ids) and cropped.min() == 0:
        small = int(np.argmin(cropped.min(axis=1)))
        raise UserError(
            f"{index.folder}: {index.key(int(ids[small]))} of {sizes[small, 0]}x{sizes[small, 1]} is smaller "
            f"than the scale {scale}"
        )
    batches = []
    for height, width in sorted({(int(h), int(w)) for h, w in cropped}):
        of_size = ids[(cropped == (height, width)).all(axis=1)]
        batches += [
            ((height, width), of_size[first : first + batch]) for first in range(0, len(of_size), batch)
        ]
    return tuple(batches)


def _told_of(
    pairs: Iterator[Pair], prefetcher: Prefetcher | None, *, start: int, global_batch: int
) -> Iterator[Pair]:
    """The pairs, of which a prefetcher is told how far they are."""
    for pair in pairs:
        if prefetcher is not None:
            steps = (int(pair.positions[0]) - start) // global_batch
            prefetcher.at(start + max(steps - 1, 0) * global_batch)  # other ranks may be a step behind
        yield pair


def _pair(slot: Slot, bad: tuple[BadSample, ...]) -> Pair:
    return Pair(
        torch.from_numpy(slot.lr).permute(0, 3, 1, 2),
        torch.from_numpy(slot.hr).permute(0, 3, 1, 2),
        torch.from_numpy(slot.weight),
        torch.from_numpy(slot.ids),
        torch.from_numpy(slot.positions),
        bad,
    )
