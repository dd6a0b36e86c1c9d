"""Images of 16 bits, and images too large to hold: read as rows, and written from a file of rows, in bounded memory.

The reader and writer is libvips (https://www.libvips.org), which decodes and encodes row by row; Pillow holds the
whole image, and makes 8 bits of 16-bit RGB. What is written comes from an uncompressed file, so that encoding can
follow later in another thread: room for it is needed on the disk, not in memory.

Held in memory all the same, by their formats: interlaced PNG, progressive JPEG, WebP, and whatever must be turned
upright and is below 100 MB (above, libvips uses a temporary file).
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from srdist.images.decode import MAX_PIXELS, OTHER_SAMPLES, UnreadableImageError, decoding
from srdist.images.formats import too_many_pixels
from srdist.images.photo import MAX_SIDE, WRITABLE, UnwritableImageError, colour_profile
from srdist.images.strange import vips
from srdist.machine.files import named_in_errors

STREAMED = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff"})
"""Suffixes of what libvips can read row by row here; other large files are read whole by Pillow."""
FORGOTTEN_BYTES = 1 << 23
"""Encoded rows leave the process's memory in portions of this size, a multiple of every page size."""


def is_deep(data: bytes) -> bool:
    """Whether an image file's samples have 16 bits: a look at its first bytes (PNG), or at its tags (TIFF)."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return data[24:25] == b"\x10"
    if data[:2] in (b"II", b"MM"):
        try:
            with decoding("no tags"):
                return bool(vips().Image.new_from_buffer(data, "").format == "ushort")
        except UnreadableImageError:
            return False
    return False


class RowReader:
    """An image file as rows from top to bottom, upright, of 1 to 4 channels, uint8 or uint16.

    Raises:
        UnreadableImageError: from the constructor or from `rows`.
    """

    @decoding("cannot be decoded")
    def __init__(self, path: Path) -> None:
        pyvips = vips()
        notes: list[str] = []
        image = pyvips.Image.new_from_file(str(path), access="sequential", fail_on="error")
        if _field(image, "orientation", 1) != 1:
            # Turning needs the last row first: decoded whole, into memory or a temporary file.
            image = pyvips.Image.new_from_file(str(path), access="random", fail_on="error").autorot()
        if (frames := _field(image, "n-pages", 1)) > 1:
            notes.append(f"first of {frames} frames")
        _refuse_other_samples(image)
        self.icc = colour_profile(_field(image, "icc-profile-data", None))
        if image.interpretation == "cmyk":
            image, self.icc = image.icc_transform("srgb", embedded=True, depth=8), None
        elif image.interpretation not in ("srgb", "rgb16", "b-w", "grey16", "rgb"):
            image = image.colourspace("srgb")
        self.height, self.width, self.channels = int(image.height), int(image.width), int(image.bands)
        self.dtype = np.dtype(np.uint8 if image.format == "uchar" else np.uint16)
        self.exif = _exif_of(_field(image, "exif-data", None))
        self.notes = tuple(notes)
        self._image = image
        self._region: Any = None

    @decoding("cannot be decoded")
    def rows(self, start: int, stop: int) -> Shaped[np.ndarray, "h w c"]:
        """Rows start to stop; starts must not go back."""
        if start == stop:
            return np.empty((0, self.width, self.channels), self.dtype)
        if self._region is None:  # here, because a region belongs to the thread that made it
            self._region = vips().Region.new(self._image)
        data = self._region.fetch(0, start, self.width, stop - start)
        return np.frombuffer(data, self.dtype).reshape(stop - start, self.width, self.channels)


@dataclass(frozen=True, slots=True)
class RawPhoto:
    """Pixels in an uncompressed file, and what belongs to them."""

    path: Path
    height: int
    width: int
    channels: int
    dtype: np.dtype[Any]
    icc: bytes | None
    exif: bytes | None
    notes: tuple[str, ...]


def encode_raw(photo: RawPhoto, target: Path, *, suffix: str, quality: int) -> tuple[str, ...]:
    """Encode into the file `target` in the format of `suffix`; returns what the format could not hold.

    Raises:
        UnwritableImageError: a side is longer than the format can hold.
    """
    pyvips = vips()
    kind = WRITABLE[suffix]
    if max(photo.height, photo.width) > MAX_SIDE.get(kind, 1 << 30):
        raise UnwritableImageError(
            f"{photo.width}x{photo.height}: {kind} holds at most {MAX_SIDE[kind]} pixels a side, use --format png"
        )
    deep, grey = photo.dtype == np.uint16, photo.channels < 3
    with photo.path.open("rb") as file:
        rows = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    image = pyvips.Image.new_from_memory(
        rows, photo.width, photo.height, photo.channels, "ushort" if deep else "uchar"
    ).copy(interpretation=("grey16" if grey else "rgb16") if deep else ("b-w" if grey else "srgb"))
    notes: list[str] = []
    if photo.channels in (2, 4) and kind in ("JPEG", "PPM", "BMP"):
        peak = 65535 if deep else 255
        image = image.flatten(background=[peak] * (photo.channels - 1), max_alpha=peak).cast(image.format)
        notes.append(f"{kind} holds no transparency: laid on white")
    if deep and kind in ("JPEG", "WEBP", "BMP"):
        image = (image / 257).rint().cast("uchar").copy(interpretation="b-w" if grey else "srgb")
        notes.append(f"{kind} holds 8 bits a sample")
    image = image.copy()
    for name, blob in (("icc-profile-data", photo.icc), ("exif-data", photo.exif)):
        if blob:
            image.set_type(pyvips.GValue.blob_type, name, blob)
    _let_go_of_rows(image, rows)
    try:
        match kind:
            case "JPEG":
                image.jpegsave(str(target), Q=quality, subsample_mode="off")
            case "WEBP":
                image.webpsave(str(target), Q=quality, effort=4)
            case "PNG":
                # As small as Pillow's level 1 and twice as fast (docs/log.md).
                image.pngsave(str(target), compression=3, filter="up")
            case "TIFF":
                large = photo.path.stat().st_size > 3 << 30
                image.tiffsave(str(target), compression="deflate", predictor="horizontal", bigtiff=large)
            case "PPM":
                _save_pnm(image, target)
            case "BMP":
                Image.fromarray(image.numpy()).save(target, "BMP")  # whole: Pillow has no other way
    except pyvips.Error as error:
        # libvips drops the number of a write error: the disk is asked once more.
        with named_in_errors(target), target.open("ab") as file:
            file.write(bytes(1 << 20))
            os.fsync(file.fileno())
        raise OSError(errno.EIO, f"libvips: {_one_line(error)}", str(target)) from error
    return tuple(notes)


def _save_pnm(image: Any, target: Path) -> None:
    """PGM or PPM (netpbm's pgm(5), ppm(5)): a line of text, then the samples, of two bytes the greater first."""
    deep = image.format == "ushort"
    with target.open("wb") as file:
        header = f"P{5 if image.bands == 1 else 6}\n{image.width} {image.height}\n{65535 if deep else 255}\n"
        file.write(header.encode())
        file.flush()
        if deep and sys.byteorder == "little":
            image = image.byteswap()
        image.rawsave_target(vips().Target.new_to_descriptor(file.fileno()))


def _let_go_of_rows(image: Any, rows: mmap.mmap) -> None:
    """While `image` is saved, take the rows behind it out of this process's memory; read again, they come back."""
    gone = 0

    def step(_image: Any, progress: Any) -> None:
        nonlocal gone
        done = len(rows) * progress.npels // progress.tpels // FORGOTTEN_BYTES * FORGOTTEN_BYTES
        if done > gone:
            rows.madvise(mmap.MADV_DONTNEED, gone, done - gone)
            gone = done

    image.set_progress(True)
    image.signal_connect("eval", step)


def _refuse_other_samples(image: Any) -> None:
    if image.format not in ("uchar", "ushort"):
        raise UnreadableImageError(OTHER_SAMPLES)
    if image.bands > 4:
        raise UnreadableImageError(f"{image.bands} channels, expected 1 to 4")
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableImageError(too_many_pixels((image.width, image.height), limit=MAX_PIXELS))


def _exif_of(block: bytes | None) -> bytes | None:
    if not block:
        return None
    exif = Image.Exif()
    try:
        with decoding("EXIF not readable"):
            exif.load(bytes(block))
            exif.pop(0x0112, None)  # orientation: the pixels are upright
            return exif.tobytes()
    except UnreadableImageError:
        return None


def _field(image: Any, name: str, default: Any) -> Any:
    return image.get(name) if image.get_typeof(name) else default


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
