"""Any image file to pixels and back, with what travels beside them: transparency, ICC profile, EXIF.

In goes a file of any mode that Pillow reads; out come uint8 pixels [h, w, c] with c = 1 (grey), 2 (grey and
alpha), 3 (RGB) or 4 (RGB and alpha). Apart from images/decode.py because training wants plain RGB only; an upscaled
photo must stay what it was: grey stays grey, transparent stays transparent, the colours mean the same.

Profiles are carried, not converted: the network works on the values as stored, and the output gets the same
profile. CMYK is the exception: it is converted to sRGB (through its profile if it has one), which is then dropped.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms, ImageOps

from srdist.images import strange
from srdist.images.decode import UnreadableImageError, decoding, grey_u8, is_wide, open_image
from srdist.images.folder import open_regular
from srdist.images.formats import FORMATS, VIPS_SUFFIXES
from srdist.machine.errors import WorkError

OutputFormat = Literal["jpg", "png", "webp"]

WRITABLE = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".ppm": "PPM",
    ".pgm": "PPM",
}
"""Suffix of an output to Pillow's name of its format. Inputs of another kind (GIF) become PNG."""

MAX_SIDE = {"JPEG": 65_500, "WEBP": 16_383}
"""Longest side that a format can hold, in pixels."""

PNG_LEVEL = 1
"""zlib level of PNG files: see docs/log.md for the measurement."""


@dataclass(frozen=True, slots=True)
class Photo:
    """Pixels and what belongs to them."""

    pixels: UInt8[np.ndarray, "h w c"]
    """1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha; upright; alpha is straight, not premultiplied."""
    icc: bytes | None = None
    """ICC profile of the pixels."""
    exif: bytes | None = None
    """EXIF block, its orientation taken out because the pixels are upright."""
    notes: tuple[str, ...] = ()
    """What was lost in reading, for the receipt: frames that were left out, a profile that did not work."""


class UnwritableImageError(WorkError):
    """Pixels that an image format cannot hold; the message says why, without the file's name."""


def probe_size(path: Path) -> tuple[int, int]:
    """Width and height from the file's header, as stored; (0, 0) where there is no readable header."""
    try:
        with decoding("no size"), open_regular(path) as file:
            if path.suffix.lower() in VIPS_SUFFIXES:
                return strange.strange_size(path)
            with Image.open(file, formats=FORMATS) as image:
                return image.size
    except UnreadableImageError:
        return 0, 0


@decoding("cannot be decoded")
def decode_photo(data: bytes) -> Photo:
    """Decode one image file's bytes; of several frames the first.

    Raises:
        UnreadableImageError: not an image, truncated, a sample format that is not 8 or 16 bit, too many pixels.
    """
    image = open_image(data)
    notes: list[str] = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        notes.append(f"first of {frames} frames")
    if _sixteen_bits(image, data):
        notes.append("16 bits a sample reduced to 8")
    image.load()
    icc = colour_profile(image.info.get("icc_profile"))
    image = _upright(image, notes)
    exif = _exif(image)
    if image.mode == "CMYK":
        image, icc = _from_cmyk(image, icc, notes), None
    return Photo(_pixels(image), icc, exif, tuple(notes))


