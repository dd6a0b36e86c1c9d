"""Convolution kernels as whole numbers: what is drawn for a blur in; taps out that sum to 2^12.

Whole taps on 8-bit pixels give sums below 2^24, which float32 holds exactly whatever the order of the additions: so a
blur is the same on every machine, by every library. The formulas are Real-ESRGAN's (basicsr/data/degradations.py:
`bivariate_Gaussian` and its kin, `circular_lowpass_kernel`), computed by IEEE's basic operations and own tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import cos, exp, pi, sin

import numpy as np
from jaxtyping import Float32, Float64, Int64

SUM = 1 << 12
_EXP_STEPS, _EXP_END = 256, 16
_JINC_STEPS = 64
_JINC_END = 64
_TURNS = 256
"""Directions of an ellipse in half a turn."""


@dataclass(frozen=True, slots=True)
class Ellipse:
    """Standard deviations in pixels along its axes, and the direction of the first in 256ths of half a turn."""

    sigma_x: float
    sigma_y: float
    direction: int


def gaussian(side: int, ellipse: Ellipse, *, eighths: int = 8) -> Float32[np.ndarray, "k k"]:
    """exp(-q^b / 2) with q the squared distance in standard deviations and b = eighths / 8; 8: Gaussian."""
    return _whole(_exp(0.5 * _power(_squares(side, ellipse), eighths)))


def plateau(side: int, ellipse: Ellipse, *, eighths: int) -> Float32[np.ndarray, "k k"]:
    """1 / (1 + q^b): flat in the middle."""
    return _whole(1.0 / (1.0 + _power(_squares(side, ellipse), eighths)))


def sinc(side: int, cutoff: float) -> Float32[np.ndarray, "k k"]:
    """The circular low pass of cutoff frequency `cutoff` in radians a pixel: rings, as of sharpening and bad resizing."""
    x, y = _grid(side)
    return _whole(_jinc(cutoff * np.sqrt(x * x + y * y)))


def _grid(side: int) -> tuple[Float64[np.ndarray, "1 k"], Float64[np.ndarray, "k 1"]]:
    line = np.arange(side, dtype=np.float64) - side // 2
    return line[None, :], line[:, None]


def _squares(side: int, ellipse: Ellipse) -> Float64[np.ndarray, "k k"]:
    x, y = _grid(side)
    along, across = _directions()[ellipse.direction]
    u, v = (x * along + y * across) / ellipse.sigma_x, (y * along - x * across) / ellipse.sigma_y
    return u * u + v * v


def _power(values: Float64[np.ndarray, "k k"], eighths: int) -> Float64[np.ndarray, "k k"]:
    """values^(eighths / 8), by roots and products, whose last bits are the same everywhere."""
    if eighths == 8:
        return values
    root, result = np.sqrt(np.sqrt(np.sqrt(values))), np.ones_like(values)
    while eighths:
        if eighths % 2:
            result = result * root
        root, eighths = root * root, eighths // 2
    return result


def _whole(weights: Float64[np.ndarray, "k k"]) -> Float32[np.ndarray, "l l"]:
    """Taps in proportion, which sum to SUM; rings of zeros around them are left out."""
    # Twice: of what is too small for a tap the others take their part, not the one in the middle.
    taps = _rounded(weights)
    taps = _rounded(np.where(taps != 0, weights, 0.0))
    middle = len(taps) // 2
    taps[middle, middle] += SUM - int(taps.sum())
    assert 255 * int(np.abs(taps).sum()) < 1 << 24
    rows, columns = np.nonzero(taps)
    radius = int(max(abs(rows - middle).max(), abs(columns - middle).max()))
    inner = slice(middle - radius, middle + radius + 1)
    trimmed: Float32[np.ndarray, "l l"] = taps[inner, inner].astype(np.float32)
    return trimmed


def _rounded(weights: Float64[np.ndarray, "k k"]) -> Int64[np.ndarray, "k k"]:
    # Summed in a fixed order: NumPy's own may depend on the machine's vectors.
    total = 0.0
    for weight in weights.ravel().tolist():
        total += weight
    taps: Int64[np.ndarray, "k k"] = np.floor(weights * (SUM / total) + 0.5).astype(np.int64)
    return taps


def _exp(values: Float64[np.ndarray, "k k"]) -> Float64[np.ndarray, "k k"]:
    return _looked_up(values, _exp_table(), _EXP_STEPS)


def _jinc(values: Float64[np.ndarray, "k k"]) -> Float64[np.ndarray, "k k"]:
    return _looked_up(values, _jinc_table(), _JINC_STEPS)


def _looked_up(
    values: Float64[np.ndarray, "k k"], table: Float64[np.ndarray, " t"], steps: int
) -> Float64[np.ndarray, "k k"]:
    """Between the table's entries, of which there are `steps` to a unit; beyond its end the last."""
    scaled = np.minimum(values * steps, len(table) - 2)
    below = scaled.astype(np.int64)
    blended: Float64[np.ndarray, "k k"] = table[below] + (table[below + 1] - table[below]) * (scaled - below)
    return blended


@cache
def _exp_table() -> Float64[np.ndarray, " t"]:
    """exp(-x), in units of 2^-26: rounded far above the last bits, in which machines differ."""
    return np.array([round(exp(-i / _EXP_STEPS) * 2**26) for i in range(_EXP_STEPS * _EXP_END)]) / 2**26


@cache
def _jinc_table() -> Float64[np.ndarray, " t"]:
    """J1(x) / x, in units of 2^-26; J1 by its integral over a period, which equal steps take exactly."""
    turns = [2 * pi * k / 256 for k in range(256)]
    values = [0.5]
    for i in range(1, _JINC_STEPS * _JINC_END):
        x = i / _JINC_STEPS
        values.append(sum(cos(turn - x * sin(turn)) for turn in turns) / 256 / x)
    return np.array([round(value * 2**26) for value in values]) / 2**26


@cache
def _directions() -> tuple[tuple[float, float], ...]:
    angles = (pi * turn / _TURNS for turn in range(_TURNS))
    return tuple((round(cos(angle) * 2**20) / 2**20, round(sin(angle) * 2**20) / 2**20) for angle in angles)
