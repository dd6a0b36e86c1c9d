"""Noise of a camera: Gaussian, or Poisson's, which grows with the light; in colour or grey.

By own tables on random bits, in integers: the same values on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import exp
from statistics import NormalDist

import numpy as np
from jaxtyping import Int16, Int32

from srdist.degradations.draws import Draws
from srdist.degradations.stage import Image, Made

# Fixed point, by the bits behind the point.
_NORMAL_POINT, _POISSON_POINT, _TIMES_POINT = 11, 6, 10
_POISSON_BITS = 12
_LUMA = np.array([19595, 38470, 7471], np.int32)
"""BT.601's weights times 2^16."""


@dataclass(frozen=True, slots=True)
class Noise:
    """One of the two kinds, of a strength that is drawn, uniform."""

    probability: float
    gaussian: float
    """Probability of Gaussian noise; else it is Poisson's."""
    sigma: tuple[float, float]
    """Of Gaussian noise, in 8-bit levels."""
    poisson: tuple[float, float]
    """Of Poisson noise: 1 is that of as many photons as the pixel has levels."""
    grey: float
    """Probability that the channels have the same noise."""

    def __call__(self, image: Image, lr_size: tuple[int, int], draws: Draws, /) -> Made:  # noqa: ARG002
        if draws.unit(0) >= self.probability:
            return image, ""
        grey = draws.unit(1) < self.grey
        if draws.unit(2) < self.gaussian:
            sigma = draws.between(3, self.sigma)
            added, words = _gaussian(image, sigma, draws, grey=grey), f"Gaussian {sigma:.1f}"
        else:
            strength = draws.between(4, self.poisson)
            added, words = _poisson(image, strength, draws, grey=grey), f"Poisson {strength:.2f}"
        noisy = np.add(image, added, dtype=np.int16)
        return np.clip(noisy, 0, 255, out=noisy).astype(np.uint8), words + (" grey" if grey else "")


def _gaussian(image: Image, sigma: float, draws: Draws, *, grey: bool) -> Int16[np.ndarray, "h w c"]:
    height, width, channels = image.shape
    # The table is scaled, not the values: there are more of them.
    levels = _scaled(normal_table(), sigma, point=_NORMAL_POINT)
    shape = (height, width, 1 if grey else channels)
    added: Int16[np.ndarray, "h w c"] = levels[draws.bits(shape[0] * shape[1] * shape[2])].reshape(shape)
    return added


def _poisson(image: Image, strength: float, draws: Draws, *, grey: bool) -> Int16[np.ndarray, "h w c"]:
    light = ((image.astype(np.int32) @ _LUMA + (1 << 15)) >> 16)[..., None] if grey else image
    places = light.astype(np.intp) << _POISSON_BITS
    places += (draws.bits(light.size) >> np.uint16(16 - _POISSON_BITS)).reshape(light.shape)
    return _scaled(poisson_table().ravel().take(places), strength, point=_POISSON_POINT)


def _scaled(values: Int16[np.ndarray, ...], times: float, *, point: int) -> Int16[np.ndarray, ...]:
    """Values of fixed point, times a number of 1/1024 steps, rounded to whole levels."""
    product = values.astype(np.int32)
    product *= int(times * (1 << _TIMES_POINT) + 0.5)
    product += 1 << (point + _TIMES_POINT - 1)
    product >>= point + _TIMES_POINT
    whole: Int16[np.ndarray, ...] = product.astype(np.int16)
    return whole


@cache
def normal_table() -> Int16[np.ndarray, " 65536"]:
    """Deviates of the normal distribution in units of 2^-11, as likely each as the others."""
    normal = NormalDist()
    upper = [round(normal.inv_cdf((place + 0.5) / 65536) * 2**_NORMAL_POINT) for place in range(32768, 65536)]
    return np.array([-value for value in reversed(upper)] + upper, np.int16)


@cache
def poisson_table() -> Int16[np.ndarray, "256 4096"]:
    """For each light in 8-bit levels, deviations of that many photons from their mean, in units of 2^-6 levels."""
    steps = 1 << _POISSON_BITS
    table = np.zeros((256, steps), np.int16)
    quantiles = (np.arange(steps) + 0.5) / steps
    for light in range(1, 256):
        counts: Int32[np.ndarray, " k"] = np.arange(light + 12 * int(light**0.5) + 12, dtype=np.int32)
        chance, below = exp(-light), []
        total = 0.0
        for count in counts.tolist():
            total += chance
            below.append(total)
            chance *= light / (count + 1)
        photons = np.searchsorted(np.array(below), quantiles)
        table[light] = (photons - light) << _POISSON_POINT
    return table
