"""Cut the general set: T91 and BSDS400 in, lossless tiles of 96x96 in three sizes out, with whole images for validation.

Usage: python shards/general/cut_tiles.py IMAGES DIR

IMAGES holds the folders T91 (the SRCNN paper's 91 images) and BSDS400 (the train and test images of BSDS500; its
validation images are BSD100, a test set of the field, and must not be there). Small tiles, since a training
patch costs the decoding of its whole image; the reductions to 0.7 and 0.5 are FSRCNN's augmentation.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from srdist.machine.files import write_bytes

TILE, STRIDE = 96, 64
SIZES = (1.0, 0.7, 0.5)
VAL_SHARE = 0.05
FOLDERS = ("T91", "BSDS400")


def is_held_out(path: Path) -> bool:
    """Whether an image is for validation: by a hash of its name, so that all its tiles go the same way."""
    return int.from_bytes(hashlib.sha256(path.name.encode()).digest()[:4], "big") < VAL_SHARE * 2**32


def tiles(image: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    """The tiles of one image, each with a name."""
    for size in SIZES:
        width, height = round(image.width * size), round(image.height * size)
        small = image if size == 1 else image.resize((width, height), Image.Resampling.LANCZOS)
        for top in range(0, height - TILE + 1, STRIDE):
            for left in range(0, width - TILE + 1, STRIDE):
                yield f"{width}_{left}_{top}", small.crop((left, top, left + TILE, top + TILE))


def main(images: Path, folder: Path) -> None:
    """Cut all tiles into `folder`, replacing what is there."""
    paths = [path for name in FOLDERS for path in sorted((images / name).glob("*.*"))]
    if not paths:
        sys.exit(f"{images}: expected the folders {' and '.join(FOLDERS)} with images")
    shutil.rmtree(folder, ignore_errors=True)
    for path in paths:
        image = Image.open(path).convert("RGB")
        held_out = is_held_out(path)
        cut = [("whole", image)] if held_out else tiles(image)
        for name, tile in cut:
            encoded = io.BytesIO()
            tile.save(encoded, "PNG", compress_level=1)
            target = folder / ("val" if held_out else "train") / f"{path.parent.name}_{path.stem}_{name}.png"
            write_bytes(target, encoded.getvalue())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
