"""Which shards a training needs next: an order walked ahead of it, as far as a cache holds them.

What is needed first is kept, as many shards as fit; so whatever is dropped for one of them has the farthest next use
(Belady 1966).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from srdist.stream.order import Order

_BLOCK = 8192
"""Positions that are looked at together, at most; a 64th of an epoch where that is less."""
_BLOCKS_A_CALL = 64
"""So that the first shards are fetched before a large set has been walked."""


class Ahead:
    """The shards that are needed first from a position on, each once, in the order of that need.

    Args:
        sizes: bytes of each shard.
        bound: bytes of those that are wanted at a time, at most; None: all of them.
        start: position that the training begins at; later ones only grow.
    """

    def __init__(self, order: Order, sizes: Sequence[int], *, bound: int | None, start: int) -> None:
        self._order, self._sizes, self._bound = order, sizes, bound
        self._block = max(1, min(_BLOCK, order.epoch_length // 64))
        self._blocks: deque[tuple[int, list[int]]] = deque()  # where each ends, and its shards
        self._walked = start - start % self._block
        self._needed: dict[int, None] = {}
        self._bytes = 0

    def wanted(self, position: int) -> list[int]:
        """What should be there when the training is at `position`; more at the next call, until it fills the bound."""
        if self._blocks and self._blocks[0][0] <= position:
            while self._blocks and self._blocks[0][0] <= position:
                self._blocks.popleft()
            self._needed, self._bytes = {}, 0
            for _, shards in self._blocks:
                self._note(shards)
        if not self._blocks:
            self._walked = max(self._walked, position - position % self._block)
        for _ in range(_BLOCKS_A_CALL):
            if self._has_all():
                break
            end = self._walked + self._block
            self._blocks.append((end, self._order.shards(self._walked, end)))
            self._note(self._blocks[-1][1])
            self._walked = end
        return self._that_fit()

    def _note(self, shards: list[int]) -> None:
        for shard in shards:
            if shard not in self._needed:
                self._needed[shard] = None
                self._bytes += self._sizes[shard]

    def _has_all(self) -> bool:
        """Whether a further block would add nothing that fits."""
        return len(self._needed) == len(self._sizes) or (
            self._bound is not None and self._bytes > self._bound
        )

    def _that_fit(self) -> list[int]:
        needed = list(self._needed)
        if self._bound is None or self._bytes <= self._bound:
            return needed
        sums = np.cumsum([self._sizes[shard] for shard in needed])
        return needed[: int(np.searchsorted(sums, self._bound, side="right"))]
