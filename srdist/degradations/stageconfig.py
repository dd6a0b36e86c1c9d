"""The stages of a chain as sections of the config, told apart by `kind`: every range with its unit and where it is from.

The ranges that stand here are Real-ESRGAN's first stage (options/train_realesrgan_x4plus.yml); presets have others.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from srdist.images.kernels import Kernel
from srdist.settings.section import Section

if TYPE_CHECKING:
    from srdist.degradations.stage import Stage

N = TypeVar("N", int, float)


def _in_order(low_high: tuple[N, N]) -> tuple[N, N]:
    if low_high[0] > low_high[1]:
        raise ValueError(f"a range goes from low to high, found {list(low_high)}")
    return low_high


_Share = Annotated[float, Field(ge=0, le=1)]
_Weight = Annotated[float, Field(ge=0)]
_Level = Annotated[float, Field(ge=0, le=255)]
_Levels = Annotated[tuple[_Level, _Level], Field(strict=False), AfterValidator(_in_order)]
_Width = Annotated[float, Field(ge=0.05, le=20)]
_Widths = Annotated[tuple[_Width, _Width], Field(strict=False), AfterValidator(_in_order)]
_Side = Annotated[int, Field(ge=1, le=31)]
_Sides = Annotated[tuple[_Side, _Side], Field(strict=False), AfterValidator(_in_order)]
_Exponent = Annotated[float, Field(ge=0.125, le=8)]
_Exponents = Annotated[tuple[_Exponent, _Exponent], Field(strict=False), AfterValidator(_in_order)]
_Cutoff = Annotated[float, Field(ge=0.5, le=3.1416)]
_Cutoffs = Annotated[tuple[_Cutoff, _Cutoff], Field(strict=False), AfterValidator(_in_order)]
_Ratio = Annotated[float, Field(ge=0.05, le=4)]
_Ratios = Annotated[tuple[_Ratio, _Ratio], Field(strict=False), AfterValidator(_in_order)]
_Quality = Annotated[int, Field(ge=1, le=100)]
_Qualities = Annotated[tuple[_Quality, _Quality], Field(strict=False), AfterValidator(_in_order)]


class StageSection(Section):
    """What the section of every stage has."""

    kind: str
    """Which stage: what the other fields mean depends on it."""

    @property
    @abstractmethod
    def reach(self) -> int:
        """Pixels, at the stage's own resolution, from which one pixel takes something."""

    @abstractmethod
    def stage(self) -> Stage:
        """The stage."""


class Shapes(Section):
    """How often a blur's kernel has which shape: weights."""

    iso: _Weight = 0.45
    """Gaussian, the same in all directions."""
    aniso: _Weight = 0.25
    """Gaussian, longer in one direction."""
    generalized_iso: _Weight = 0.12
    """exp(-q^b / 2) of the squared distance q: more pointed or flatter than a Gaussian."""
    generalized_aniso: _Weight = 0.03
    """The same, longer in one direction."""
    plateau_iso: _Weight = 0.12
    """1 / (1 + q^b): flat in the middle."""
    plateau_aniso: _Weight = 0.03
    """The same, longer in one direction."""


class BlurConfig(StageSection):
    """A convolution by one kernel an image."""

    kind: Literal["blur"] = "blur"
    """A convolution by one kernel an image."""
    probability: _Share = 1.0
    """That an image is blurred, 0 to 1."""
    sinc: _Share = 0.1
    """That the kernel is a sinc, 0 to 1; else it has one of `shapes`."""
    shapes: Shapes = Shapes()
    """How often the kernel has which shape."""
    side: _Sides = (7, 21)
    """Side of the kernel in pixels, odd."""
    sigma: _Widths = (0.2, 3.0)
    """Standard deviation in pixels."""
    generalized: _Exponents = (0.5, 4.0)
    """Exponent b of generalized Gaussians, in steps of 1/8."""
    plateau: _Exponents = (1.0, 2.0)
    """Exponent b of plateaus, in steps of 1/8."""
    cutoff: _Cutoffs = (1.0472, 3.1416)
    """Cutoff frequency of a sinc, in radians a pixel."""

    @property
    def reach(self) -> int:
        """Half the largest kernel."""
        return self.side[1] // 2

    def stage(self) -> Stage:
        """The stage."""
        from srdist.degradations.blur import SHAPES, Blur

        weights = tuple((shape, getattr(self.shapes, shape)) for shape in SHAPES)
        return Blur(
            self.probability,
            self.sinc,
            weights,
            self.side,
            self.sigma,
            self.generalized,
            self.plateau,
            self.cutoff,
        )

    @model_validator(mode="after")
    def _is_something(self) -> Self:
        if even := [side for side in self.side if side % 2 == 0]:
            raise ValueError(f"side must be odd, found {even[0]}")
        if self.sinc < 1 and not sum(self.shapes.model_dump().values()):
            raise ValueError("shapes: all weights are 0")
        return self


