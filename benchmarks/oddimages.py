"""A folder of images as people have them: 16 bits, transparency, grey, CMYK, turned, tiny, and one that goes in strips.

Made from scikit-image's photos, the same bytes every time with the same Pillow and libvips, and without srdist.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyvips
from jaxtyping import UInt8, UInt16
from PIL import Image
from skimage import data

LARGE = (2944, 3008)
"""Height and width whose double is above the 2^25 output pixels from which an image is never held whole."""
_ORIENTATION = 0x0112  # the Exif tag
_TURNED = 6


def make(folder: Path) -> None:
    """Write them all below `folder`."""
    astronaut, chelsea, coffee = data.astronaut(), data.chelsea(), data.coffee()
    (folder / "below").mkdir(parents=True)
    for name, image in _ordinary(astronaut, chelsea).items():
        image.save(folder / name)
    turned = Image.Exif()
    turned[_ORIENTATION] = _TURNED
    Image.fromarray(coffee[:150, :201]).save(folder / "turned.jpg", quality=92, exif=turned)
    _write_deep(folder / "rgb16.png", _deep(chelsea[:140, :90]))
    _write_deep(folder / "below" / "rgb16.tif", _deep(coffee[:61, :77]))
    _write_deep(folder / "grey16.png", _deep(data.camera()[:131, :95, None]))
    # Higher than a tile is: several strips, of 16 bits.
    _write_deep(folder / "tall16.png", _deep(np.tile(astronaut[:, :96], (2, 1, 1))))
    height, width = LARGE
    repeats = (-(-height // coffee.shape[0]), -(-width // coffee.shape[1]), 1)
    large = np.tile(coffee, repeats)[:height, :width]
    Image.fromarray(large).save(folder / "below" / "large.jpg", quality=85)


def _ordinary(
    astronaut: UInt8[np.ndarray, "H W 3"], chelsea: UInt8[np.ndarray, "h w 3"]
) -> dict[str, Image.Image]:
    """Images of 8 bits by the name that they get."""
    rgb = Image.fromarray(astronaut[40:200, 100:241])
    fading = Image.linear_gradient("L").resize(rgb.size)
    clear = rgb.copy()
    clear.putalpha(fading)
    palette = rgb.quantize(32)
    return {
        "rgb.png": rgb,
        "alpha.png": clear,
        "alpha.webp": clear,
        "grey.png": rgb.convert("L"),
        "grey.jpg": rgb.convert("L"),
        "grey_alpha.png": clear.convert("LA"),
        "palette.png": palette,
        "one_bit.png": rgb.convert("1"),
        "cmyk.jpg": rgb.convert("CMYK"),
        "below/rgb.bmp": Image.fromarray(chelsea[:77, :53]),
        "tiny.png": Image.fromarray(chelsea[:3, :5]),
        "one_pixel.png": Image.fromarray(chelsea[:1, :1]),
    }


def _deep(image: UInt8[np.ndarray, "h w c"]) -> UInt16[np.ndarray, "h w c"]:
    """The image with 16 bits, the lower ones in use."""
    low = np.arange(image.size, dtype=np.uint16).reshape(image.shape) * 37 % 256
    deep: UInt16[np.ndarray, "h w c"] = image.astype(np.uint16) * 256 + low
    return deep


def _write_deep(path: Path, image: UInt16[np.ndarray, "h w c"]) -> None:
    height, width, channels = image.shape
    pixels = pyvips.Image.new_from_memory(image.tobytes(), width, height, channels, "ushort")
    pixels.copy(interpretation="grey16" if channels == 1 else "rgb16").write_to_file(str(path))
