"""Which sample comes when: positions of an endless stream in, sample ids out.

A pure function of (number of samples, seed, position), so it is the same for any number of ranks and workers,
costs the same at any position, and needs no memory that grows with the set. docs/order.md states it so that another
program can follow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Int64

from srdist.machine.mixing import mix64
from srdist.shards.permutation import SAMPLES, SHARDS, permute, stream_keys

OrderMode = Literal["global", "window"]

MAX_POSITION = (1 << 63) - 1
"""Positions are below it: they are signed numbers of 64 bits."""

_AT_A_TIME = 8192
"""Shards or positions permuted in one go: temporaries that stay in a core's cache."""


class Order(Protocol):
    """What a stream asks: which sample stands at each position of the endless stream."""

    @property
    def epoch_length(self) -> int:
        """Positions of an epoch."""
        ...

    def ids(self, positions: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]: ...

    def shards(self, start: int, stop: int) -> list[int]:
        """The shards that positions `start` to `stop` are read from, in the order in which each is first needed."""
        ...


class GlobalOrder:
    """Every epoch a permutation of all samples: any sample may come at any time."""

    def __init__(self, shard_samples: Sequence[int], *, seed: int) -> None:
        self.shard_samples = np.asarray(shard_samples, np.int64)
        self.num_samples = int(self.shard_samples.sum())
        self.seed = seed

    @property
    def epoch_length(self) -> int:
        return self.num_samples

    def ids(self, positions: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        epochs, places = np.divmod(positions, self.num_samples)
        keys = stream_keys(self.seed, SAMPLES, epochs)
        return permute(places.astype(np.uint64), size=self.num_samples, keys=keys).astype(np.int64)

    def shards(self, start: int, stop: int) -> list[int]:
        return _first_uses(self, self.shard_samples, start, stop)


class WindowOrder:
    """Every epoch the shards in a permuted order, `window` at a time; the samples of a window permuted.

    For sets larger than memory or disk: near in time means near in place. Memory grows with the number of
    shards (about 50 bytes a shard), not of samples.
    """

    def __init__(self, shard_samples: Sequence[int], *, window: int, seed: int) -> None:
        self.shard_samples = np.asarray(shard_samples, np.int64)
        self.num_samples = int(self.shard_samples.sum())
        self.window = window
        self.seed = seed
        self._first_ids = np.cumsum(self.shard_samples) - self.shard_samples
        self._arranged: dict[int, tuple[Int64[np.ndarray, " s"], Int64[np.ndarray, " t"]]] = {}

    @property
    def epoch_length(self) -> int:
        return self.num_samples

    def shards_at(self, position: int) -> Int64[np.ndarray, " k"]:
        """The shards that are read at a position."""
        epoch, place = divmod(position, self.num_samples)
        shards, starts = self._epoch(epoch)
        window = (int(np.searchsorted(starts, place, side="right")) - 1) // self.window
        return shards[window * self.window : (window + 1) * self.window]

    def ids(self, positions: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        epochs, places = np.divmod(positions, self.num_samples)
        result = np.empty(len(positions), np.int64)
        for epoch in np.unique(epochs):
            of_epoch = np.flatnonzero(epochs == epoch)
            result[of_epoch] = self._ids_of_epoch(int(epoch), places[of_epoch])
        return result

    def shards(self, start: int, stop: int) -> list[int]:
        return _first_uses(self, self.shard_samples, start, stop)

    def _ids_of_epoch(self, epoch: int, places: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        shards, starts = self._epoch(epoch)
        windows = (np.searchsorted(starts, places, side="right") - 1) // self.window
        result = np.empty(len(places), np.int64)
        for window in np.unique(windows):
            inside = np.flatnonzero(windows == window)
            first = int(starts[window * self.window])
            last = int(starts[min((int(window) + 1) * self.window, len(shards))])
            key = stream_keys(self.seed, SAMPLES, np.array([epoch]))
            offsets = (places[inside] - first).astype(np.uint64)
            shuffled = permute(offsets, size=last - first, keys=mix64(key ^ np.uint64(window)))
            place = shuffled.astype(np.int64) + first
            at = np.searchsorted(starts, place, side="right") - 1
            result[inside] = self._first_ids[shards[at]] + place - starts[at]
        return result

    def _epoch(self, epoch: int) -> tuple[Int64[np.ndarray, " s"], Int64[np.ndarray, " t"]]:
        if epoch not in self._arranged:
            if len(self._arranged) == 2:  # a batch lies in two epochs at most, but for sets smaller than it
                self._arranged.clear()
            self._arranged[epoch] = self._arrange(epoch)
        return self._arranged[epoch]

    def _arrange(self, epoch: int) -> tuple[Int64[np.ndarray, " s"], Int64[np.ndarray, " t"]]:
        """The shards in this epoch's order, and the position where each begins (and, last, where the epoch ends)."""
        num_shards = len(self.shard_samples)
        keys = stream_keys(self.seed, SHARDS, np.array([epoch]))
        shards = np.empty(num_shards, np.int64)
        for first in range(0, num_shards, _AT_A_TIME):
            some = np.arange(first, min(first + _AT_A_TIME, num_shards), dtype=np.uint64)
            shards[first : first + _AT_A_TIME] = permute(some, size=num_shards, keys=keys)
        starts = np.zeros(num_shards + 1, np.int64)
        np.cumsum(self.shard_samples[shards], out=starts[1:])
        return shards, starts


@dataclass(frozen=True, slots=True)
class PatchOrder:
    """Another order in which each sample stands at `patches` positions in a row instead of one: its patches."""

    images: Order
    patches: int

    @property
    def epoch_length(self) -> int:
        return self.images.epoch_length * self.patches

    def ids(self, positions: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        return self.images.ids(positions // self.patches)

    def shards(self, start: int, stop: int) -> list[int]:
        return self.images.shards(start // self.patches, -(-stop // self.patches)) if start < stop else []


def _first_uses(order: Order, shard_samples: Int64[np.ndarray, " s"], start: int, stop: int) -> list[int]:
    ends = np.cumsum(shard_samples)
    used: dict[int, None] = {}
    for first in range(start, stop, _AT_A_TIME):
        if len(used) == len(ends):
            break
        ids = order.ids(np.arange(first, min(first + _AT_A_TIME, stop)))
        used |= dict.fromkeys(np.searchsorted(ends, ids, side="right").tolist())
    return list(used)


def make_order(
    mode: OrderMode,
    *,
    shard_samples: Sequence[int],
    window_shards: int,
    seed: int,
    patches_per_image: int = 1,
) -> Order:
    """The order of a set whose shards hold `shard_samples` samples each, each at `patches_per_image` positions in a row."""
    order: Order
    match mode:
        case "global":
            order = GlobalOrder(shard_samples, seed=seed)
        case "window":
            order = WindowOrder(shard_samples, window=window_shards, seed=seed)
    return order if patches_per_image == 1 else PatchOrder(order, patches_per_image)
