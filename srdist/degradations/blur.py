"""Blur: of a lens out of focus, of motion, of sharpening and resizing that ring; one kernel an image, drawn.

OpenCV convolves. Its direct way is taken, never its Fourier transform: the sums are then exact (see `taps`).
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32

from srdist.degradations import taps
from srdist.degradations.draws import Draws
from srdist.degradations.stage import Image, Made
from srdist.degradations.taps import SUM, Ellipse
from srdist.machine.errors import UserError

try:
    import cv2
except ImportError as missing:
    raise UserError("blur needs OpenCV: pip install 'srdist[degradations]'") from missing

Shape = Literal["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"]
SHAPES: tuple[Shape, ...] = get_args(Shape)
_DIRECT_TAPS = 121 if platform.machine() in ("x86_64", "AMD64") else 49
"""OpenCV convolves directly with fewer than 130 taps, and with fewer than 50 where it lacks SSE3; more go in parts."""


@dataclass(frozen=True, slots=True)
class Blur:
    """What is drawn, uniform if not said otherwise: the kind of kernel, its side, its widths and its direction."""

    probability: float
    sinc: float
    """Probability of a sinc; else it is one of `shapes`."""
    shapes: tuple[tuple[Shape, float], ...]
    """Weights of the shapes."""
    side: tuple[int, int]
    """Odd sides, in pixels."""
    sigma: tuple[float, float]
    """Standard deviations, in pixels."""
    generalized: tuple[float, float]
    """Exponent of generalized Gaussians: below 1 in half of the draws, else above; in steps of 1/8."""
    plateau: tuple[float, float]
    """Exponent of plateaus, likewise."""
    cutoff: tuple[float, float]
    """Of a sinc, in radians a pixel."""

    def __call__(self, image: Image, lr_size: tuple[int, int], draws: Draws, /) -> Made:  # noqa: ARG002
        if draws.unit(0) >= self.probability:
            return image, ""
        side = draws.whole(1, (self.side[0] // 2, self.side[1] // 2)) * 2 + 1
        if draws.unit(2) < self.sinc:
            cutoff = draws.between(3, self.cutoff)
            return convolved(image, taps.sinc(side, cutoff)), f"sinc {side} {cutoff:.2f}"
        shape = self.shapes[draws.pick(4, [weight for _, weight in self.shapes])][0]
        sigma_x = draws.between(5, self.sigma)
        if shape.endswith("aniso"):
            ellipse = Ellipse(sigma_x, draws.between(6, self.sigma), draws.whole(7, (0, 255)))
        else:
            ellipse = Ellipse(sigma_x, sigma_x, 0)
        if shape.startswith("plateau"):
            kernel = taps.plateau(side, ellipse, eighths=_eighths(draws, self.plateau))
        else:
            eighths = _eighths(draws, self.generalized) if shape.startswith("generalized") else 8
            kernel = taps.gaussian(side, ellipse, eighths=eighths)
        return convolved(image, kernel), f"{shape} {side} {ellipse.sigma_x:.1f}x{ellipse.sigma_y:.1f}"


def _eighths(draws: Draws, exponent: tuple[float, float]) -> int:
    low, high = exponent
    half = (low, max(low, 1.0)) if draws.unit(8) < 0.5 else (min(high, 1.0), high)
    return max(1, int(draws.between(9, half) * 8 + 0.5))


def convolved(image: Image, kernel: Float32[np.ndarray, "k k"]) -> Image:
    """The image with its surroundings mirrored, convolved with whole taps that sum to 2^12, rounded half up."""
    height, width = image.shape[:2]
    side = len(kernel)
    radius = side // 2
    if radius == 0:
        return image
    # One thread: worker processes are forked, and the batch has them side by side.
    cv2.setNumThreads(0)
    padded = cv2.copyMakeBorder(image, radius, radius, radius, radius, cv2.BORDER_REFLECT_101)
    # From 8 bit OpenCV would take its Fourier transform.
    padded = padded.astype(np.float32)
    rows = max(1, _DIRECT_TAPS // side)
    total = None
    for first in range(0, side, rows):
        part = kernel[first : first + rows]
        strip = padded[first : first + height + len(part) - 1]
        # The anchor is the first tap, so that row and column 0 of the result need no border.
        sums = cv2.filter2D(strip, cv2.CV_32F, part, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
        sums = sums[:height, :width]
        total = sums if total is None else np.add(total, sums, out=total)
    assert total is not None
    np.add(total, np.float32(SUM // 2), out=total)
    np.multiply(total, np.float32(1 / SUM), out=total)
    blurred: Image = np.clip(total, 0, 255, out=total).astype(np.uint8)
    return blurred
