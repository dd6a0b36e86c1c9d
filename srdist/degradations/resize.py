"""Resizing on the way: by a factor and a kernel that are drawn; and to the size of LR, where a chain comes down to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from srdist.degradations.draws import Draws
from srdist.degradations.stage import Image, Made, Resized
from srdist.images.kernels import Kernel
from srdist.images.resize import resize_u8


@dataclass(frozen=True, slots=True)
class Resize:
    """Smaller, larger or as it was; antialiased, as every program but a careless one does it."""

    ways: tuple[float, float, float]
    """Weights of smaller, larger, and of the size that `of` means."""
    ratio: tuple[float, float]
    """Of the sides: from the first to 1 where made smaller, from 1 to the second where made larger."""
    uniform: Literal["ratio", "factor"]
    """What is drawn uniformly where it is made smaller."""
    of: Literal["image", "lr"]
    """What the ratio is of: the image's own size, or LR's."""
    kernels: tuple[tuple[Kernel, float], ...]
    """Weights of the kernels."""

    def __call__(self, image: Image, lr_size: tuple[int, int], draws: Draws, /) -> Made:
        way = draws.pick(0, self.ways)
        low, high = self.ratio
        smaller = (
            draws.between(1, (low, 1.0)) if self.uniform == "ratio" else 1 / draws.between(1, (1.0, 1 / low))
        )
        ratio = (smaller, draws.between(1, (1.0, high)), 1.0)[way]
        height, width = image.shape[:2] if self.of == "image" else lr_size
        size = (max(1, int(height * ratio + 0.5)), max(1, int(width * ratio + 0.5)))
        kernel = self.kernels[draws.pick(2, [weight for _, weight in self.kernels])][0]
        return resized(image, size, kernel), f"{kernel} to {size[1]}x{size[0]}"


@dataclass(frozen=True, slots=True)
class ToLR:
    """Resized to the size of LR, whatever it is."""

    kernels: tuple[tuple[Kernel, float], ...]
    """Weights of the kernels."""

    def __call__(self, image: Image, lr_size: tuple[int, int], draws: Draws, /) -> Made:
        kernel = self.kernels[draws.pick(0, [weight for _, weight in self.kernels])][0]
        return resized(image, lr_size, kernel), f"{kernel} to LR"


def resized(image: Image, size: tuple[int, int], kernel: Kernel) -> Resized:
    """An image of another (height, width), as Pillow would make it."""
    if image.shape[:2] == size:
        return image
    batch = torch.from_numpy(image).permute(2, 0, 1)[None]
    made = resize_u8(batch, height=size[0], width=size[1], kernel=kernel)
    return np.ascontiguousarray(made[0].permute(1, 2, 0).numpy())
