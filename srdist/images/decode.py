"""Image files to 8-bit RGB, strictly: what decodes is whole, what does not says why.

Conventions, stated once. An image is RGB, channels first. `_u8` is uint8 0..255; float images are in [0, 1].
`lr` is the low-resolution image, `hr` the high-resolution original, `sr` the network's output; `border` is the
number of pixels shaved from each side before a comparison.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import simplejpeg
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

from srdist.images import strange
from srdist.images.formats import FORMATS, too_many_pixels
from srdist.machine.errors import WorkError

MAX_PIXELS = 1 << 29
"""Images that claim more pixels than this (537 million) are refused before they are decoded."""

# Pillow's own limit is 179 million, and a global: ours stands for it wherever Pillow opens a file.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
# Pillow warns of odd palettes, tags and sizes: none changes the pixels. For good, because warnings.catch_warnings
# mixes up the filters of threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


OTHER_SAMPLES = "samples that are signed, floating point or of other than 1, 2, 4, 8 or 16 bits: expected unsigned ones of 8 or 16 bits"


class UnreadableImageError(WorkError):
    """An image file that cannot be decoded; the message says why, without the file's name."""


@contextmanager
def decoding(failed: str) -> Iterator[None]:
    """Make whatever a decoder raises the failure of that image; also a decorator.

    Args:
        failed: what the message begins with, as "cannot be decoded".
    """
    try:
        yield
    except UnreadableImageError:
        raise
    except MemoryError as error:
        raise UnreadableImageError(f"{failed}: it does not fit into memory") from error
    except Exception as error:
        # Of 5,396 mutated files 19 brought a decoder to raise what it does not promise (RuntimeError, IndexError,
        # TypeError, NotImplementedError): no list of kinds is whole, and one damaged file must not end a job.
        kind = "" if isinstance(error, OSError | ValueError | SyntaxError) else f"{type(error).__name__}: "
        raise UnreadableImageError(f"{failed}: {kind}{' '.join(str(error).split())}") from error


@decoding("cannot be decoded")
def decode_rgb(data: bytes) -> UInt8[Tensor, "3 h w"]:
    """Decode one image file's bytes to 8-bit RGB, upright (EXIF orientation applied).

    Transparency is dropped, grey is repeated, CMYK and palettes are converted; 16-bit grey is scaled by 1/257.

    Raises:
        UnreadableImageError: not an image, truncated, samples of other than 8 or 16 bits, or larger than MAX_PIXELS.
    """
    image = ImageOps.exif_transpose(open_image(data))
    if is_wide(image):
        image = Image.fromarray(grey_u8(image))
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


@decoding("cannot be opened")
def open_image(data: bytes) -> Image.Image:
    """Open one image file's bytes, headers only; refuse what is no image, claims too many pixels, has other samples."""
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        # Raised above twice the limit, and before the size is known here.
        raise UnreadableImageError(too_many_pixels(None, limit=MAX_PIXELS)) from error
    except UnidentifiedImageError as error:
        if _is_other_tiff(data):
            raise UnreadableImageError(OTHER_SAMPLES) from error
        if not strange.is_strange(data):
            what = "not an image that Pillow or libvips knows" if data else "an empty file"
            raise UnreadableImageError(what) from error
        image = strange.open_strange(data, most_pixels=MAX_PIXELS)
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableImageError(too_many_pixels(image.size, limit=MAX_PIXELS))
    _refuse_other_samples(image)
    return image


def is_wide(image: Image.Image) -> bool:
    """Whether a grey image's samples have 16 bits."""
    return image.mode.startswith("I")


