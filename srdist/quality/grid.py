"""The sample grid of a run: rows of LR | bicubic | SR | HR, as one picture that a person can judge."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from srdist.images.pixels import to_pillow
from srdist.machine.plainjson import parse_json
from srdist.quality.metrics import psnr_y

CELL = 436
"""Pixels that the longer side of a cell has at least, where upscaling by a whole number allows."""
_GAP, _TITLE, _CAPTION = 6, 28, 22
_PLACES = "srdist-cells"

Row = tuple[UInt8[Tensor, "3 _ _"], UInt8[Tensor, "3 _ _"], UInt8[Tensor, "3 _ _"], UInt8[Tensor, "3 _ _"]]
"""LR, bicubic, SR and HR of one image."""


def draw_grid(rows: list[Row], *, title: str) -> Image.Image:
    """Draw the rows, each image upscaled by a whole number without smoothing, PSNR-Y under each.

    Where the cells lie is noted in the picture's `info`, for `save_grid`.
    """
    cells = [_row_cells(row) for row in rows]
    width = max(sum(image.width + _GAP for image, _ in row) for row in cells) + _GAP
    heights = [max(image.height for image, _ in row) + _CAPTION + _GAP for row in cells]
    sheet = Image.new("RGB", (width, _TITLE + sum(heights)), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((_GAP, 5), title, fill="black", font=ImageFont.load_default(size=16))
    font = ImageFont.load_default(size=14)
    top = _TITLE
    places: list[list[list[int]]] = []
    for row, height, (_, _, _, hr) in zip(cells, heights, rows, strict=True):
        left = _GAP
        places.append([])
        for image, caption in row:
            sheet.paste(image, (left, top))
            places[-1].append([left, top, image.width, image.height, image.width // hr.shape[-1]])
            pen.text((left, top + image.height + 2), caption, fill="black", font=font)
            left += image.width + _GAP
        top += height
    sheet.info[_PLACES] = json.dumps(places)
    return sheet


def save_grid(path: Path, sheet: Image.Image) -> None:
    """Save a grid as PNG, with the places of its cells in a text chunk."""
    chunk = PngInfo()
    chunk.add_text(_PLACES, sheet.info[_PLACES])
    sheet.save(path, format="PNG", pnginfo=chunk)


def cut_grid(path: Path) -> list[list[Image.Image]]:
    """The images of a saved grid, a list [LR, bicubic, SR, HR] a row, all of HR's size (LR by repeated pixels).

    Raises:
        ValueError: the picture has no note of its cells.
    """
    with Image.open(path) as sheet:
        sheet.load()
        if _PLACES not in sheet.info:
            raise ValueError(f"{path}: no sample grid of srdist (it has no note of its cells)")
        return cells(sheet)


def cells(sheet: Image.Image) -> list[list[Image.Image]]:
    """The images of a grid that draw_grid drew, as cut_grid has them."""
    return [[_cut(sheet, *place) for place in row] for row in parse_json(sheet.info[_PLACES])]


def _cut(sheet: Image.Image, left: int, top: int, width: int, height: int, times: int) -> Image.Image:
    cell = sheet.crop((left, top, left + width, top + height))
    return cell.resize((width // times, height // times), Image.Resampling.NEAREST)


def _row_cells(row: Row) -> list[tuple[Image.Image, str]]:
    lr, bicubic, sr, hr = row
    height, width = hr.shape[-2:]
    times = max(1, round(CELL / max(height, width)))
    size = (width * times, height * times)
    border = max(1, round(height / lr.shape[-2]))

    def caption(name: str, image: UInt8[Tensor, "3 H W"]) -> str:
        score = psnr_y(torch.stack([image]), torch.stack([hr]), border=border).item()
        return f"{name}  {score:.2f} dB"

    captions = ("LR", caption("bicubic", bicubic), caption("SR", sr), "HR")
    images = (to_pillow(image).resize(size, Image.Resampling.NEAREST) for image in row)
    return list(zip(images, captions, strict=True))
