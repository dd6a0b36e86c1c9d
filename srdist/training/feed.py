"""Micro-batches in, whole steps out: fetched, and agreed upon by all ranks, while the step before is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Self

import torch

from srdist.machine import ranks
from srdist.machine.errors import UserError
from srdist.machine.stopping import StopRequested
from srdist.shards.reader import BadSample
from srdist.stream.pairs import Pair
from srdist.training.devicecopies import DeviceCopies


@dataclass(frozen=True, slots=True)
class NextStep:
    """What a rank has for a step, and what all ranks make of it."""

    pairs: tuple[Pair, ...]
    """Of memory of their own, on the device; fewer than the step needs where something came between."""
    bad: tuple[BadSample, ...]
    failure: Exception | None
    stop: str | None
    """Why this rank was asked to stop, if it was."""
    any_stop: bool
    any_failure: bool
    any_bad: bool


class Feed:
    """One rank's steps. `next` and `look_ahead` are collectives, reached by all ranks in one order.

    No step waits for the network: while one is computed, what the ranks have to say of the next one is on its way.

    Args:
        memory: of the stream's ring, which the values of `pairs` are views of.
        micro_batches: Pairs of a step.
        requested: why this rank is asked to stop, if it is.
        failed: what has gone wrong beside the data, if something has, which ends the run too.
        waiting: entered while a Pair is waited for.
    """

    def __init__(
        self,
        pairs: Iterator[Pair],
        *,
        memory: torch.Tensor,
        device: torch.device,
        micro_batches: int,
        requested: Callable[[], str | None],
        failed: Callable[[], Exception | None] = lambda: None,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._pairs, self._micro_batches = pairs, micro_batches
        self._requested, self._failed, self._waiting = requested, failed, waiting
        self._copies = DeviceCopies(memory, device) if device.type == "cuda" else None
        self._ahead: Callable[[], NextStep] | None = None

    def next(self) -> NextStep:
        """The step that comes now: fetched here where nobody has looked ahead."""
        if self._ahead is None:
            self.look_ahead()
        assert self._ahead is not None
        step, self._ahead = self._ahead(), None
        return step

    def look_ahead(self) -> None:
        """Fetch the step after the one that `next` gave, and send word of it to the other ranks, without waiting for theirs."""
        if self._copies is not None:
            self._copies.bound()
        pairs, failure = self._fetch()
        failure = failure or self._failed()
        bad = tuple(sample for pair in pairs for sample in pair.bad)
        stop = self._requested()
        stops = stop is not None or (failure is None and len(pairs) < self._micro_batches)
        answer = ranks.any_rank_soon(stops, failure is not None, bool(bad))
        self._ahead = lambda: NextStep(pairs, bad, failure, stop, *answer())

    def ready(self) -> None:
        """Call before the first Pair of a step is used."""
        if self._copies is not None:
            self._copies.ready()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Take the other ranks' word on a step that will not come, and leave the ring's memory alone."""
        if kind is None and self._ahead is not None:
            self._ahead()
        if self._copies is not None:
            self._copies.close()

    def _fetch(self) -> tuple[tuple[Pair, ...], Exception | None]:
        pairs: list[Pair] = []
        try:
            for _ in range(self._micro_batches):
                if self._copies is not None:
                    self._copies.wait()  # the ring is about to use the last Pair's slot again
                with self._waiting():
                    pair = next(self._pairs)
                pairs.append(_copied(pair) if self._copies is None else self._copies.of(pair))
        except StopRequested:
            pass
        except (UserError, OSError) as error:
            return tuple(pairs), error
        return tuple(pairs), None


def _copied(pair: Pair) -> Pair:
    return Pair(
        pair.lr.clone(),
        pair.hr.clone(),
        pair.weight.clone(),
        pair.ids.clone(),
        pair.positions.clone(),
        pair.bad,
    )
