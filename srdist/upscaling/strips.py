"""An image too large to hold through the network: rows in, upscaled rows in an uncompressed file out.

Apart from reading and writing rows (images/rows.py), because only this knows the network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from srdist.images.rows import RawPhoto, RowReader
from srdist.networks.tilednetwork import TiledNetwork
from srdist.networks.tiling import paste

STRIP_PIXELS = 1 << 21
"""LR pixels of a strip: what is held of an image at a time, a few times over."""


def upscale_rows(reader: RowReader, tiled: TiledNetwork, raw: Path) -> RawPhoto:
    """Upscale an image strip by strip into the file `raw`."""
    height, width, s = reader.height, reader.width, tiled.scale
    around = tiled.halo + tiled.blend
    step = max(2 * tiled.blend, 1, min(tiled.tile, STRIP_PIXELS // width))
    held = reader.rows(0, 0)
    first = 0  # the image row that `held` begins with
    tail: np.ndarray | None = None  # upscaled rows that the next strip fades into
    with raw.open("wb") as file:
        for top in range(0, height, step):
            bottom = min(top + step, height)
            upper, lower = max(top - tiled.blend, 0), min(bottom + tiled.blend, height)
            fresh = reader.rows(first + len(held), min(bottom + around, height))
            start = max(top - around, 0)
            start -= start % tiled.multiple
            held = np.concatenate([held[start - first :], fresh])
            first = start
            strip = tiled.upscale_rows(held, upper - first, lower - first)
            if tail is not None and len(tail):
                joined = np.concatenate([tail, strip[len(tail) :]])
                paste(joined, strip, 0, len(tail))
                strip = joined
            last = len(strip) - (lower - max(bottom - tiled.blend, 0)) * s if bottom < height else len(strip)
            # Not tofile, whose error says nothing of a full disk.
            file.write(np.ascontiguousarray(strip[:last]).data)
            tail = strip[last:].copy()
    return RawPhoto(
        raw,
        height * tiled.scale,
        width * tiled.scale,
        reader.channels,
        reader.dtype,
        reader.icc,
        reader.exif,
        reader.notes,
    )
