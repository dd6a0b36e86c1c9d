"""Whole pipelines as sections of the config: Real-ESRGAN's second order, by two presets, and BSRGAN's shuffled order.

Sources of the ranges: `photo` is Real-ESRGAN's options/train_realesrgan_x4plus.yml; `web` lies between what trainers of
networks for the web have settled on, traiNNer-redux' and neosr's templates of 2025: no strong noise, JPEG of 40 and
better, little blur; `bsrgan` is BSRGAN's utils_blindsr.py at x4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from srdist.degradations.section import DegradationSection
from srdist.degradations.stageconfig import (
    BlurConfig,
    JPEGConfig,
    Kernels,
    NoiseConfig,
    ResizeConfig,
    Shapes,
)

if TYPE_CHECKING:
    from srdist.degradations.chain import Named
    from srdist.degradations.degradation import Degradation

Margin = Annotated[int, Field(ge=0, le=64)]

_RING: dict[str, Any] = {"sinc": 1.0, "side": [7, 21]}
_SECOND: dict[str, Any] = {"smaller": 0.4, "larger": 0.3, "same": 0.3, "of": "lr"}
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "web": {
        "blur1": {"probability": 0.5, "sinc": 0.0, "side": [5, 17], "sigma": [0.2, 1.6]},
        "resize1": {"smaller": 0.5, "larger": 0.3, "same": 0.2, "ratio": [0.4, 1.5]},
        "noise1": {"probability": 0.3, "sigma": [0.5, 4.0], "poisson": [0.05, 0.25], "grey": 0.4},
        "jpeg1": {"probability": 0.7, "quality": [60, 95]},
        "blur2": {"probability": 0.2, "sinc": 0.0, "side": [5, 11], "sigma": [0.2, 1.0]},
        "resize2": _SECOND | {"ratio": [0.6, 1.2]},
        "noise2": {"probability": 0.2, "sigma": [0.5, 2.0], "poisson": [0.05, 0.1], "grey": 0.4},
        "ring": _RING | {"probability": 0.2},
        "jpeg2": {"probability": 0.9, "quality": [40, 95]},
    },
    "photo": {
        "blur1": {},
        "resize1": {},
        "noise1": {},
        "jpeg1": {},
        "blur2": {"probability": 0.8, "sigma": [0.2, 1.5]},
        "resize2": _SECOND | {"ratio": [0.3, 1.2]},
        "noise2": {"sigma": [1.0, 25.0], "poisson": [0.05, 2.5]},
        "ring": _RING | {"probability": 0.8},
        "jpeg2": {},
    },
}


class SecondOrderConfig(DegradationSection):
    """Blurred, resized, made noisy and compressed, twice; its fields are those of the preset where they are not given."""

    kind: Literal["second_order"] = "second_order"
    """Blurred, resized, made noisy and compressed, twice."""
    preset: Literal["web", "photo"] = "web"
    """web: mild, as files of the web are; photo: Real-ESRGAN's published ranges. It fills the fields that are not given."""
    blur1: BlurConfig = BlurConfig()
    """The first blur."""
    resize1: ResizeConfig = ResizeConfig()
    """The first resizing, relative to HR."""
    noise1: NoiseConfig = NoiseConfig()
    """The first noise."""
    jpeg1: JPEGConfig = JPEGConfig()
    """The first JPEG."""
    blur2: BlurConfig = BlurConfig()
    """The second blur."""
    resize2: ResizeConfig = ResizeConfig()
    """The second resizing, relative to LR."""
    noise2: NoiseConfig = NoiseConfig()
    """The second noise."""
    kernels: Kernels = Kernels()
    """How often which kernel makes the LR's size in the end."""
    ring: BlurConfig = BlurConfig()
    """What follows that: a sinc, as of sharpening."""
    jpeg2: JPEGConfig = JPEGConfig()
    """The last JPEG: after the last resizing and the ring, or before them, each half of the time."""
    margin: Margin = 8
    """LR pixels around a patch that are degraded with it."""

    @property
    def name(self) -> str:
        """The kind and the preset."""
        return f"{self.kind} {self.preset}"

    def build(self, *, scale: int) -> Degradation:
        """The degradation that makes images smaller by `scale`."""
        from srdist.degradations.chain import Chain
        from srdist.degradations.pipelines import SecondOrder
        from srdist.degradations.resize import ToLR

        first: tuple[Named, ...] = (
            ("blur 1", self.blur1.stage()),
            ("resize 1", self.resize1.stage()),
            ("noise 1", self.noise1.stage()),
            ("jpeg 1", self.jpeg1.stage()),
            ("blur 2", self.blur2.stage()),
            ("resize 2", self.resize2.stage()),
            ("noise 2", self.noise2.stage()),
        )
        to_lr = ToLR(tuple(self.kernels.weights().items()))
        plan = SecondOrder(
            first, (("kernel 1", to_lr), ("ring 1", self.ring.stage())), ("jpeg 2", self.jpeg2.stage())
        )
        return Chain(scale, self.margin * scale, plan)

    @model_validator(mode="before")
    @classmethod
    def _of_the_preset(cls, values: Any) -> Any:
        name = values.get("preset", "web") if isinstance(values, dict) else None
        preset = PRESETS.get(name) if isinstance(name, str) else None
        if preset is None:
            return values
        filled = dict(values)
        for field, settings in preset.items():
            given = values.get(field, {})
            filled[field] = settings | given if isinstance(given, dict) else given
        return filled


