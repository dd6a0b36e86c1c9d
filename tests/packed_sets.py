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
Folders = Callable[..., "tuple[Path, Path]"]


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


def lr_of(hr: np.ndarray, *, scale: int = 2) -> np.ndarray:
    """An LR that no degradation makes, the same whichever way round HR stands: the negative of the mean of each square."""
    height, width = hr.shape[0] // scale, hr.shape[1] // scale
    squares = hr.reshape(height, scale, width, scale, 3).astype(np.int64)
    negative: np.ndarray = 255 - squares.sum(axis=(1, 3)) // scale**2
    return negative.astype(np.uint8)


@pytest.fixture
def pair_folders(tmp_path: Path, photos: dict[str, np.ndarray]) -> Folders:
    """Folders hr and lr of `count` crops of real photos and of their `lr_of`, PNG, as 000000.png and 000000x2.png."""

    def make(count: int, *, scale: int = 2, sizes: str = "one", name: str = "pairs") -> tuple[Path, Path]:
        hr_folder, lr_folder = tmp_path / name / "hr", tmp_path / name / "lr"
        hr_folder.mkdir(parents=True)
        lr_folder.mkdir()
        for number in range(count):
            photo = list(photos.values())[number % len(photos)]
            height, width = (24, 20) if sizes == "one" else (16 + number % 3, 18 + number % 4)
            height, width = height * scale, width * scale
            top, left = number * 13 % (photo.shape[0] - height), number * 29 % (photo.shape[1] - width)
            hr = np.ascontiguousarray(photo[top : top + height, left : left + width])
            (hr_folder / f"{number:06d}.png").write_bytes(encoded(hr, "png"))
            (lr_folder / f"{number:06d}x{scale}.png").write_bytes(encoded(lr_of(hr, scale=scale), "png"))
        return hr_folder, lr_folder

    return make


@pytest.fixture
def packed_pairs(tmp_path: Path, pair_folders: Folders) -> Packed:
    """The training split of a packed set of `count` pairs."""

    def make(
        count: int, *, scale: int = 2, shard_samples: int = 10, sizes: str = "one", name: str = "pairset"
    ) -> ShardIndex:
        hr, lr = pair_folders(count, scale=scale, sizes=sizes, name=f"{name}-images")
        recipe = Recipe(name="test", split="hash", fractions={"train": 1.0}, shard_samples=shard_samples)
        pack(recipe, hr, lr=lr, out=tmp_path / name)
        return ShardIndex.open(str(tmp_path / name), "train")

    return make
