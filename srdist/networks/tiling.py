"""Images of any size through a network: cut into tiles with a halo, as many at a time as memory allows.

In go pixels as stored (8 or 16 bit, grey or RGB, with alpha or without); out come the upscaled pixels of the same kind.
Every tile is computed with the LR pixels around it that its values depend on, so that its edges cannot be seen:
for our own networks the result is that of the whole image at once, up to the last bit of float32 arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from srdist.machine.errors import WorkError

UNKNOWN_HALO = 16
"""LR pixels around a tile of a network whose values depend on more than any halo, or nobody knows on how much: as
wide are the bands over which such tiles fade into each other."""


class NotFiniteError(WorkError):
    """A network's output holds NaN or infinity, which 8 bits would hide; the message names no image."""


@dataclass(frozen=True, slots=True)
class Box:
    """A tile: LR pixels top <= y < bottom, left <= x < right, without its halo."""

    top: int
    bottom: int
    left: int
    right: int

    def grown(self, halo: int, *, height: int, width: int, multiple: int = 1) -> Box:
        """With `halo` pixels on each side that lies inside the image: at its border the network pads, as it was trained.

        Inside the image the edges are multiples of `multiple`, where the network's own grid lies.
        """
        top, left = max(self.top - halo, 0), max(self.left - halo, 0)
        bottom, right = self.bottom + halo, self.right + halo
        return Box(
            top - top % multiple,
            min(bottom + -bottom % multiple, height),
            left - left % multiple,
            min(right + -right % multiple, width),
        )

    def inside(self, area: Box) -> Box:
        """The part within `area`."""
        return Box(
            max(self.top, area.top),
            min(self.bottom, area.bottom),
            max(self.left, area.left),
            min(self.right, area.right),
        )

    def shape(self, scale: int, channels: int) -> tuple[int, int, int]:
        """Of its output, [H, W, c]."""
        return (self.bottom - self.top) * scale, (self.right - self.left) * scale, channels

    def slices(self, scale: int, *, origin: Box) -> tuple[slice, slice]:
        """Rows and columns of its output in an array that holds the output of `origin`."""
        return (
            slice((self.top - origin.top) * scale, (self.bottom - origin.top) * scale),
            slice((self.left - origin.left) * scale, (self.right - origin.left) * scale),
        )


def paste(
    canvas: Shaped[np.ndarray, "h w c"], part: Shaped[np.ndarray, "i w c"], top: int, fade: int
) -> None:
    """Lay the rows of `part` on `canvas` from row `top` on, the first `fade` of them fading in over what is there."""
    target = canvas[top : top + len(part)]
    fade = min(fade, len(part))
    share = ((np.arange(fade, dtype=np.float32) + 0.5) / max(fade, 1))[:, None, None]
    there = target[:fade].astype(np.float32)
    target[:fade] = np.rint(there + (part[:fade] - there) * share)
    target[fade:] = part[fade:]


def cut(whole: Box, *, tile: int) -> Iterator[Box]:
    """Tiles of at most `tile` pixels a side that cover `whole` once, of nearly equal sizes."""
    height, width = whole.bottom - whole.top, whole.right - whole.left
    rows, columns = -(-height // tile), -(-width // tile)
    for i in range(rows):
        top, bottom = (whole.top + height * edge // rows for edge in (i, i + 1))
        for j in range(columns):
            left, right = (whole.left + width * edge // columns for edge in (j, j + 1))
            yield Box(top, bottom, left, right)
