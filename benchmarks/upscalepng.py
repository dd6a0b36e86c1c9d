"""The png part of `python -m benchmarks.upscale`: size against time of encoders and settings."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.lowres import halves


def png(folder: Path, images: Path | None) -> dict[str, Any]:
    """Megapixels a second of one core, and bytes of raw bytes, of each setting."""
    del folder
    import pyvips

    pictures = [np.asarray(Image.fromarray(p).resize((178, 218))) for p in halves(images, 100)]
    megapixels = sum(p.shape[0] * p.shape[1] for p in pictures) / 1e6

    def pillow(level: int) -> Callable[[np.ndarray], int]:
        def encode(pixels: np.ndarray) -> int:
            data = io.BytesIO()
            Image.fromarray(pixels).save(data, "PNG", compress_level=level)
            return data.tell()

        return encode

    def vips(level: int, filter_name: Any) -> Callable[[np.ndarray], int]:
        def encode(pixels: np.ndarray) -> int:
            image = pyvips.Image.new_from_array(pixels).copy(interpretation="srgb")
            return len(image.pngsave_buffer(compression=level, filter=filter_name))

        return encode

    encoders = {f"Pillow, level {level}": pillow(level) for level in (0, 1, 2, 3, 6, 9)}
    encoders |= {
        f"libvips, level {level}, {f}": vips(level, f)
        for level in (1, 3, 6)
        for f in ("none", "sub", "up", "all")
    }
    figures = {}
    print(f"\n{'':28}{'MP/s':>8}{'of raw':>8}")
    for name, encode in encoders.items():
        began = time.process_time()
        size = sum(encode(picture) for picture in pictures)
        rate = megapixels / (time.process_time() - began)
        figures[name] = {"megapixels_per_s": rate, "of_raw": size / sum(p.nbytes for p in pictures)}
        print(f"{name:28}{rate:8.1f}{figures[name]['of_raw']:8.3f}")
    return figures