class NoiseConfig(StageSection):
    """Noise, Gaussian or Poisson's."""

    kind: Literal["noise"] = "noise"
    """Noise, Gaussian or Poisson's."""
    probability: _Share = 1.0
    """That an image gets noise, 0 to 1."""
    gaussian: _Share = 0.5
    """That it is Gaussian, 0 to 1; else Poisson's, which grows with the light."""
    sigma: _Levels = (1.0, 30.0)
    """Standard deviation of Gaussian noise, in 8-bit levels."""
    poisson: Annotated[
        tuple[Annotated[float, Field(ge=0, le=10)], Annotated[float, Field(ge=0, le=10)]],
        Field(strict=False),
        AfterValidator(_in_order),
    ] = (0.05, 3.0)
    """Strength of Poisson noise; 1 is that of as many photons as the pixel has levels."""
    grey: _Share = 0.4
    """That the three channels have the same noise, 0 to 1."""

    @property
    def reach(self) -> int:
        """None: pixel by pixel."""
        return 0

    def stage(self) -> Stage:
        """The stage."""
        from srdist.degradations.noise import Noise

        return Noise(self.probability, self.gaussian, self.sigma, self.poisson, self.grey)


class JPEGConfig(StageSection):
    """Encoded as JPEG and decoded again."""

    kind: Literal["jpeg"] = "jpeg"
    """Encoded as JPEG and decoded again."""
    probability: _Share = 1.0
    """That an image goes through it, 0 to 1."""
    quality: _Qualities = (30, 95)
    """libjpeg's quality, 1 to 100."""
    s444: _Weight = 0.2
    """Weight of colour at full resolution."""
    s422: _Weight = 0.1
    """Weight of colour at half the width."""
    s420: _Weight = 0.7
    """Weight of colour at half the width and height, as most files of the web have it."""

    @property
    def reach(self) -> int:
        """A block of luma."""
        return 8

    def stage(self) -> Stage:
        """The stage."""
        from srdist.degradations.jpeg import JPEG

        return JPEG(self.probability, self.quality, (self.s444, self.s422, self.s420))

    @model_validator(mode="after")
    def _is_something(self) -> Self:
        if not self.s444 + self.s422 + self.s420:
            raise ValueError("s444, s422 and s420 are all 0")
        return self


class Kernels(Section):
    """How often which resampling kernel is used: weights."""

    bicubic: _Weight = 1.0
    """Bicubic, antialiased."""
    bilinear: _Weight = 1.0
    """Bilinear, antialiased."""
    box: _Weight = 1.0
    """Means of areas."""
    lanczos: _Weight = 0.0
    """Lanczos with three lobes."""
    nearest: _Weight = 0.0
    """The nearest pixel, not antialiased."""

    @model_validator(mode="after")
    def _is_something(self) -> Self:
        if not sum(self.weights().values()):
            raise ValueError("all kernels have the weight 0")
        return self

    def weights(self) -> dict[Kernel, float]:
        """The weight of each kernel."""
        return {
            "bicubic": self.bicubic,
            "bilinear": self.bilinear,
            "box": self.box,
            "lanczos": self.lanczos,
            "nearest": self.nearest,
        }


class ResizeConfig(StageSection):
    """Resized by a factor that is drawn."""

    kind: Literal["resize"] = "resize"
    """Resized by a factor that is drawn."""
    smaller: _Weight = 0.7
    """Weight of making it smaller."""
    larger: _Weight = 0.2
    """Weight of making it larger."""
    same: _Weight = 0.1
    """Weight of the very size that `of` means."""
    ratio: _Ratios = (0.15, 1.5)
    """Of the sides: smaller down to the first, larger up to the second."""
    uniform: Literal["ratio", "factor"] = "ratio"
    """What is uniform where it is made smaller: the ratio of the sides, or the factor that is its inverse."""
    of: Literal["image", "lr"] = "image"
    """What the ratio is of: the image's size at this stage, or LR's."""
    kernels: Kernels = Kernels()
    """How often which resampling kernel is used."""

    @property
    def reach(self) -> int:
        """Lanczos' three lobes."""
        return 3

    def stage(self) -> Stage:
        """The stage."""
        from srdist.degradations.resize import Resize

        ways = (self.smaller, self.larger, self.same)
        return Resize(ways, self.ratio, self.uniform, self.of, tuple(self.kernels.weights().items()))

    @model_validator(mode="after")
    def _is_something(self) -> Self:
        if not self.smaller + self.larger + self.same:
            raise ValueError("smaller, larger and same are all 0")
        if not self.ratio[0] <= 1 <= self.ratio[1]:
            raise ValueError(f"ratio goes from at most 1 to at least 1, found {list(self.ratio)}")
        return self
