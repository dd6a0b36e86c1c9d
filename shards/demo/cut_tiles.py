"""Cut the demo set: four photos of scikit-image's wheel in, JPEG tiles of CelebA's size out, one folder a split.

Usage: python shards/demo/cut_tiles.py DIR

The photos (astronaut: NASA, public domain; chelsea, coffee and rocket: CC0) come with the wheel, so this needs no
network. Each photo is divided into areas first and cut afterwards, so no pixel that is held out is trained on;
tiles overlap inside an area only.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from srdist.machine.files import write_bytes

WIDTH, HEIGHT = 178, 218

# photo, split, left, top, right, bottom of the area, stride between its tiles; in pixels
AREAS = (
    ("astronaut", "train", 0, 0, 334, 512, 16),
    ("astronaut", "test", 334, 0, 512, 256, 91),
    ("astronaut", "val", 334, 256, 512, 512, 91),
    ("chelsea", "train", 0, 0, 273, 300, 16),
    ("chelsea", "test", 273, 0, 451, 300, 82),
    ("coffee", "val", 0, 0, 178, 400, 91),
    ("coffee", "train", 178, 0, 422, 400, 16),
    ("coffee", "test", 422, 0, 600, 400, 91),
    ("rocket", "val", 0, 0, 178, 427, 104),
    ("rocket", "train", 178, 0, 462, 427, 16),
    ("rocket", "test", 462, 0, 640, 427, 104),
)


def tiles() -> Iterator[tuple[str, np.ndarray]]:
    """Every tile as (path below the set's folder, uint8 [h, w, 3])."""
    for photo, split, left, top, right, bottom, stride in AREAS:
        image = getattr(data, photo)()
        for y in range(top, bottom - HEIGHT + 1, stride):
            for x in range(left, right - WIDTH + 1, stride):
                yield f"{split}/{photo}_{x:03d}_{y:03d}.jpg", image[y : y + HEIGHT, x : x + WIDTH]


def main(folder: Path) -> None:
    """Cut all tiles into `folder`, replacing what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, tile in tiles():
        encoded = io.BytesIO()
        Image.fromarray(tile).save(encoded, "JPEG", quality=95, subsampling=0)
        write_bytes(folder / name, encoded.getvalue())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
