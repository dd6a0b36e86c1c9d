"""An image too large to hold through the network: rows in, enlarged rows in an uncompressed file out.

Apart from reading and writing rows (images/rows.py), because only this knows the network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from srdist.images.rows import RawPhoto, RowReader
from srdist.networks.enlarger import Enlarger
from srdist.networks.tiling import paste

STRIP_PIXELS = 1 << 21
"""LR pixels of a strip: what is held of an image at a time, a few times over."""


def enlarge_rows(reader: RowReader, enlarger: Enlarger, raw: Path) -> RawPhoto:
    """Enlarge an image strip by strip into the file `raw`."""
    height, width, s = reader.height, reader.width, enlarger.scale
    around = enlarger.halo + enlarger.blend
    step = max(2 * enlarger.blend, 1, min(enlarger.tile, STRIP_PIXELS // width))
    held = reader.rows(0, 0)
    first = 0  # the image row that `held` begins with
    tail: np.ndarray | None = None  # enlarged rows that the next strip fades into
    with raw.open("wb") as file:
        for top in range(0, height, step):
            bottom = min(top + step, height)
            upper, lower = max(top - enlarger.blend, 0), min(bottom + enlarger.blend, height)
            fresh = reader.rows(first + len(held), min(bottom + around, height))
            start = max(top - around, 0)
            start -= start % enlarger.multiple
            held = np.concatenate([held[start - first :], fresh])
            first = start
            strip = enlarger.enlarge_rows(held, upper - first, lower - first)
            if tail is not None and len(tail):
                joined = np.concatenate([tail, strip[len(tail) :]])
                paste(joined, strip, 0, len(tail))
                strip = joined
            last = (
                len(strip) - (lower - max(bottom - enlarger.blend, 0)) * s if bottom < height else len(strip)
            )
            # Not tofile, whose error says nothing of a full disk.
            file.write(np.ascontiguousarray(strip[:last]).data)
            tail = strip[last:].copy()
    return RawPhoto(
        raw,
        height * enlarger.scale,
        width * enlarger.scale,
        reader.channels,
        reader.dtype,
        reader.icc,
        reader.exif,
        reader.notes,
    )
