"""What no version may change: a set's name, the order of its samples and every byte of a batch.

The values were computed at the commit before the degradations, the cuts and the stream's settings became values of
their own. A set of images that are a formula, in PNG files written byte by byte: no encoder's version has a part in it.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srdist.degradations.kernel import KernelDegradation
from srdist.shards.pack import pack
from srdist.shards.reader import ShardIndex
from srdist.shards.recipe import Recipe
from srdist.stream.pairs import EvalStream
from srdist.stream.share import Share
from tests.stream.test_pairs import global_batches

MANIFEST_ID = "b66120329c7104c0215f5ef78c7725011d6f0548323294abe26a42a0165443aa"
BATCHES = {
    "bicubic 24 global": "cfb3d7bbd20ab991",
    "bicubic 24 window": "e22b6aa7938eeac7",
    "bicubic None global": "bf4a88ab61215763",
    "bicubic None window": "293edf6363aa2699",
    "bilinear 24 global": "b0dd7de7cf9d3c4f",
    "bilinear 24 window": "116adbf1b3e6fdd4",
    "bilinear None global": "e141992eda7e1400",
    "bilinear None window": "19019628746a17b2",
    "nearest 24 global": "de870fbf052eef8b",
    "nearest 24 window": "14ebec5532cecfa6",
    "nearest None global": "823f83545fa27cc0",
    "nearest None window": "555bb633931d96ad",
    "box 24 global": "01b735ac2b0c91c6",
    "box 24 window": "b11759be30106a2a",
    "box None global": "bc663a8466d0e026",
    "box None window": "33e8439728e662b9",
    "lanczos 24 global": "0bb783e527c02101",
    "lanczos 24 window": "a8121e2bfcd2f87e",
    "lanczos None global": "7dd90e0a07fce1b0",
    "lanczos None window": "996c5b6a870ac14d",
}
WHOLE = "543a194720e42466"


def formula(number: int, height: int, width: int) -> np.ndarray:
    """An image with edges, slopes and something like noise, of integers only."""
    rows, columns, channels = np.ogrid[:height, :width, :3]
    slopes = rows * (number % 7 + 1) + columns * (number % 5 + 2) + channels * 40
    noise = (rows * 7919 + columns * 104_729 + channels * 1_299_709 + number * 15_485_863) % 97
    edge = ((rows // 9 + columns // 11 + number) % 2) * 70
    image: np.ndarray = ((slopes + noise + edge) % 256).astype(np.uint8)
    return image


def stored_png(image: np.ndarray) -> bytes:
    """A PNG file without compression: the same bytes wherever it is written."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, _ = image.shape
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    stored = struct.pack("<BHH", 1, len(rows), len(rows) ^ 0xFFFF) + rows
    pixels = b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(rows))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def formula_set(tmp_path: Path, *, vary: bool) -> ShardIndex:
    """100 images of 54x44, or of several sizes, in shards of 30."""
    images = tmp_path / f"images-{vary}"
    images.mkdir()
    for number in range(100):
        height, width = (40 + number % 5 * 3, 35 + number % 7 * 4) if vary else (54, 44)
        (images / f"{number:03d}.png").write_bytes(stored_png(formula(number, height, width)))
    recipe = Recipe(name="formula", split="hash", fractions={"train": 1.0}, shard_samples=30)
    pack(recipe, images, out=tmp_path / f"set-{vary}")
    return ShardIndex.open(str(tmp_path / f"set-{vary}"), "train")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ShardIndex:
    return formula_set(tmp_path_factory.mktemp("formula"), vary=False)


def digest(steps: list[dict[str, Any]]) -> str:
    """Of every array of every step, in order."""
    found = hashlib.sha256()
    for step in steps:
        for name in ("lr", "hr", "weight", "ids", "positions"):
            array = step[name].contiguous().numpy()
            found.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return found.hexdigest()[:16]


def test_a_sets_name_is_what_it_was(index: ShardIndex) -> None:
    assert index.manifest_id == MANIFEST_ID


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear", "nearest", "box", "lanczos"])
@pytest.mark.parametrize("hr_patch", [24, None])
@pytest.mark.parametrize("order", ["global", "window"])
def test_training_batches_are_what_they_were(
    index: ShardIndex, kernel: str, hr_patch: int | None, order: str
) -> None:
    steps = global_batches(
        index, steps=5, kernel=kernel, hr_patch=hr_patch, order=order, scale=2 if hr_patch is None else 3
    )
    assert digest(steps) == BATCHES[f"{kernel} {hr_patch} {order}"]


def test_evaluation_batches_are_what_they_were(tmp_path: Path) -> None:
    index = formula_set(tmp_path, vary=True)
    pairs = EvalStream(index, KernelDegradation(3, "lanczos"), Share(), batch=8, workers=0)
    names = ("lr", "hr", "weight", "ids", "positions")
    assert digest([{name: getattr(pair, name).clone() for name in names} for pair in pairs]) == WHOLE
