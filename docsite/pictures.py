"""The picture of docs/degradations.md: the same piece of a photo after each degradation. `python -m docsite.pictures`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from pydantic import TypeAdapter

from docsite.pages import DOCS
from srdist.degradations.config import DegradationConfig
from srdist.degradations.section import DegradationSection

SCALE = 2
SIDE = 192
"""HR pixels of a panel's side; shown at this size."""
KINDS = {
    "kernel: bicubic": {"kind": "kernel", "kernel": "bicubic"},
    "blur": {"kind": "blur"},
    "resize": {"kind": "resize"},
    "noise": {"kind": "noise"},
    "jpeg, quality 30": {"kind": "jpeg", "quality": [30, 30]},
    "second_order, preset web": {"kind": "second_order", "preset": "web"},
    "second_order, preset photo": {"kind": "second_order", "preset": "photo"},
    "bsrgan": {"kind": "bsrgan"},
}
"""What stands under a panel, and the degradation of it."""


def sheet(photo: np.ndarray, *, columns: int = 3, caption: int = 20) -> Image.Image:
    """HR and, for each of KINDS, its LR enlarged by whole pixels.

    Args:
        photo: uint8 (height, width, 3) of at least 2 * SIDE pixels a side.
    """
    top, left = (photo.shape[0] - SIDE) // 4, (photo.shape[1] - SIDE) // 2
    hr = photo[top : top + SIDE, left : left + SIDE]
    panels = {"HR": Image.fromarray(hr)}
    for name, values in KINDS.items():
        section: DegradationSection = TypeAdapter(DegradationConfig).validate_python(values)
        degradation = section.build(scale=SCALE)
        margin = min(degradation.margin // SCALE * SCALE, top, left)
        around = photo[top - margin : top + SIDE + margin, left - margin : left + SIDE + margin]
        (lr,) = degradation(np.ascontiguousarray(around[None]), np.array([5], np.uint64))
        cut = lr[margin // SCALE : (margin + SIDE) // SCALE, margin // SCALE : (margin + SIDE) // SCALE]
        panels[name] = Image.fromarray(cut).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    rows = -(-len(panels) // columns)
    picture = Image.new("RGB", (columns * (SIDE + 8), rows * (SIDE + caption + 8)), "white")
    draw = ImageDraw.Draw(picture)
    for i, (name, panel) in enumerate(panels.items()):
        x, y = i % columns * (SIDE + 8) + 4, i // columns * (SIDE + caption + 8) + 4
        picture.paste(panel, (x, y))
        draw.text((x, y + SIDE + 2), name, fill="black", font_size=14)
    return picture


def write(out: Path) -> None:
    """Draw the sheet of scikit-image's astronaut into a PNG."""
    from skimage import data

    sheet(data.astronaut()).save(out, optimize=True)


if __name__ == "__main__":
    write(DOCS / "pictures/degradations.png")
