"""A sample grid as text: two pixels a character, in the colours of a terminal."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from srdist.quality.grid import cells

ROWS = 2
"""Samples that are shown: more would push the log out of sight."""
WIDEST = 160
"""Characters."""
_NAMES = ("bicubic", "SR", "HR")


def as_text(sheet: Image.Image, *, columns: int) -> str:
    """The first samples of a grid, bicubic, SR and HR side by side: of each the middle, a pixel of it as one of the terminal.

    Args:
        columns: of the terminal; more than WIDEST are not used.
    """
    side = max(2, (min(columns, WIDEST) - len(_NAMES)) // len(_NAMES))
    lines = [" ".join(f"{name:<{side}}" for name in _NAMES).rstrip()]
    for _, *images in cells(sheet)[:ROWS]:
        parts = [_lines(_middle(image, side)) for image in images]
        lines += [" ".join(row) for row in zip(*parts, strict=True)]
    return "\n".join(lines)


def _middle(image: Image.Image, side: int) -> UInt8[np.ndarray, "h w 3"]:
    """At most `side` pixels each way; an even number of rows."""
    width, height = min(image.width, side), min(image.height, side) // 2 * 2
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return np.asarray(image.convert("RGB").crop((left, top, left + width, top + height)))


def _lines(pixels_u8: UInt8[np.ndarray, "h w 3"]) -> list[str]:
    return [
        "".join(_character(above, below) for above, below in zip(upper, lower, strict=True)) + "\x1b[0m"
        for upper, lower in zip(pixels_u8[::2], pixels_u8[1::2], strict=True)
    ]


def _character(above: UInt8[np.ndarray, 3], below: UInt8[np.ndarray, 3]) -> str:
    colours = [";".join(map(str, pixel.tolist())) for pixel in (above, below)]
    return f"\x1b[38;2;{colours[0]}m\x1b[48;2;{colours[1]}m▀"
