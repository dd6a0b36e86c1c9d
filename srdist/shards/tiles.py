"""How photos are cut into tiles: the section of a recipe, and the cutting itself.

Apart from packing, because a tile depends on one photo and the recipe alone. A training patch costs the decoding of its
whole image, so large photos train many times faster as tiles.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Annotated, Self

from PIL import Image
from pydantic import Field, model_validator

from srdist.images.decode import decoding
from srdist.settings.section import Section

Side = Annotated[int, Field(ge=1, le=65_535)]
SplitName = Annotated[str, Field(pattern="^[A-Za-z0-9_]+$")]


class Area(Section):
    """A part of one image that is cut into tiles of one split; sides in pixels of the upright image."""

    image: str
    """Its path below the folder of the images."""
    split: SplitName
    """The split of its tiles."""
    left: Annotated[int, Field(ge=0)]
    """First column."""
    top: Annotated[int, Field(ge=0)]
    """First row."""
    right: Annotated[int, Field(ge=1)]
    """Column after the last one."""
    bottom: Annotated[int, Field(ge=1)]
    """Row after the last one."""
    stride: Side | None = None
    """Pixels from one tile to the next; null = that of `tiles`."""

    @model_validator(mode="after")
    def _has_pixels(self) -> Self:
        if self.left >= self.right or self.top >= self.bottom:
            raise ValueError(f"an area from {self.left},{self.top} to {self.right},{self.bottom} is empty")
        return self

    @property
    def height(self) -> int:
        """In pixels."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """In pixels."""
        return self.right - self.left

    def overlaps(self, other: Area) -> bool:
        """Whether both have a pixel in common."""
        return (
            self.image == other.image
            and self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


class Tiles(Section):
    """Tiles in the place of whole images."""

    height: Side
    """Of a tile, in pixels."""
    width: Side
    """Of a tile, in pixels."""
    stride: Side
    """Pixels from one tile to the next, to the right and down."""
    flush: bool = True
    """Whether a last tile, flush with the end, covers what the stride leaves over; else that is not used."""
    sizes: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(strict=False, min_length=1, max_length=100)
    ] = (1.0,)
    """Each image is reduced to these sizes, by Pillow's Lanczos, and each of them is cut."""
    longest: Side | None = None
    """Images with a longer side, in pixels, are reduced to it first; null = none are."""
    smallest: Side | None = None
    """Sizes whose shorter side is below this, in pixels, are not cut, and areas so small are refused; from it up to a tile's side the tile is as small as they are; null = no tile is smaller."""
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] | None = None
    """Tiles are JPEGs of this quality, 4:4:4; null = PNG, without loss."""
    splits: Annotated[tuple[SplitName, ...], Field(strict=False, min_length=1)] | None = None
    """Splits whose images are cut; the others keep whole images, in their original bytes; null = all are cut."""

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        if self.smallest is not None and self.smallest > min(self.height, self.width):
            raise ValueError(f"smallest {self.smallest} is above a tile's {self.height}x{self.width}")
        if len(set(self.sizes)) < len(self.sizes):
            raise ValueError("sizes holds one size twice")
        return self

    @property
    def suffix(self) -> str:
        """Ending of a tile's name."""
        return "png" if self.jpeg_quality is None else "jpg"

    @property
    def smallest_sides(self) -> tuple[int, int]:
        """(height, width) below which nothing is cut."""
        smallest = self.smallest
        return (self.height, self.width) if smallest is None else (smallest, smallest)

    def encode(self, tile: Image.Image) -> bytes:
        """A tile as an image file's bytes."""
        buffer = io.BytesIO()
        if self.jpeg_quality is None:
            tile.save(buffer, "PNG", compress_level=1)
        else:
            tile.save(buffer, "JPEG", quality=self.jpeg_quality, subsampling=0)
        return buffer.getvalue()


def cut(image: Image.Image, tiles: Tiles) -> Iterator[tuple[str, Image.Image]]:
    """(name, tile) of an image, size by size and row by row; the name is `{width of the size}_{left}_{top}`.

    Raises:
        UnreadableImageError: a reduced image does not fit into memory.
    """
    largest = 1.0 if tiles.longest is None else min(1.0, tiles.longest / max(image.size))
    widths: set[int] = set()
    for size in tiles.sizes:
        width, height = round(image.width * size * largest), round(image.height * size * largest)
        # Of a small image two sizes may have one width: they are nearly the same picture, and would have one name.
        if width in widths or height < tiles.smallest_sides[0] or width < tiles.smallest_sides[1]:
            continue
        widths.add(width)
        reduced = image
        if (width, height) != image.size:
            with decoding("cannot be reduced"):
                reduced = image.resize((width, height), Image.Resampling.LANCZOS)
        for top in _starts(height, tiles.height, tiles.stride, flush=tiles.flush):
            for left in _starts(width, tiles.width, tiles.stride, flush=tiles.flush):
                box = (left, top, min(width, left + tiles.width), min(height, top + tiles.height))
                yield f"{width}_{left}_{top}", reduced.crop(box)


def cut_area(image: Image.Image, area: Area, tiles: Tiles) -> Iterator[tuple[str, Image.Image]]:
    """(name, tile) of an area, row by row; the name is the tile's place in the image, `{left}_{top}` in three digits or more."""
    stride = area.stride or tiles.stride
    for y in _starts(area.height, tiles.height, stride, flush=tiles.flush):
        for x in _starts(area.width, tiles.width, stride, flush=tiles.flush):
            left, top = area.left + x, area.top + y
            box = (left, top, min(area.right, left + tiles.width), min(area.bottom, top + tiles.height))
            yield f"{left:03d}_{top:03d}", image.crop(box)


def _starts(length: int, side: int, stride: int, *, flush: bool) -> list[int]:
    """Where tiles begin along a length; one tile where it is no longer than a side."""
    last = max(0, length - side)
    starts = list(range(0, last + 1, stride))
    return [*starts, last] if flush and starts[-1] != last else starts
