"""What is random in one stage for one image: a key and the stage's name in; numbered numbers, and bits by the million, out.

Each stage has a block of its own, by its name, and each draw a number in it, so that a new stage or draw moves no
other. Scalars come from our own mixing, bits from the raw output of Philox (Salmon et al., SC 2011), which NumPy
keeps as it is (NEP 19); its `normal` and `poisson` may change and are not used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import UInt16

from srdist.machine.mixing import mix64

_BLOCK = 24
"""Draws of a stage."""


@dataclass(frozen=True, slots=True)
class Draws:
    """The numbers of one stage; `number` says which draw it is."""

    key: int
    values: tuple[int, ...]
    """64 bits each."""

    @classmethod
    def of(cls, key: int, stage: str) -> Draws:
        """Those of the image's key and the stage's name in its chain."""
        first = mix64(np.array([key], np.uint64) ^ _salt(stage))
        return cls(int(first[0]), tuple(mix64(first + np.arange(_BLOCK, dtype=np.uint64)).tolist()))

    def unit(self, number: int) -> float:
        """Uniform from 0 to below 1."""
        return (self.values[number] >> 11) * 2.0**-53

    def between(self, number: int, low_high: tuple[float, float]) -> float:
        """Uniform between two values."""
        low, high = low_high
        return low + (high - low) * self.unit(number)

    def whole(self, number: int, low_high: tuple[int, int]) -> int:
        """A whole number from low to high, both included."""
        low, high = low_high
        return low + self.values[number] % (high - low + 1)

    def pick(self, number: int, weights: Sequence[float]) -> int:
        """The place of one of the weights, each as likely as it is heavy."""
        left = self.unit(number) * sum(weights)
        for place, weight in enumerate(weights):
            left -= weight
            if left < 0:
                return place
        return max(place for place, weight in enumerate(weights) if weight > 0)

    def shuffled(self, count: int) -> list[int]:
        """0 to count - 1 in a random order, by the first `count` draws."""
        return sorted(range(count), key=lambda place: self.values[place])

    def bits(self, count: int) -> UInt16[np.ndarray, " n"]:
        """`count` times 16 random bits."""
        raw = np.random.Philox(key=self.key).random_raw(-(-count // 4))
        # Little-endian on every machine, so that the values are the same.
        return raw.astype("<u8", copy=False).view("<u2")[:count]


@cache
def _salt(stage: str) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(stage.encode()).digest()[:8], "<u8")