def grey_u8(image: Image.Image) -> UInt8[np.ndarray, "h w"]:
    """8-bit levels of a grey image of 16 bits: value / 257, rounded."""
    return ((np.asarray(image.convert("I"), dtype=np.int64) + 128) // 257).astype(np.uint8)


def _refuse_other_samples(image: Image.Image) -> None:
    # No file states the black and white of such samples: taken as 16 bits, an image of 0 to 255 would be black.
    wide = image.mode == "I" and image.format != "PPM"  # whose 16 bits Pillow holds in 32
    if image.mode == "F" or wide or (image.format == "TIFF" and _other_tiff(getattr(image, "tag_v2", {}))):
        raise UnreadableImageError(OTHER_SAMPLES)


def _is_other_tiff(data: bytes) -> bool:
    """Whether a file that Pillow does not open is a TIFF of other samples than are read here."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return False
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
    except Exception:  # a damaged header, of which Pillow's own complaint is told
        return False
    return _other_tiff(tags)


def _other_tiff(tags: Mapping[int, Any]) -> bool:
    """By a TIFF's tags BitsPerSample and SampleFormat: 1 is unsigned, 4 undefined."""
    bits, kinds = tags.get(258, ()), tags.get(339, ())
    return bool(set(bits) - {1, 2, 4, 8, 16} or set(kinds) - {1, 4})


@decoding("cannot be opened")
def image_size(data: bytes) -> tuple[int, int]:
    """(height, width) of an image file's bytes as it will be decoded (upright), from its header alone.

    Raises:
        UnreadableImageError: not an image, or one that claims more than MAX_PIXELS.
    """
    return _inspect(data)[0]


@decoding("cannot be decoded")
def decode_into(data: bytes, out_u8: UInt8[np.ndarray, "h w 3"]) -> None:
    """Decode one image file's bytes into `out_u8`, strictly: the same pixels as `decode_rgb`, or an error.

    JPEGs go through simplejpeg (libjpeg-turbo): bit-identical to Pillow, about twice as fast, and it refuses
    damaged files that Pillow accepts.

    Raises:
        UnreadableImageError: damaged, or not of the size of `out_u8` (said before anything is decoded).
    """
    if _decoded_at_once(data, out_u8):
        return
    (height, width), orientation, turbo = _inspect(data)
    if (height, width) != out_u8.shape[:2]:
        raise UnreadableImageError(
            f"is {height}x{width} (height x width), expected {out_u8.shape[0]}x{out_u8.shape[1]}"
        )
    if not turbo:
        image_u8 = decode_rgb(data).permute(1, 2, 0).numpy()
        if image_u8.shape != out_u8.shape:
            raise UnreadableImageError(f"decodes to {image_u8.shape}, its header says {out_u8.shape}")
        out_u8[...] = image_u8
        return
    with decoding("damaged JPEG"):
        decoded = simplejpeg.decode_jpeg(data, "RGB", buffer=out_u8 if orientation == 1 else None)
    if orientation != 1:
        out_u8[...] = _upright(decoded, orientation)


def _decoded_at_once(data: bytes, out_u8: UInt8[np.ndarray, "h w 3"]) -> bool:
    """Decode an upright, sound JPEG of the expected size without a look at its header first: a tenth faster.

    False: it is something else, and `out_u8` may hold anything. A header that claims more pixels than `out_u8` has
    is refused before they are decoded.
    """
    if _jpeg_components(data) not in (1, 3) or b"Exif\0\0" in data:
        return False
    try:
        shape: tuple[int, ...] = simplejpeg.decode_jpeg(data, "RGB", buffer=out_u8).shape
    except ValueError:
        return False
    return shape == out_u8.shape


def _jpeg_components(data: bytes) -> int:
    """Colour components by the frame header of a JPEG (ITU-T T.81, B.2.2); 0 where no frame header is found."""
    place = 2 if data[:3] == b"\xff\xd8\xff" else len(data)
    while len(segment := data[place : place + 10]) == 10 and segment[0] == 0xFF:
        if 0xC0 <= segment[1] <= 0xCF and segment[1] not in (0xC4, 0xC8, 0xCC):
            return segment[9]
        place += 2 + int.from_bytes(segment[2:4])
    return 0


def _inspect(data: bytes) -> tuple[tuple[int, int], int, bool]:
    """Upright (height, width), Exif orientation (1 to 8), and whether simplejpeg decodes it to RGB as Pillow does."""
    jpeg = data[:3] == b"\xff\xd8\xff"
    size = _turbo_size(data) if jpeg else None
    # The search costs 2 us where opening the file with Pillow costs 20; a false alarm costs speed only.
    if size is not None and b"Exif\0\0" not in data:
        return size, 1, True
    image = open_image(data)
    with decoding("damaged Exif"):
        # Pillow turns a TIFF by itself, and says its size as turned.
        orientation = 1 if image.format == "TIFF" else image.getexif().get(0x0112, 1)
    orientation = orientation if orientation in range(1, 9) else 1
    stored = size or (image.height, image.width)
    return stored[::-1] if orientation >= 5 else stored, orientation, size is not None


def _turbo_size(data: bytes) -> tuple[int, int] | None:
    """The stored (height, width) of a JPEG that simplejpeg decodes to RGB as Pillow does; None for all else."""
    try:
        stored_height, stored_width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None  # Pillow says what is wrong with it, or knows a rare subsampling that TurboJPEG does not.
    height, width = int(stored_height), int(stored_width)
    if height * width > MAX_PIXELS:
        raise UnreadableImageError(too_many_pixels((width, height), limit=MAX_PIXELS))
    return (height, width) if colours in ("YCbCr", "Gray", "RGB") else None


def _upright(image_u8: UInt8[np.ndarray, "h w 3"], orientation: int) -> UInt8[np.ndarray, ...]:
    if orientation >= 5:
        image_u8 = image_u8.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image_u8 = image_u8[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image_u8 = image_u8[::-1]
    return image_u8
