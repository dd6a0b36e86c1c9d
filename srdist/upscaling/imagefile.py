"""One image file on its way: read whole or as rows, put through the network, ready to be stored.

Here it is decided how: ordinary images are decoded by Pillow and held; images of 16 bits or very many pixels go in strips
through libvips. What comes out is a function that encodes, so that another thread can call it.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from srdist.images.folder import open_regular, read_regular
from srdist.images.photo import Photo, decode_photo, encode_photo
from srdist.images.rows import STREAMED, RawPhoto, RowReader, encode_raw, is_deep
from srdist.networks.tilednetwork import TiledNetwork
from srdist.upscaling.strips import upscale_rows

STREAM_PIXELS = 1 << 25
"""Output pixels of an image from which it is read and written in strips."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """An input, decoded or ready to be read in strips."""

    pixels: Photo | RowReader
    sha256: str
    """Of the file."""

    @property
    def in_strips(self) -> bool:
        """Whether it is never held whole: what is made of it waits on the disk."""
        return isinstance(self.pixels, RowReader)

    @property
    def pixel_count(self) -> int:
        """Width times height."""
        if isinstance(self.pixels, RowReader):
            return self.pixels.height * self.pixels.width
        height, width, _ = self.pixels.pixels.shape
        return int(height * width)


class Store(Protocol):
    """Encodes one upscaled image into the file `target`; returns what was lost between input and output."""

    def __call__(self, target: Path, *, suffix: str, quality: int) -> tuple[str, ...]:
        """Write in the format of `suffix` (a key of photo.WRITABLE); ValueError where it cannot hold the image."""


def load(path: Path, *, output_pixels: int) -> Loaded:
    """Read one image file: ordinary ones at once, those of 16 bits or many pixels as rows.

    Raises:
        OSError, UnreadableImageError.
    """
    if path.suffix.lower() in STREAMED and output_pixels > STREAM_PIXELS:
        with open_regular(path) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return Loaded(RowReader(path), sha256)
    data = read_regular(path)
    sha256 = hashlib.sha256(data).hexdigest()
    deep = is_deep(data)
    return Loaded(RowReader(path) if deep else decode_photo(data), sha256)


def store_photo(photo: Photo, target: Path, *, suffix: str, quality: int) -> tuple[str, ...]:
    """Encode upscaled pixels into the file `target`; what was lost on the whole way."""
    data, lost = encode_photo(photo, suffix=suffix, quality=quality)
    target.write_bytes(data)
    return photo.notes + lost


def store_raw(photo: RawPhoto, target: Path, *, suffix: str, quality: int) -> tuple[str, ...]:
    """Encode upscaled rows into the file `target`, and remove their raw file."""
    try:
        return photo.notes + encode_raw(photo, target, suffix=suffix, quality=quality)
    finally:
        photo.path.unlink(missing_ok=True)


def stores(loaded: Sequence[Loaded], tiled: TiledNetwork, raws: Iterator[Path]) -> list[Store]:
    """Run the network on one image read as rows, or on several ordinary ones that share a batch; what will store each.

    Raises:
        UnreadableImageError: rows that cannot be decoded.
    """
    if isinstance(reader := loaded[0].pixels, RowReader):
        raw = next(raws)
        try:
            return [functools.partial(store_raw, upscale_rows(reader, tiled, raw))]
        except BaseException:
            raw.unlink(missing_ok=True)
            raise
    photos = [one.pixels for one in loaded if isinstance(one.pixels, Photo)]
    upscaled = tiled.upscale_many([photo.pixels for photo in photos])
    return [
        functools.partial(store_photo, replace(photo, pixels=pixels))
        for photo, pixels in zip(photos, upscaled, strict=True)
    ]


def share_a_batch(one: Loaded, other: Loaded, tiled: TiledNetwork) -> bool:
    """Whether two images may; one that is read as rows shares with none."""
    if not (isinstance(one.pixels, Photo) and isinstance(other.pixels, Photo)):
        return False
    a, b = one.pixels.pixels, other.pixels.pixels
    return a.dtype == b.dtype and tiled.fit_one_batch(a.shape, b.shape)
