"""Formats that Pillow does not know and libvips does: HEIC photos and SVG drawings, to what Pillow would have made of them.

Also the one place where libvips is loaded: it takes a tenth of a second, and most images need none of it.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from srdist.images.formats import too_many_pixels

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def vips() -> ModuleType:
    """The module pyvips, set up: its threads are the network's, and nothing is read twice."""
    os.environ.setdefault("VIPS_CONCURRENCY", "1")
    import pyvips

    pyvips.cache_set_max(0)
    module: ModuleType = pyvips
    return module


def is_strange(data: bytes) -> bool:
    """Whether a file's first bytes are those of HEIC or SVG (plain or packed)."""
    if data[4:8] == b"ftyp":
        return data[8:12] in _HEIF_BRANDS
    return data[:2] == b"\x1f\x8b" or b"<svg" in data[:4096]


def open_strange(data: bytes, *, most_pixels: int) -> Image.Image:
    """Decode such a file to an 8-bit image; SVG at the size that it states.

    Raises:
        pyvips.Error: not such a file, or damaged.
        ValueError: more than `most_pixels`, said before anything is decoded.
    """
    image = vips().Image.new_from_buffer(data, "", fail_on="error")
    if image.width * image.height > most_pixels:
        raise ValueError(too_many_pixels((image.width, image.height), limit=most_pixels))
    deep = image.format == "ushort"
    if image.interpretation not in ("srgb", "b-w"):
        image = image.colourspace("b-w" if image.bands < 3 else "srgb")
    pixels = np.asarray(image.cast("uchar").numpy())
    opened = Image.fromarray(pixels.squeeze(2) if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
    opened.info.update(_beside(image), deep=deep)
    return opened


def strange_size(path: Path) -> tuple[int, int]:
    """Width and height of such a file, from its header.

    Raises:
        pyvips.Error: not such a file.
    """
    image = vips().Image.new_from_file(str(path))
    return int(image.width), int(image.height)


def _beside(image: Any) -> dict[str, bytes]:
    beside = {}
    if image.get_typeof("icc-profile-data"):
        beside["icc_profile"] = bytes(image.get("icc-profile-data"))
    if image.get_typeof("exif-data"):
        exif = Image.Exif()
        exif.load(bytes(image.get("exif-data")))
        exif.pop(0x0112, None)  # orientation: the pixels are upright
        beside["exif"] = exif.tobytes()
    return beside
