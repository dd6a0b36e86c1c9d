"""Columns of two pictures, a title and lines of scores, drawn on one white page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from srdist.images.pixels import to_pillow, to_u8

_MARGIN, _GAP, _BAR = 24, 16, 12
_INK, _SOFT = (24, 24, 27), (95, 95, 105)
_LINE = 20
"""Height of a line of scores, in pixels."""


@dataclass(frozen=True, slots=True)
class Column:
    """One method: its name, two pictures, and what stands between them."""

    title: str
    scores: tuple[str, ...]
    """Lines."""
    pictures: tuple[Image.Image, Image.Image]


def heat(share: Float[Tensor, "h w"]) -> Image.Image:
    """0 black, through red and yellow, to 1 white."""
    ramp = torch.stack([share * 3, share * 3 - 1, share * 3 - 2])
    return to_pillow(to_u8(ramp.clamp(0, 1)))


def draw_page(columns: Sequence[Column], *, footer: str, levels: float | None = None) -> Image.Image:
    """The page.

    Args:
        footer: lines below; with `levels`, the last one is followed by a bar of the colours up to so many.
    """
    title_font, font = ImageFont.load_default(size=18), ImageFont.load_default(size=14)
    text_width = max(int(font.getlength(line)) for column in columns for line in column.scores)
    width = max(text_width, *(picture.width for column in columns for picture in column.pictures))
    heights = [max(column.pictures[row].height for column in columns) for row in (0, 1)]
    lines = footer.split("\n")
    first = _MARGIN + 26
    second = first + heights[0] + 14 + _LINE * max(len(column.scores) for column in columns)
    page = Image.new(
        "RGB",
        (
            2 * _MARGIN + len(columns) * width + (len(columns) - 1) * _GAP,
            second + heights[1] + _GAP + 22 * len(lines) + _MARGIN,
        ),
        (255, 255, 255),
    )
    draw = ImageDraw.Draw(page)
    for place, column in enumerate(columns):
        left = _MARGIN + place * (width + _GAP)
        draw.text((left, _MARGIN - 6), column.title, font=title_font, fill=_INK)
        page.paste(column.pictures[0], (left, first))
        for i, line in enumerate(column.scores):
            draw.text((left, first + heights[0] + 6 + _LINE * i), line, font=font, fill=_SOFT)
        page.paste(column.pictures[1], (left, second))
    bottom = second + heights[1] + _GAP
    for i, line in enumerate(lines):
        draw.text((_MARGIN, bottom + 22 * i), line, font=font, fill=_SOFT)
    if levels is not None:
        left = _MARGIN + int(font.getlength(lines[-1])) + 10
        _scale_bar(page, left, bottom + 22 * (len(lines) - 1) + 2, levels=levels, font=font)
    return page


def _scale_bar(
    page: Image.Image,
    left: int,
    top: int,
    *,
    levels: float,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    draw = ImageDraw.Draw(page)
    draw.text((left, top - 2), "0", font=font, fill=_SOFT)
    bar = heat(torch.linspace(0, 1, 180).repeat(_BAR, 1))
    page.paste(bar, (left + 16, top))
    draw.text((left + 16 + bar.width + 8, top - 2), f"{levels:.0f} and more", font=font, fill=_SOFT)
