"""Packed sets of real images, small enough to be made for a test."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srdist.shards.pack import pack
from srdist.shards.reader import ShardIndex
from srdist.shards.recipe import Recipe

Images = Callable[..., Path]
Packed = Callable[..., ShardIndex]


def encoded(image: np.ndarray, suffix: str) -> bytes:
    """An image file's bytes: JPEG quality 90, or lossless."""
    buffer = io.BytesIO()
    kind = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[suffix]
    Image.fromarray(image).save(buffer, kind, **({"quality": 90} if kind == "JPEG" else {"lossless": True}))
    return buffer.getvalue()


@pytest.fixture
def images(tmp_path: Path, photos: dict[str, np.ndarray]) -> Images:
    """A folder of `count` crops of real photos, all of one size or (sizes="vary") of many."""

    def make(count: int, *, sizes: str = "one", suffix: str = "jpg", name: str = "images") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        photo_list = list(photos.values())
        for number in range(count):
            photo = photo_list[number % len(photo_list)]
            height, width = (54, 44) if sizes == "one" else (40 + number % 5 * 3, 35 + number % 7 * 4)
            top, left = number * 13 % (photo.shape[0] - height), number * 29 % (photo.shape[1] - width)
            data = encoded(photo[top : top + height, left : left + width], suffix)
            (folder / f"{number:06d}.{suffix}").write_bytes(data)
        return folder

    return make


@pytest.fixture
def packed(tmp_path: Path, images: Images) -> Packed:
    """The training split of a packed set of `count` images."""

    def make(
        count: int, *, shard_samples: int = 10, sizes: str = "one", suffix: str = "jpg", name: str = "set"
    ) -> ShardIndex:
        folder = images(count, sizes=sizes, suffix=suffix, name=f"{name}-images")
        recipe = Recipe(name="test", split="hash", fractions={"train": 1.0}, shard_samples=shard_samples)
        pack(recipe, folder, out=tmp_path / name)
        return ShardIndex.open(str(tmp_path / name), "train")

    return make