class BSRGANConfig(DegradationSection):
    """Two blurs, two resizings, noise and JPEG in random order, and a last JPEG."""

    kind: Literal["bsrgan"] = "bsrgan"
    """Two blurs, two resizings, noise and JPEG in random order, and a last JPEG."""
    blur1: BlurConfig = BlurConfig(
        sinc=0.0, shapes=Shapes(iso=0, generalized_iso=0, generalized_aniso=0, plateau_iso=0, plateau_aniso=0),
        side=(7, 25), sigma=(0.1, 2.8),
    )  # fmt: skip
    """A Gaussian, longer in one direction."""
    blur2: BlurConfig = BlurConfig(
        sinc=0.0, shapes=Shapes(aniso=0, generalized_iso=0, generalized_aniso=0, plateau_iso=0, plateau_aniso=0),
        side=(7, 25), sigma=(0.1, 2.8),
    )  # fmt: skip
    """A Gaussian, the same in all directions."""
    resize: ResizeConfig = ResizeConfig(
        smaller=0.75, larger=0.0, same=0.25, ratio=(0.125, 1.0), uniform="factor"
    )
    """The resizing that comes before the one to LR's size."""
    noise: NoiseConfig = NoiseConfig(gaussian=1.0, sigma=(2.0, 25.0), grey=0.5)
    """Noise."""
    jpeg: JPEGConfig = JPEGConfig(probability=0.9)
    """The JPEG among the shuffled ones."""
    kernels: Kernels = Kernels()
    """How often which kernel makes the LR's size."""
    last_jpeg: JPEGConfig = JPEGConfig()
    """The JPEG at the end."""
    margin: Margin = 8
    """LR pixels around a patch that are degraded with it."""

    def build(self, *, scale: int) -> Degradation:
        """The degradation that makes images smaller by `scale`."""
        from srdist.degradations.chain import Chain
        from srdist.degradations.pipelines import Shuffled
        from srdist.degradations.resize import ToLR

        stages: tuple[Named, ...] = (
            ("blur 1", self.blur1.stage()),
            ("blur 2", self.blur2.stage()),
            ("resize 1", self.resize.stage()),
            ("kernel 1", ToLR(tuple(self.kernels.weights().items()))),
            ("noise 1", self.noise.stage()),
            ("jpeg 1", self.jpeg.stage()),
        )
        plan = Shuffled(stages, earlier=2, later=3, last=("jpeg 2", self.last_jpeg.stage()))
        return Chain(scale, self.margin * scale, plan)
