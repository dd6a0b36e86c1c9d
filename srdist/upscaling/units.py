"""The units of a plan that this process has claimed, and their images until each is settled.

Apart from the pipeline so that one thing is plain: an image that was claimed waits here, is on its way, or is settled,
and a unit is given back when its last image is settled, not before and not after.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from srdist.machine.claims import Worker
from srdist.upscaling.jobstate import Tally
from srdist.upscaling.maker import Begun, Maker


@dataclass(frozen=True, slots=True)
class Assigned:
    """An image of a claimed unit."""

    unit: int
    image: Begun


class Units:
    """Gives out the open images of units that it claims, from a starting point on, round the whole plan."""

    def __init__(self, maker: Maker, only: Sequence[int] | None = None) -> None:
        """Nothing is claimed yet.

        Args:
            only: the units to see to, in this order; None = all of the plan, from the job's share of them on.
        """
        self._maker = maker
        self._tally: Tally = maker.tally
        self._worker: Worker = maker.worker
        self._waiting: deque[Assigned] = deque()
        self._unsettled: dict[int, int] = {}  # claimed units: how many of their images are not settled
        self._order = self._from(maker.job.share) if only is None else tuple(only)
        self._candidates = self._round()

    @property
    def held(self) -> bool:
        """Whether a unit is claimed: some image of it is not settled."""
        return bool(self._unsettled)

    def next(self) -> Assigned | None:
        """An image to make and its unit; None where all that is open has been given out, or is claimed by others."""
        while not self._waiting:
            if (unit := next(self._candidates, None)) is None:
                return None
            self._claim(unit)
        return self._waiting.popleft()

    def look_again(self) -> None:
        """Begin a further round: others may have died, or left images open."""
        self._candidates = self._round()

    def settle(self, unit: int) -> None:
        """An image of the unit is done, has failed or is left to others; after the last one the unit is given back."""
        self._unsettled[unit] -= 1
        if self._unsettled[unit] == 0:
            del self._unsettled[unit]
            self._worker.release(self._name(unit))

    def leave_waiting(self) -> None:
        """Leave what has not begun to others: this process had slept, and they may have claimed its units."""
        waiting, self._waiting = self._waiting, deque()
        for assigned in waiting:
            self.settle(assigned.unit)

    def held_by_others(self) -> Iterator[str]:
        """Names of the processes that hold units with open images."""
        for unit in self._order:
            if unit not in self._unsettled and self._is_open(unit):
                yield self._worker.owner(self._name(unit)) or "nobody"

    def any_open(self) -> bool:
        """Whether an image of these units is open, whoever has claimed it."""
        return any(self._is_open(unit) for unit in self._order)

    def images(self) -> list[range]:
        """Positions of the images of these units, in the order of the plan."""
        return [self._tally.plan.units[unit] for unit in sorted(self._order)]

    def _claim(self, unit: int) -> None:
        # A claimed unit's images are all here or on their way: claiming it again would wait for oneself.
        if unit in self._unsettled or not self._is_open(unit) or not self._worker.claim(self._name(unit)):
            return
        # Whoever held it before may have done some of it; and nothing is judged by receipts that were read before.
        self._worker.ask_for_logs()
        self._tally.refresh()
        plan = self._tally.plan
        images = [plan.item(i) for i in plan.units[unit] if self._tally.state[i] == Tally.OPEN]
        begun = self._maker.begin(images) if images else []
        if not begun:
            self._worker.release(self._name(unit))
            return
        self._unsettled[unit] = len(begun)
        self._waiting.extend(Assigned(unit, image) for image in begun)

    def _is_open(self, unit: int) -> bool:
        images = self._tally.plan.units[unit]
        return Tally.OPEN in self._tally.state[images.start : images.stop]

    def _round(self) -> Iterator[int]:
        return iter(self._order)

    def _from(self, share: float) -> tuple[int, ...]:
        plan = self._tally.plan
        first, passed = 0, 0
        while passed < share * self._tally.total_pixels and first < len(plan.units) - 1:
            passed += sum(plan.pixels[plan.units[first].start : plan.units[first].stop])
            first += 1
        return (*range(first, len(plan.units)), *range(first))

    def _name(self, unit: int) -> str:
        return f"{self._tally.plan.inputs.digest[:12]}-{unit:06d}"
