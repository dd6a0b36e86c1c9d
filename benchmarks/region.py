"""The part of a JPEG that patches need, decoded alone: what libvips saves beside decoding the whole image, and whether it is the same.

Usage: python -m benchmarks.region [--quick] [--json FILE]

libvips decodes a JPEG row by row from the top and ends below the last row that is asked for. Windows of 96 pixels and 24 around
them, 1, 4 or 16 in a photo, at random places; times are CPU time, whole image and part alternated. Why nothing in srdist
decodes this way: docs/log.md, 2026-11-24.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image

from benchmarks.loader import machine
from srdist.images.strange import vips

WINDOW = 144
SIZES = {1: (1224, 816), 2: (1732, 1155), 4: (2449, 1633), 12: (4243, 2828)}
"""Width and height by megapixels."""
KINDS: dict[str, dict[str, Any]] = {
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:2:0": {"subsampling": 2},
    "gray": {},
    "progressive": {"subsampling": 2, "progressive": True},
    "restart markers": {"subsampling": 2, "restart_marker_blocks": 7},
}
PATCHES = (1, 4, 16)


def photo(size: tuple[int, int], kind: str) -> bytes:
    """A photo of scikit-image's, enlarged to (width, height), as a JPEG of quality 90."""
    from skimage import data

    image = Image.fromarray(data.coffee()).resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.convert("L" if kind == "gray" else "RGB").save(buffer, "JPEG", quality=90, **KINDS[kind])
    return buffer.getvalue()


def rows_around(data: bytes, places: np.ndarray[Any, Any]) -> UInt8[np.ndarray, "h w c"]:
    """The smallest part of a JPEG that holds the windows at `places`, (top, left) each."""
    (top, left), (bottom, right) = places.min(axis=0).tolist(), (places.max(axis=0) + WINDOW).tolist()
    image = vips().Image.new_from_buffer(data, "", access="sequential", fail_on="error")
    part: UInt8[np.ndarray, "h w c"] = np.atleast_3d(
        image.crop(left, top, right - left, bottom - top).numpy()
    )
    return part


def differing(data: bytes, size: tuple[int, int], *, windows: int) -> int:
    """How many of some windows are not the pixels of the whole image."""
    whole, generator, found = simplejpeg.decode_jpeg(data, "RGB"), np.random.default_rng(0), 0
    for _ in range(windows):
        place = generator.integers(0, (size[1] - WINDOW, size[0] - WINDOW), (1, 2))
        top, left = place[0].tolist()
        part = rows_around(data, place)
        found += not (part == whole[top : top + WINDOW, left : left + WINDOW]).all()
    return found


def times(data: bytes, size: tuple[int, int], *, rounds: int) -> dict[str, float]:
    """CPU time, in ms: of the whole image (median), and of the part for each number of patches (mean over places)."""
    buffer, generator = np.empty((size[1], size[0], 3), np.uint8), np.random.default_rng(1)
    seen: dict[str, list[float]] = {"whole": [], **{str(patches): [] for patches in PATCHES}}
    for _ in range(rounds):
        for name, values in seen.items():
            places = generator.integers(
                0, (size[1] - WINDOW, size[0] - WINDOW), (1 if name == "whole" else int(name), 2)
            )
            start = time.process_time()
            if name == "whole":
                simplejpeg.decode_jpeg(data, "RGB", buffer=buffer)
            else:
                rows_around(data, places)
            values.append((time.process_time() - start) * 1e3)
    return {name: (median if name == "whole" else mean)(values) for name, values in seen.items()}


def main() -> None:
    """Compare, measure, print and save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no photo of 12 megapixels")
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    sizes = {mp: size for mp, size in SIZES.items() if mp < 12 or not options.quick}
    odd = (1227, 819)
    same = {kind: differing(photo(odd, kind), odd, windows=5 if options.quick else 40) for kind in KINDS}
    rounds = 5 if options.quick else 20
    rows = [
        (megapixels, kind, times(photo(size, kind), size, rounds=rounds))
        for megapixels, size in sizes.items()
        for kind in ("4:4:4", "4:2:0")
    ]
    print("windows that differ from the whole image: " + ", ".join(f"{kind} {n}" for kind, n in same.items()))
    heads = " | ".join(f"{n} patches, ms" for n in PATCHES)
    print(f"\n| megapixels | | whole, ms | {heads} |" + "\n|" + "---|" * (3 + len(PATCHES)))
    for megapixels, kind, row in rows:
        cells = " | ".join(f"{row[str(n)]:.1f} ({row['whole'] / row[str(n)]:.2f}x)" for n in PATCHES)
        print(f"| {megapixels} | {kind} | {row['whole']:.1f} | {cells} |")
    if options.json:
        options.json.write_text(
            json.dumps({"machine": machine(), "differ": same, "ms": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
