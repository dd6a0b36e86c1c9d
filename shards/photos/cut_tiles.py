"""Cut the photos set: six folders of photos in, lossless tiles of 160x160 in three sizes out, with whole images for validation.

Usage: python shards/photos/cut_tiles.py IMAGES DIR

IMAGES holds the folders of FOLDERS. Photos whose long side is over 2,048 pixels are reduced to it first: cameras resolve less
than they store. The reductions to 0.7 and 0.5 are FSRCNN's augmentation.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image

from srdist.machine.files import write_bytes

TILE, STRIDE, SMALLEST = 160, 112, 144
LONGEST = 2048
SIZES = (1.0, 0.7, 0.5)
VAL_SHARE = 0.05
VAL_LONGEST = 520
FOLDERS = ("T91", "BSDS400", "CLIC2025", "CID22", "gb82", "popos")
LEFT_OUT = {
    "BSDS400/302003": "the woman of Set5, in full size",
    "CID22/3316926_opo25u": "the same photo as CID22/844297",
    "T91/t65": "the same image as T91/t36",
}


def is_held_out(path: Path, image: Image.Image) -> bool:
    """Whether an image is for validation: by a hash of its name, so that all its tiles go the same way."""
    drawn = int.from_bytes(hashlib.sha256(path.name.encode()).digest()[:4], "big") < VAL_SHARE * 2**32
    return drawn and max(image.size) <= VAL_LONGEST


def starts(side: int) -> list[int]:
    """Where tiles begin along a side, the last one flush with its end."""
    last = max(0, side - TILE)
    return sorted({*range(0, last, STRIDE), last})


def tiles(image: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    """The tiles of one image, each with a name."""
    largest = min(1.0, LONGEST / max(image.size))
    for size in SIZES:
        width, height = round(image.width * size * largest), round(image.height * size * largest)
        if min(width, height) < SMALLEST:
            continue
        small = (
            image
            if (width, height) == image.size
            else image.resize((width, height), Image.Resampling.LANCZOS)
        )
        for top in starts(height):
            for left in starts(width):
                box = (left, top, min(width, left + TILE), min(height, top + TILE))
                yield f"{width}_{left}_{top}", small.crop(box)


def cut(path: Path, folder: Path) -> None:
    """Cut one image."""
    image = Image.open(path).convert("RGB")
    held_out = is_held_out(path, image)
    for name, tile in [("whole", image)] if held_out else tiles(image):
        encoded = io.BytesIO()
        tile.save(encoded, "PNG", compress_level=1)
        target = folder / ("val" if held_out else "train") / f"{path.parent.name}_{path.stem}_{name}.png"
        write_bytes(target, encoded.getvalue())


def main(images: Path, folder: Path) -> None:
    """Cut all tiles into `folder`, replacing what is there."""
    paths = [
        path
        for name in FOLDERS
        for path in sorted((images / name).glob("*.*"))
        if f"{name}/{path.stem}" not in LEFT_OUT
    ]
    if not paths:
        sys.exit(f"{images}: expected the folders {', '.join(FOLDERS)} with images")
    shutil.rmtree(folder, ignore_errors=True)
    with ProcessPoolExecutor(2) as processes:
        list(processes.map(cut, paths, [folder] * len(paths)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
