"""64-bit mixing: the arithmetic that everything random here is made of, on unsigned integers, the same everywhere."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt64

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)


def mix64(values: UInt64[np.ndarray, "*n"]) -> UInt64[np.ndarray, "*n"]:
    """SplitMix64's output function (Steele et al., 2014): a bijection of 64 bits that scatters its input."""
    mixed = values + _GAMMA
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _M1
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _M2
    return mixed ^ (mixed >> np.uint64(31))
