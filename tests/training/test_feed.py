"""The steps that a training takes: fetched one ahead, in memory of their own, with what the ranks make of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from srdist.machine.errors import WorkError
from srdist.machine.stopping import StopRequested
from srdist.stream.pairs import Pair
from srdist.training.feed import Feed

RING = torch.zeros(16, dtype=torch.uint8)


def pairs_of_one_slot(end: Exception | None = None, *, after: int = 100) -> Iterator[Pair]:
    """Pairs that are all views of the same memory, as those of a ring are in the end."""
    lr, hr = torch.zeros(1, 2, 2, 3, dtype=torch.uint8), torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    ids = torch.zeros(1, dtype=torch.int64)
    for number in range(after):
        for each in (lr, hr, ids):
            each.fill_(number)
        yield Pair(lr.permute(0, 3, 1, 2), hr.permute(0, 3, 1, 2), torch.ones(1), ids, ids, ())
    if end is not None:
        raise end


def feed_of(pairs: Iterator[Pair], stops: list[str] | None = None) -> Feed:
    return Feed(
        pairs,
        memory=RING,
        device=torch.device("cpu"),
        micro_batches=2,
        requested=lambda: stops[0] if stops else None,
    )


def test_a_step_keeps_its_values_and_strides_while_the_next_one_is_fetched() -> None:
    feed = feed_of(pairs_of_one_slot())
    for number in range(3):
        step = feed.next()
        feed.look_ahead()
        assert [int(pair.ids) for pair in step.pairs] == [2 * number, 2 * number + 1]
        for pair in step.pairs:
            assert set(pair.lr.flatten().tolist()) == set(pair.hr.flatten().tolist()) == {int(pair.ids)}
            assert pair.lr.is_contiguous(memory_format=torch.channels_last)


def test_a_stop_is_heard_when_the_step_that_was_agreed_upon_is_done() -> None:
    stops: list[str] = []
    feed = feed_of(pairs_of_one_slot(), stops)
    assert not feed.next().any_stop
    feed.look_ahead()
    stops.append("SIGTERM")  # while the first step is computed
    second = feed.next()
    assert not second.any_stop
    assert len(second.pairs) == 2
    feed.look_ahead()
    third = feed.next()
    assert (third.any_stop, third.stop) == (True, "SIGTERM")


def test_what_ends_the_data_is_told_at_the_step_that_has_none() -> None:
    feed = feed_of(pairs_of_one_slot(WorkError("a.tar is gone"), after=3))
    assert not feed.next().any_failure
    feed.look_ahead()
    second = feed.next()
    assert second.any_failure
    assert str(second.failure) == "a.tar is gone"
    stopped = feed_of(pairs_of_one_slot(StopRequested(), after=1)).next()
    assert (stopped.any_stop, stopped.any_failure) == (True, False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_slot_is_free_as_soon_as_it_is_copied() -> None:
    memory = torch.zeros(1 << 16, dtype=torch.uint8)
    pairs = pairs_of_one_slot()
    with Feed(
        pairs, memory=memory, device=torch.device("cuda", 0), micro_batches=2, requested=lambda: None
    ) as feed:
        for number in range(50):
            step = feed.next()
            feed.ready()
            feed.look_ahead()
            assert [int(pair.hr.float().mean()) for pair in step.pairs] == [2 * number, 2 * number + 1]
