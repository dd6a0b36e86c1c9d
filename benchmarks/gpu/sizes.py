"""How much each part of benchmarks.gpu does."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from srdist.networks.config import EDSRConfig


@dataclass(frozen=True, slots=True)
class Sizes:
    """Counts, and sides in pixels; the defaults are those of a whole measurement on a GPU."""

    batches: tuple[int, ...] = (16, 64, 256, 1024)
    """Whole frames of a step."""
    patch_batches: tuple[int, ...] = (16, 128, 512)
    patch: int = 48
    """Side of an HR patch."""
    frame: tuple[int, int] = (218, 178)
    """Height and width of a face."""
    middle: EDSRConfig = field(default_factory=EDSRConfig)
    """The middle-sized network: EDSR's baseline, 1.4 million parameters."""
    timed_steps: int = 20
    curve_steps: int = 200
    curve_batch: int = 8
    run_steps: int = 400
    """Of the trainings that are timed."""
    killed_steps: int = 40
    """Of the training that is killed."""
    compiled: bool = True
    """Whether torch.compile is measured."""
    seconds: float = 3.0
    """That a loader is timed for."""
    made_faces: int = 3000
    """Where no set of faces is packed."""
    faces: int = 10_000
    """That are upscaled."""
    photos: int = 10
    photo: tuple[int, int] = (4000, 6000)
    part_s: float = 180.0
    """After so many seconds a part is ended."""

    @classmethod
    def of(cls, device: str, *, quick: bool) -> Self:
        """For a kind of device, "cuda" or "cpu": on a CPU the parts are only shown to work."""
        sizes = cls()
        if device != "cuda":
            return replace(
                sizes,
                batches=(2,),
                patch_batches=(2,),
                patch=16,
                frame=(48, 40),
                middle=EDSRConfig(width=8, blocks=1),
                timed_steps=2,
                curve_steps=6,
                curve_batch=2,
                run_steps=4,
                killed_steps=8,
                compiled=not quick,
                seconds=0.2,
                made_faces=60,
                faces=12,
                photos=1,
                photo=(300, 400),
            )
        if quick:
            return replace(
                sizes,
                batches=(16, 256),
                patch_batches=(128,),
                curve_steps=50,
                run_steps=200,
                compiled=False,
                seconds=1.0,
                made_faces=1000,
                faces=1000,
                photos=2,
            )
        return sizes
