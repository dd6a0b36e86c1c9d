"""Damaged files, met by what reads them: the right result or one line, never anything else.

`python -m benchmarks.fuzz [--part images|state] [--quick] [--json FILE] [--seed S] [--count N]`. The images are of every
format and go through every way of decoding: pixels or the one error. The state is what srdist itself writes, met by its
commands: fuzzstate.py. File number i of seed S is the same at every run, so that a finding is repeated with
`--seed S --count 1 --first i`. Exit code 1 where something was found.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyvips
import torch
from PIL import Image

from benchmarks import fuzzstate
from benchmarks.loader import machine
from benchmarks.ownfolders import working_folder
from srdist.images.decode import UnreadableImageError, decode_into, decode_rgb, image_size
from srdist.images.photo import decode_photo, encode_photo
from srdist.images.rows import is_deep

SLOW_S = 20.0
"""An image of 60x48 pixels that takes longer, whatever was done to it, is a finding."""

KINDS: dict[str, tuple[str, str, dict[str, object]]] = {
    "jpeg": ("JPEG", "RGB", {}),
    "progressive": ("JPEG", "RGB", {"progressive": True}),
    "cmyk": ("JPEG", "CMYK", {}),
    "png": ("PNG", "RGBA", {}),
    "palette": ("PNG", "P", {}),
    "deep": ("PNG", "I;16", {}),
    "webp": ("WEBP", "RGB", {}),
    "gif": ("GIF", "P", {}),
    "bmp": ("BMP", "RGB", {}),
    "tiff": ("TIFF", "RGB", {}),
    "lzw": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "fax": ("TIFF", "1", {"compression": "group4"}),
    "deflate": ("TIFF", "RGB", {"compression": "tiff_adobe_deflate"}),
    "lab": ("TIFF", "LAB", {}),
    "float": ("TIFF", "F", {}),
    "pgm": ("PPM", "L", {}),
    "ppm": ("PPM", "RGB", {}),
    "avif": ("AVIF", "RGB", {}),
    "jp2": ("JPEG2000", "RGB", {}),
    "tga": ("TGA", "RGB", {}),
    "ico": ("ICO", "RGB", {}),
    "pcx": ("PCX", "RGB", {}),
    "sgi": ("SGI", "RGB", {}),
    "dds": ("DDS", "RGB", {}),
    "icns": ("ICNS", "RGB", {}),
    "im": ("IM", "RGB", {}),
}
"""Seeds: Pillow's format, mode and options."""


@functools.cache
def seeds() -> dict[str, bytes]:
    """A whole image of each kind, with a profile and an EXIF block where its format holds them; HEIC and SVG too."""
    pixels = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((60, 48), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    made = {}
    for name, (kind, mode, options) in KINDS.items():
        wide = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        buffer = io.BytesIO()
        beside = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "AVIF") else {}
        (wide if mode == "I;16" else image.convert(mode)).save(buffer, kind, **options, **beside)
        made[name] = buffer.getvalue()
    heic: bytes = pyvips.Image.new_from_array(np.asarray(image)).heifsave_buffer(compression="av1")
    made["heic"] = heic[:8] + b"heic" + heic[12:]
    made["svg"] = b"<svg xmlns='http://www.w3.org/2000/svg' width='60' height='48'><circle r='30'/></svg>"
    return made


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The bytes cut, overwritten, filled or doubled somewhere."""
    changed = bytearray(data)
    place = chance.randrange(len(data))
    match chance.randrange(5):
        case 0:
            return bytes(changed[:place])
        case 1:
            for _ in range(chance.randint(1, 4)):
                changed[chance.randrange(min(len(data), 200))] = chance.randrange(256)
        case 2:
            for _ in range(chance.randint(1, 20)):
                changed[chance.randrange(len(data))] = chance.randrange(256)
        case 3:
            length = chance.choice([1, 2, 4, 8, 64])
            changed[place : place + length] = bytes([chance.choice([0, 127, 255])]) * length
        case _:
            other = chance.randrange(len(data))
            changed[place:place] = data[other : other + chance.randint(1, 64)]
    return bytes(changed)


def _into(data: bytes) -> None:
    decode_into(data, np.empty((48, 60, 3), np.uint8))


def _there_and_back(data: bytes) -> None:
    encode_photo(decode_photo(data), suffix=".png", quality=90)


WAYS: tuple[Callable[[bytes], object], ...] = (decode_rgb, image_size, _into, _there_and_back, is_deep)


def findings(*, seed: int, first: int, count: int) -> list[dict[str, object]]:
    """What was raised that is not the one error, and what took too long."""
    whole = seeds()
    names = sorted(whole)
    found: list[dict[str, object]] = []
    for number in range(first, first + count):
        chance = random.Random(f"{seed}-{number}")
        name = names[number % len(names)]
        data = mutated(whole[name], chance)
        for way in WAYS:
            began, problem = time.monotonic(), ""
            try:
                way(data)
            except UnreadableImageError as error:
                problem = "more than one line" if "\n" in str(error) else ""
            except Exception as error:  # whatever it is, it is what is looked for
                problem = f"{type(error).__name__}: {error}"
            if time.monotonic() - began > SLOW_S:
                problem = f"took {time.monotonic() - began:.1f} s"
            if problem:
                found.append({"file": number, "kind": name, "way": way.__name__, "problem": problem})
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=["images", "state"], default="images")
    parser.add_argument("--quick", action="store_true", help="500 images, 100 of state")
    parser.add_argument("--count", type=int, help="files [default: 10,000 images, 1,000 of state]")
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    options = parser.parse_args()
    state = options.part == "state"
    count = options.count or ((100 if state else 500) if options.quick else (1_000 if state else 10_000))
    began = time.monotonic()
    if state:
        torch.set_num_threads(1)
        with working_folder() as work:
            found = fuzzstate.findings(
                work, seed=options.seed, first=options.first, count=count, mutated=mutated
            )
        what = f"{count} damaged files of state, {len(fuzzstate.CASES)} kinds and commands"
    else:
        found = findings(seed=options.seed, first=options.first, count=count)
        what = f"{count} damaged images, {len(WAYS)} ways of decoding"
    for one in found:
        print(f"file {one['file']} of seed {options.seed} ({one['kind']}), {one['way']}: {one['problem']}")
    seconds = round(time.monotonic() - began, 1)
    print(f"{what}, {seconds} s: {len(found)} findings")
    if options.json:
        asked = {"part": options.part, "seed": options.seed, "first": options.first, "count": count}
        result = {"machine": machine(), **asked, "seconds": seconds, "findings": found}
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
