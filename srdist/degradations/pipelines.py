"""The order in which an image meets the stages of a pipeline, where that is drawn too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from srdist.degradations.chain import Named
from srdist.degradations.draws import Draws

ORDER = "order"
"""The name whose draws decide it."""


@dataclass(frozen=True, slots=True)
class SecondOrder:
    """Real-ESRGAN's (Wang et al., ICCVW 2021): the last JPEG comes before or after the last resizing, each half of the time."""

    first: tuple[Named, ...]
    to_lr: tuple[Named, ...]
    jpeg: Named

    def __call__(self, key: int, /) -> Sequence[Named]:
        if Draws.of(key, ORDER).unit(0) < 0.5:
            return (*self.first, *self.to_lr, self.jpeg)
        return (*self.first, self.jpeg, *self.to_lr)


@dataclass(frozen=True, slots=True)
class Shuffled:
    """BSRGAN's (Zhang et al., ICCV 2021): all in random order, but for one that comes after another, and a last one."""

    stages: tuple[Named, ...]
    earlier: int
    """Place in `stages` of the one that changes the size freely; it comes before `later`, which makes LR's size."""
    later: int
    last: Named

    def __call__(self, key: int, /) -> Sequence[Named]:
        order = Draws.of(key, ORDER).shuffled(len(self.stages))
        at, after = order.index(self.earlier), order.index(self.later)
        if at > after:
            order[at], order[after] = order[after], order[at]
        return (*(self.stages[place] for place in order), self.last)
