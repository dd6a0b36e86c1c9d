"""Which sample comes when: positions of an endless stream in, sample ids out.

A pure function of (number of samples, seed, position), so it is the same for any number of ranks and workers,
costs the same at any position, and needs no memory that grows with the set. All arithmetic is our own, on
unsigned 64-bit integers: the streams of NumPy's generators may change between its versions, these cannot.
docs/order.md states it so that another program can follow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Int64, UInt64

OrderMode = Literal["global", "window"]

_AT_A_TIME = 8192
"""Shards permuted in one go when an epoch is arranged: temporaries that stay in a core's cache."""

HALF_ROUNDS = 8
"""Half rounds of the Feistel network: measured to leave no trace of the input's order (tests/data/test_order.py)."""

# What a key is for: two uses of one seed must not share their random numbers.
SAMPLES, SHARDS, PATCHES, PACKING = 1, 2, 3, 4

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)


class Order(Protocol):
    """What a stream asks: which sample stands at each position of the endless stream."""

    def ids(self, positions: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]: ...


def mix64(values: UInt64[np.ndarray, "*n"]) -> UInt64[np.ndarray, "*n"]:
    """SplitMix64's output function (Steele et al., 2014): a bijection of 64 bits that scatters its input."""
    mixed = values + _GAMMA
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _M1
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _M2
    return mixed ^ (mixed >> np.uint64(31))


def stream_keys(
    seed: int, use: int, values: Int64[np.ndarray, " n"] | UInt64[np.ndarray, " n"]
) -> UInt64[np.ndarray, " n"]:
    """One 64-bit key for each of `values` (epochs, say): mix64(mix64(mix64(seed) + use) ^ value)."""
    base = mix64(mix64(np.array([seed], np.uint64)) + np.uint64(use))
    return mix64(base ^ values.astype(np.uint64))


def permute(
    values: UInt64[np.ndarray, " n"], *, size: int, keys: UInt64[np.ndarray, " k"]
) -> UInt64[np.ndarray, " n"]:
    """Map each value below `size` to another below `size`: for each key a permutation (Black & Rogaway, 2002).

    There is one key for each value, or one for all.

    A Feistel network on Z_a x Z_b, where a*b is the smallest such product not below `size`; what falls outside
    is sent through again (cycle walking), on average less than once in a thousand for a thousand samples.
    """
    a = isqrt(size - 1) + 1
    b = -(-size // a)
    result = values.copy()
    outside = np.arange(len(values))
    while len(outside):
        their_keys = keys if len(keys) == 1 else keys[outside]
        result[outside] = _feistel(result[outside], a, b, their_keys)
        outside = outside[result[outside] >= size]
    return result


def _feistel(
    values: UInt64[np.ndarray, " n"], a: int, b: int, keys: UInt64[np.ndarray, " k"]
) -> UInt64[np.ndarray, " n"]:
    wide_a, wide_b = np.uint64(a), np.uint64(b)
    left, right = values // wide_b, values % wide_b
    for half_round in range(0, HALF_ROUNDS, 2):
        left += mix64(right ^ mix64(keys + np.uint64(half_round))) % wide_a
        left %= wide_a
        right += mix64(left ^ mix64(keys + np.uint64(half_round + 1))) % wide_b
        right %= wide_b
    return left * wide_b + right


class GlobalOrder:
    """Every epoch a permutation of all samples: any sample may come at any time."""

    def __init__(self, num_samples: int, *, seed: int) -> None:
        self.num_samples = num_samples
        self.seed = seed

    def ids(self, positions: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        epochs, places = np.divmod(positions, self.num_samples)
        keys = stream_keys(self.seed, SAMPLES, epochs)
        return permute(places.astype(np.uint64), size=self.num_samples, keys=keys).astype(np.int64)


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


def make_order(mode: OrderMode, *, shard_samples: Sequence[int], window_shards: int, seed: int) -> Order:
    """The order of a set whose shards hold `shard_samples` samples each."""
    match mode:
        case "global":
            return GlobalOrder(sum(shard_samples), seed=seed)
        case "window":
            return WindowOrder(shard_samples, window=window_shards, seed=seed)
