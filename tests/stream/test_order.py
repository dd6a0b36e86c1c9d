"""The order: a permutation of every size, the same for ever, that leaves no trace of the order it began with."""

from __future__ import annotations

import tracemalloc
from math import isqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srdist.stream.order import GlobalOrder, Order, OrderMode, WindowOrder, make_order

MASK = (1 << 64) - 1


def _mix64(value: int) -> int:
    """SplitMix64 as its authors publish it, in Python's own integers."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def _id_at(position: int, *, size: int, seed: int) -> int:
    """The sample at a position, written after docs/order.md and not after the code."""
    epoch, place = divmod(position, size)
    key = _mix64(_mix64((_mix64(seed) + 1) & MASK) ^ epoch)
    a = isqrt(size - 1) + 1
    b = -(-size // a)
    while True:
        left, right = divmod(place, b)
        for half_round in range(0, 8, 2):
            left = (left + _mix64(right ^ _mix64((key + half_round) & MASK)) % a) % a
            right = (right + _mix64(left ^ _mix64((key + half_round + 1) & MASK)) % b) % b
        place = left * b + right
        if place < size:
            return place


def _epoch(order: Order, size: int, epoch: int) -> np.ndarray:
    return order.ids(np.arange(epoch * size, (epoch + 1) * size))


@pytest.mark.parametrize("size", [*range(1, 70), 1000, 1023, 1024, 1025, 10_007])
def test_every_epoch_of_every_size_is_a_permutation(size: int) -> None:
    shards = [size // 7 + (shard < size % 7) for shard in range(7)] if size >= 7 else [size]
    for mode in ("global", "window"):
        order = make_order(mode, shard_samples=shards, window_shards=3, seed=size)
        for epoch in (0, 1, 2, 10**6):
            assert sorted(_epoch(order, size, epoch).tolist()) == list(range(size))


@pytest.mark.parametrize("size", [1, 2, 3, 10, 97, 202_599, 10**9])
def test_the_order_is_the_documented_one_in_plain_integer_arithmetic(size: int) -> None:
    order = GlobalOrder([size], seed=2**63 - 1)
    positions = np.array([0, 1, 2, size - 1, size, 5 * size + size // 3, 10**15])
    expected = [_id_at(int(position), size=size, seed=2**63 - 1) for position in positions]
    assert order.ids(positions).tolist() == expected


def test_the_order_never_changes_between_versions() -> None:
    # A change here breaks the resuming of every run there is.
    assert GlobalOrder([10], seed=0).ids(np.arange(20)).tolist() == PINNED_GLOBAL
    window = WindowOrder([3, 3, 2, 2], window=2, seed=0)
    assert window.ids(np.arange(20)).tolist() == PINNED_WINDOW


PINNED_GLOBAL = [4, 2, 5, 3, 8, 7, 1, 0, 6, 9, 6, 9, 5, 7, 8, 4, 0, 3, 1, 2]
PINNED_WINDOW = [2, 6, 0, 7, 1, 9, 5, 8, 3, 4, 6, 4, 5, 3, 7, 1, 2, 8, 9, 0]


def test_positions_may_be_asked_for_in_any_split_and_order() -> None:
    for order in (GlobalOrder([50, 51], seed=3), WindowOrder([30, 30, 31, 10], window=3, seed=3)):
        whole = order.ids(np.arange(500))
        assert np.array_equal(order.ids(np.arange(500)[::-1]), whole[::-1])
        parts = [order.ids(np.arange(first, first + 7)) for first in range(0, 490, 7)]
        assert np.array_equal(np.concatenate(parts), whole[:490])


def test_seeds_and_epochs_give_unrelated_orders() -> None:
    size = 5000
    orders = [_epoch(GlobalOrder([size], seed=seed), size, epoch) for seed in (0, 1) for epoch in (0, 1, 2)]
    for first in range(len(orders)):
        for second in range(first):
            # Two random permutations agree in 1 place on average; 12 has a chance of about 1e-9.
            assert np.count_nonzero(orders[first] == orders[second]) < 12


@pytest.mark.parametrize("size", [64, 300, 4096, 162_770])
def test_where_a_sample_comes_has_nothing_to_do_with_its_number(size: int) -> None:
    """Chi-square of (sixteenth of the epoch, sixteenth of the ids), and of successive differences, over many epochs."""
    epochs = max(8, 40_000 // size)
    table, steps = np.zeros((16, 16)), np.zeros(16)
    order = GlobalOrder([size], seed=7)
    for epoch in range(epochs):
        ids = _epoch(order, size, epoch)
        np.add.at(table, (np.arange(size) * 16 // size, ids * 16 // size), 1)
        differences = np.diff(ids) % size
        np.add.at(steps, differences * 16 // size, 1)
    expected = epochs * size / 256
    chi2 = ((table - expected) ** 2 / expected).sum()
    assert abs(chi2 - 225) < 6 * (2 * 225) ** 0.5
    expected_step = steps.sum() / 16
    # A difference is never 0, so the first bin is a little emptier: allow for it.
    assert ((steps[1:] - expected_step) ** 2 / expected_step).sum() < 60 + epochs * 16 / size


def test_a_window_is_read_to_its_end_before_the_next_one_begins() -> None:
    shards = [11, 10, 10, 11, 10, 10, 10]
    order = WindowOrder(shards, window=3, seed=5)
    shard_of = np.repeat(np.arange(7), shards)
    seen = []
    for epoch in (0, 1):
        read = shard_of[_epoch(order, sum(shards), epoch)].tolist()
        start = 0
        while start < len(read):
            window = order.shards_at(epoch * sum(shards) + start).tolist()
            length = sum(shards[shard] for shard in window)
            assert set(read[start : start + length]) == set(window)
            # mixed, not one shard after the other
            assert len(set(read[start : start + 8])) == len(window) or len(window) == 1
            seen.append(tuple(window))
            start += length
    assert len(seen) == 6
    assert seen[:3] != seen[3:]


@pytest.mark.parametrize("mode", ["global", "window"])
@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 30), (17, 17), (60, 150), (71, 73), (5, 100_000)])
def test_the_shards_ahead_are_those_that_the_positions_read_in_the_order_of_need(
    mode: OrderMode, start: int, stop: int
) -> None:
    shards = [11, 10, 1, 11, 10, 19, 10]
    order = make_order(mode, shard_samples=shards, window_shards=3, seed=5)
    shard_of = np.repeat(np.arange(7), shards)
    expected: list[int] = []
    for position in range(start, min(stop, start + 1000)):
        shard = int(shard_of[order.ids(np.array([position]))[0]])
        if shard not in expected:
            expected.append(shard)
    assert order.shards(start, stop) == expected


@pytest.mark.parametrize("mode", ["global", "window"])
def test_a_thousand_million_samples_need_no_more_memory_than_ten_thousand(mode: str) -> None:
    peaks = {}
    for size, shards in ((10_000, 2), (10**9, 8000)):
        samples = [size // shards] * shards
        tracemalloc.start()
        order = make_order(mode, shard_samples=samples, window_shards=8, seed=1)  # type: ignore[arg-type]
        for position in (0, size // 2, 3 * size - 100, 10**6 * size + 17):
            ids = order.ids(np.arange(position, position + 256))
            assert ids.min() >= 0
            assert ids.max() < size
        peaks[size] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[10**9] - peaks[10_000] < 20e6


SHARDS = st.lists(st.integers(1, 40), min_size=1, max_size=12)


@given(SHARDS, st.integers(0, 2**63), st.integers(1, 5), st.integers(0, 2**31))
def test_whatever_the_shards_the_seed_and_the_window_an_epoch_is_each_sample_once(
    shards: list[int], seed: int, window: int, epoch: int
) -> None:
    count = sum(shards)
    places = np.arange(epoch * count, (epoch + 1) * count)
    for order in (GlobalOrder(shards, seed=seed), WindowOrder(shards, window=window, seed=seed)):
        ids = order.ids(places)
        assert sorted(ids) == list(range(count))
        # In pieces and backwards it is the same: a position does not depend on what was asked before.
        assert [int(order.ids(places[i : i + 1])[0]) for i in range(count - 1, -1, -7)] == list(ids[::-7])
        ends = np.cumsum(shards)
        read = [int(np.searchsorted(ends, one, side="right")) for one in ids]
        assert order.shards(int(places[0]), int(places[-1]) + 1) == list(dict.fromkeys(read))


@given(SHARDS, st.integers(0, 2**63), st.integers(1, 5))
def test_in_a_window_no_sample_comes_of_another_windows_shards(
    shards: list[int], seed: int, window: int
) -> None:
    order = WindowOrder(shards, window=window, seed=seed)
    ends = np.cumsum(shards)
    for place, one in enumerate(order.ids(np.arange(sum(shards)))):
        shard = int(np.searchsorted(ends, one, side="right"))
        assert shard in order.shards_at(place)
        assert len(order.shards_at(place)) <= window
