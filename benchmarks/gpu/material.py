"""What the parts of benchmarks.gpu stand on: a packed set of faces, made where none is given, and photos."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.gpu.sizes import Sizes
from benchmarks.peaks import Numbers
from srdist.machine.errors import UserError
from srdist.shards.pack import pack
from srdist.shards.reader import ShardIndex
from srdist.shards.recipe import Recipe

_GRAIN = (64, 16, 4, 1)
"""Sides of the blocks of noise that a made image is a sum of, in pixels: with less contrast the smaller they are."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """What the device can do at most, as measured by the part `machine`."""

    flops: dict[Numbers, float]
    """Floating point operations a second of matrix products."""
    copy: float
    """Bytes a second, read and written."""


@dataclass(frozen=True, slots=True)
class Material:
    """Where the parts find their images; it travels to each part's process."""

    folder: Path
    """For what the parts write."""
    shards: Path
    """A packed set with splits train and val."""
    device: torch.device
    sizes: Sizes
    peaks: Peaks | None = None
    """Of the device, once they are measured."""

    @property
    def kept(self) -> Path:
        """Where a part's figures are handed over."""
        return self.folder / "figures.json"

    def keep(self, figures: dict[str, Any]) -> None:
        """Hand over what there is of a part's figures: should it be ended, these stay."""
        beside = self.kept.with_suffix(".tmp")
        beside.write_text(json.dumps(figures))
        beside.replace(self.kept)

    def train_images(self, count: int) -> list[bytes]:
        """Files of the training split, again from the first where there are fewer."""
        index = ShardIndex.open(str(self.shards), "train")
        return [index.read(i % len(index)) for i in range(count)]


def unfit(shards: Path, *, least: int) -> str | None:
    """Why a set will not do, in one line; None where it will.

    Args:
        least: training images that it must have, those of a batch.
    """
    try:
        train, val = (ShardIndex.open(str(shards), split) for split in ("train", "val"))
    except (UserError, OSError) as error:
        return f"--shards: {error}"
    if train.image_size is None or val.image_size is None:
        return f"--shards: the images of {shards} are not of one size, as faces are"
    if len(train) < least:
        return f"--shards: {shards} has {len(train)} training images, expected {least} or more"
    return None


def picture(number: int, *, height: int, width: int) -> np.ndarray:
    """A made image, uint8 [h, w, 3], with the many small and few large contrasts of a photo; the same for the same number."""
    random = np.random.default_rng(number)
    total = np.full((height, width, 3), 127.5, np.float32)
    for side in _GRAIN:
        noise = random.normal(size=(height // side + 2, width // side + 2, 3)).clip(-2, 2)
        blocks = Image.fromarray(((noise + 2) * 63).astype(np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        total += (np.asarray(blocks, np.float32) - 127) * side**0.5 / 8
    return total.clip(0, 255).astype(np.uint8)


def make_set(folder: Path, sizes: Sizes) -> Path:
    """Pack made faces, nine in ten for training; the set's folder."""
    height, width = sizes.frame
    images = folder / "faces"
    images.mkdir()
    for number in range(sizes.made_faces):
        path = images / f"{number:05d}.jpg"
        Image.fromarray(picture(number, height=height, width=width)).save(path, quality=75)
    recipe = Recipe(name="made", split="hash", fractions={"train": 0.9, "val": 0.1}, shard_samples=1000)
    pack(recipe, images, out=folder / "set")
    return folder / "set"
