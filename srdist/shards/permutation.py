"""The arithmetic of order: keys for each use of a seed, and a permutation evaluated place by place.

All of it is our own, on unsigned 64-bit integers: the streams of NumPy's generators may change between its versions,
these cannot. docs/order.md states it so that another program can follow it.
"""

from __future__ import annotations

from math import isqrt

import numpy as np
from jaxtyping import Int64, UInt64

from srdist.machine.mixing import mix64

HALF_ROUNDS = 8
"""Half rounds of the Feistel network: measured to leave no trace of the input's order (tests/stream/test_order.py)."""

# What a key is for: two uses of one seed must not share their random numbers.
SAMPLES, SHARDS, PATCHES, PACKING, DRAWS = 1, 2, 3, 4, 5


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
