"""Stages one after the other, image by image: each has its own draws, whatever the others do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import UInt8, UInt64

from srdist.degradations.degradation import image_by_image
from srdist.degradations.draws import Draws
from srdist.degradations.stage import Image, Resized, Stage

Named = tuple[str, Stage]
"""A stage and its name, which its draws come from: it stays the same when stages are added around it."""


class Plan(Protocol):
    """Which stages an image goes through, in which order. Frozen, and it pickles."""

    def __call__(self, key: int, /) -> Sequence[Named]: ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same stages in the same order for all images."""

    stages: tuple[Named, ...]

    def __call__(self, key: int, /) -> Sequence[Named]:  # noqa: ARG002
        return self.stages


@dataclass(frozen=True, slots=True)
class Chain:
    """A degradation of stages; what they leave must have the size of LR."""

    scale: int
    margin: int
    plan: Plan

    def __call__(
        self, hr_u8: UInt8[np.ndarray, "n H W 3"], keys: UInt64[np.ndarray, " n"], /
    ) -> UInt8[np.ndarray, "n h w 3"]:
        """The LR of a batch, each image by its own key."""
        return image_by_image(self, hr_u8, keys)

    def explained(self, hr_u8: Image, key: int, /) -> tuple[Resized, tuple[str, ...]]:
        """The LR of one image, and what was drawn for it."""
        height, width = hr_u8.shape[:2]
        if height % self.scale or width % self.scale:
            raise ValueError(f"HR of {height}x{width} is not a multiple of scale {self.scale}")
        lr_size = (height // self.scale, width // self.scale)
        image, words = np.ascontiguousarray(hr_u8), []
        for name, stage in self.plan(key):
            image, drawn = stage(image, lr_size, Draws.of(key, name))
            words.append(drawn)
        return image, tuple(word for word in words if word)


def named(stages: Sequence[tuple[str, Stage]]) -> tuple[Named, ...]:
    """Stages of some kinds with names: the kind, and its number among those of its kind."""
    seen: dict[str, int] = {}
    result = []
    for kind, stage in stages:
        seen[kind] = seen.get(kind, 0) + 1
        result.append((f"{kind} {seen[kind]}", stage))
    return tuple(result)
