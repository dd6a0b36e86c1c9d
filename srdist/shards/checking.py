"""Which images can be packed: each is read and decoded once, strictly, so that what is damaged is found before a training."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from srdist.images.decode import UnreadableImageError, decode_into, image_size
from srdist.images.folder import read_regular
from srdist.shards.plan import Partner, Source
from srdist.shards.reader import MAX_BYTES, MAX_SIDE
from srdist.shards.threads import in_threads


@dataclass(frozen=True, slots=True)
class CheckedLR:
    """The LR image of a pair that was read and decoded."""

    size: int
    crc32: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Checked:
    """An image, or a pair, that was read and decoded: what the index says of it."""

    source: Source
    size: int
    crc32: int
    height: int
    width: int
    lr: CheckedLR | None = None


def check_all(
    sources: Sequence[Source], *, min_side: int, threads: int
) -> tuple[list[Checked], list[tuple[str, str, str]]]:
    """The images that can be packed, in order, and (path, kind, reason) of those that cannot."""
    checked: list[Checked] = []
    unusable: list[tuple[str, str, str]] = []
    for result in in_threads(lambda source: _check(source, min_side), sources, threads, "checking images"):
        if isinstance(result, Checked):
            checked.append(result)
        else:
            unusable.append(result)
    return checked, unusable


def _check(source: Source, min_side: int) -> Checked | tuple[str, str, str]:
    try:
        data = read_regular(source.file)
        height, width = check_image(data, min_side=min_side)
    except OSError as error:
        return source.relative, "unreadable", error.strerror or str(error)
    except UnreadableImageError as error:
        return source.relative, "unreadable", str(error)
    except TooSmallError as error:
        return source.relative, "too small", str(error)
    checked = Checked(source, len(data), zlib.crc32(data), height, width)
    return checked if source.lr is None else _with_lr(checked, source.lr)


def _with_lr(hr: Checked, partner: Partner) -> Checked | tuple[str, str, str]:
    place = f"its LR image {partner.relative}"
    try:
        data = read_regular(partner.file)
        height, width = check_image(data, min_side=1)
    except OSError as error:
        return hr.source.relative, "unreadable", f"{place}: {error.strerror or error}"
    except (UnreadableImageError, TooSmallError) as error:
        return hr.source.relative, "unreadable", f"{place}: {error}"
    return replace(hr, lr=CheckedLR(len(data), zlib.crc32(data), height, width))


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
    if min(height, width) < min_side:
        raise TooSmallError(f"is {height}x{width} (height x width), below min_side {min_side}")
    decode_into(data, np.empty((height, width, 3), np.uint8))
    return height, width