def encode_photo(photo: Photo, *, suffix: str, quality: int) -> tuple[bytes, tuple[str, ...]]:
    """Encode for a file of this suffix (a key of WRITABLE); also what the format could not hold.

    Args:
        quality: 1 to 100, of JPEG and of lossy WebP.

    Raises:
        UnwritableImageError: a side is longer than the format can hold, or its encoder gives up.
    """
    kind = WRITABLE[suffix]
    height, width, channels = photo.pixels.shape
    if max(height, width) > MAX_SIDE.get(kind, 1 << 30):
        raise UnwritableImageError(
            f"{width}x{height}: {kind} holds at most {MAX_SIDE[kind]} pixels a side, use --format png"
        )
    notes: tuple[str, ...] = ()
    pixels = photo.pixels
    if channels in (2, 4) and kind in ("JPEG", "PPM", "BMP"):
        pixels = over_white(pixels)
        notes = (f"{kind} holds no transparency: laid on white",)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels, mode=_MODES[pixels.shape[2]])
    options: dict[str, Any] = {}
    match kind:
        case "JPEG":
            # 4:4:4: the network's colour edges are part of its output.
            options = {"quality": quality, "subsampling": 0}
        case "WEBP":
            options = {"quality": quality, "method": 4}
        case "PNG":
            options = {"compress_level": PNG_LEVEL}
        case "TIFF":
            options = {"compression": "tiff_adobe_deflate"}
    if kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        options |= {"icc_profile": photo.icc} if photo.icc else {}
        options |= {"exif": photo.exif} if photo.exif else {}
    buffer = io.BytesIO()
    try:
        image.save(buffer, format=kind, **options)
    except Exception as error:
        # What belongs to a photo comes from any file: whatever an encoder raises over it is this image's failure.
        raise UnwritableImageError(f"cannot be encoded as {kind}: {type(error).__name__}: {error}") from error
    return buffer.getvalue(), notes


_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def over_white(pixels: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w d"]:
    """Lay pixels with alpha on white: what a format without transparency can hold."""
    colour, alpha = pixels[..., :-1].astype(np.uint32), pixels[..., -1:].astype(np.uint32)
    peak = np.iinfo(pixels.dtype).max
    return ((colour * alpha + peak * (peak - alpha) + peak // 2) // peak).astype(pixels.dtype)


def colour_profile(icc: bytes | None) -> bytes | None:
    """A profile if it describes grey or RGB values (ICC.1, 7.2.6), which the pixels now are; None for Lab and CMYK."""
    return icc if icc and icc[16:20] in (b"RGB ", b"GRAY") else None


def _sixteen_bits(image: Image.Image, data: bytes) -> bool:
    """Whether samples are stored with more than 8 bits, which Pillow reduces to 8 without a word."""
    match image.format:
        case "PPM":
            peak = re.match(rb"P[2356](?:(?:\s|#[^\n]*\n)+(\d+)){3}", data)
            return peak is not None and int(peak[1]) > 255
        case "JPEG2000":
            # The size segment comes first in a codestream: 38 bytes, then the depth of the first component, less 1.
            place = data.find(b"\xff\x4f\xff\x51")
            return place >= 0 and data[place + 42 : place + 43] > b"\x07"
        case "AVIF":
            place = data.find(b"av1C")  # its third byte holds the flag high_bitdepth
            return place >= 0 and bool(data[place + 6] & 0x40)
        case "SGI":
            return data[3:4] == b"\x02"
        case _:
            return is_wide(image) or bool(image.info.get("deep"))


def _upright(image: Image.Image, notes: list[str]) -> Image.Image:
    try:
        with decoding("EXIF not readable"):
            return ImageOps.exif_transpose(image)
    except UnreadableImageError as error:
        # A damaged EXIF block says nothing about the pixels: they are taken as stored.
        notes.append(str(error))
        return image


def _exif(image: Image.Image) -> bytes | None:
    try:
        with decoding("EXIF not readable"):
            return image.getexif().tobytes() or None if image.info.get("exif") else None
    except UnreadableImageError:
        return None


def _from_cmyk(image: Image.Image, icc: bytes | None, notes: list[str]) -> Image.Image:
    if icc:
        try:
            with decoding("CMYK profile not usable, converted without it"):
                source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
                converted = ImageCms.profileToProfile(
                    image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
                )
                assert converted is not None
                return converted
        except UnreadableImageError as error:
            notes.append(str(error))
    return image.convert("RGB")


def _pixels(image: Image.Image) -> UInt8[np.ndarray, "h w c"]:
    match image.mode:
        case "L" | "LA" | "RGB" | "RGBA" if "transparency" not in image.info:
            pass
        case "1" | "L" if "transparency" not in image.info:
            image = image.convert("L")
        case "1" | "L":
            image = image.convert("LA")
        case "La":
            image = image.convert("LA")
        case "RGBX":
            image = image.convert("RGB")
        case _ if is_wide(image):
            return grey_u8(image)[..., None]
        case _:
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    array = np.array(image)
    return array[..., None] if array.ndim == 2 else array
