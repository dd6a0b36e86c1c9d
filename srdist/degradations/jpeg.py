"""JPEG's losses, by the codec itself: encoded and decoded again by libjpeg-turbo (simplejpeg), as files of the web are.

Its bytes are those of the installed libjpeg-turbo: the same on machines that have the same one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import simplejpeg

from srdist.degradations.draws import Draws
from srdist.degradations.stage import Image, Made

SAMPLINGS = ("444", "422", "420")
_BLOCK = 16
"""Side of the blocks with halved colour, in pixels."""


@dataclass(frozen=True, slots=True)
class JPEG:
    """Quality is drawn, uniform, and so is the colour's sampling.

    A patch is no image of its own: its place on the grid of blocks is random, as it is in the whole image.
    """

    probability: float
    quality: tuple[int, int]
    samplings: tuple[float, float, float]
    """Weights of 4:4:4, 4:2:2 and 4:2:0."""

    def __call__(self, image: Image, lr_size: tuple[int, int], draws: Draws, /) -> Made:  # noqa: ARG002
        if draws.unit(0) >= self.probability:
            return image, ""
        quality = draws.whole(1, self.quality)
        sampling = SAMPLINGS[draws.pick(2, self.samplings)]
        top, left = draws.whole(3, (0, _BLOCK - 1)), draws.whole(4, (0, _BLOCK - 1))
        padded = _shifted(image, top, left)
        data = simplejpeg.encode_jpeg(padded, quality, colorsubsampling=sampling, fastdct=False)
        decoded = simplejpeg.decode_jpeg(data, fastdct=False, fastupsample=False)
        return np.ascontiguousarray(decoded[top:, left:]), f"JPEG {quality} {':'.join(sampling)}"


def _shifted(image: Image, top: int, left: int) -> Image:
    """The image with its first row and column repeated before it."""
    height, width = image.shape[:2]
    padded = np.empty((height + top, width + left, 3), np.uint8)
    padded[top:, left:] = image
    padded[:top, left:] = image[0]
    padded[:, :left] = padded[:, left : left + 1]
    return padded
