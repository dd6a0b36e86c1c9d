"""Which images can be packed: each is read and decoded once, strictly, so that what is damaged is found before a training.

Those that the recipe cuts are cut here, since here is their one decoding: their tiles wait in a spool.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from srdist.images.decode import UnreadableImageError, decode_into, image_size
from srdist.images.folder import read_regular
from srdist.shards.plan import NO_TILE, Partner, Source, name_problem
from srdist.shards.reader import MAX_BYTES, MAX_SIDE
from srdist.shards.recipe import Recipe
from srdist.shards.spool import Spool
from srdist.shards.threads import in_threads
from srdist.shards.tiles import Tiles, cut, cut_area

LeftOut = tuple[str, str, str]
"""Path below the folder of the images, kind of reason, reason."""


@dataclass(frozen=True, slots=True)
class CheckedLR:
    """The LR image of a pair that was read and decoded."""

    size: int
    crc32: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Checked:
    """An image, a pair or a tile that was read and decoded, or cut: what the index says of it."""

    source: Source
    size: int
    crc32: int
    height: int
    width: int
    lr: CheckedLR | None = None
    spooled: int | None = None
    """Of a tile, where its bytes lie in the spool; None: they are those of the file."""


def check_all(
    sources: Sequence[Source], recipe: Recipe, spool: Spool, *, threads: int
) -> tuple[list[Checked], list[LeftOut]]:
    """The samples that can be packed, in the order of their images, and the images that cannot."""
    checked: list[Checked] = []
    unusable: list[LeftOut] = []
    for result in in_threads(
        lambda source: _check(source, recipe, spool), sources, threads, "checking images"
    ):
        if isinstance(result, list):
            checked += result
        else:
            unusable.append(result)
    return checked, unusable


def _check(source: Source, recipe: Recipe, spool: Spool) -> list[Checked] | LeftOut:
    image = None
    try:
        data = read_regular(source.file)
        if recipe.held_out_longest is not None and max(image_size(data)) > recipe.held_out_longest:
            source = replace(source, split="train")
        if recipe.tiles is not None and (source.areas or recipe.cuts(source.split)):
            image = Image.fromarray(_decoded(data, min_side=recipe.min_side))
        else:
            height, width = check_image(data, min_side=recipe.min_side)
    except OSError as error:
        return source.relative, "unreadable", error.strerror or str(error)
    except UnreadableImageError as error:
        return source.relative, "unreadable", str(error)
    except TooSmallError as error:
        return source.relative, "too small", str(error)
    if image is not None and recipe.tiles is not None:
        # Not above: what the spool's disk refuses is no fault of the image.
        return _cut(source, image, recipe.tiles, spool)
    checked = Checked(source, len(data), zlib.crc32(data), height, width)
    result = checked if source.lr is None else _with_lr(checked, source.lr)
    return [result] if isinstance(result, Checked) else result


def _with_lr(hr: Checked, partner: Partner) -> Checked | LeftOut:
    place = f"its LR image {partner.relative}"
    try:
        data = read_regular(partner.file)
        height, width = check_image(data, min_side=1)
    except OSError as error:
        return hr.source.relative, "unreadable", f"{place}: {error.strerror or error}"
    except (UnreadableImageError, TooSmallError) as error:
        return hr.source.relative, "unreadable", f"{place}: {error}"
    return replace(hr, lr=CheckedLR(len(data), zlib.crc32(data), height, width))


def _cut(source: Source, image: Image.Image, tiles: Tiles, spool: Spool) -> list[Checked] | LeftOut:
    width, height = image.size
    for area in source.areas:
        if area.right > width or area.bottom > height:
            corners = f"columns {area.left} to {area.right}, rows {area.top} to {area.bottom}"
            reason = f"is {height}x{width} (height x width), its area of {corners} is not inside of it"
            return source.relative, "area", reason
    checked = []
    for tile, pixels in _tiles(source, image, tiles):
        if problem := name_problem(tile.members[0]):
            return source.relative, "name", f"of a tile of it: {problem}"
        data = tiles.encode(pixels)
        place = spool.append(data)
        one = Checked(tile, len(data), zlib.crc32(data), pixels.height, pixels.width, spooled=place)
        checked.append(one)
    if not checked:
        smallest = "x".join(map(str, tiles.smallest_sides))
        return (
            source.relative,
            NO_TILE,
            f"is {height}x{width} (height x width): no tile of {smallest} or more in it",
        )
    return checked


def _tiles(source: Source, image: Image.Image, tiles: Tiles) -> Iterator[tuple[Source, Image.Image]]:
    """Each tile as a source with a split and a key of its own."""
    if not source.areas:
        for name, tile in cut(image, tiles):
            yield replace(source, key=f"{source.key}_{name}", suffix=tiles.suffix), tile
    for area in source.areas:
        for name, tile in cut_area(image, area, tiles):
            key = f"{source.key}_{name}"
            yield replace(source, split=area.split, key=key, suffix=tiles.suffix), tile


class TooSmallError(ValueError):
    """An image with a side below the recipe's."""


def check_image(data: bytes, *, min_side: int) -> tuple[int, int]:
    """(height, width) of an image that decodes strictly and fits the index.

    Raises:
        UnreadableImageError: damaged, or larger than the index can say.
        TooSmallError: a side below `min_side` pixels.
    """
    height, width = image_size(data)
    if max(height, width) > MAX_SIDE or len(data) > MAX_BYTES:
        raise UnreadableImageError(f"of {height}x{width} and {len(data)} bytes is larger than an index holds")
    _decoded(data, min_side=min_side)
    return height, width


def _decoded(data: bytes, *, min_side: int) -> UInt8[np.ndarray, "h w 3"]:
    height, width = image_size(data)
    if min(height, width) < min_side:
        raise TooSmallError(f"is {height}x{width} (height x width), below min_side {min_side}")
    image_u8 = np.empty((height, width, 3), np.uint8)
    decode_into(data, image_u8)
    return image_u8
