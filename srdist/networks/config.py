"""Which network: the section of a config, a run and a weights file that names it, told apart from the others by its fields.

Apart from the networks because a config is read, and a wrong one refused, without torch.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, JsonValue, TypeAdapter, model_validator

from srdist.settings.section import Section

if TYPE_CHECKING:
    from srdist.networks.compact import CompactNetwork
    from srdist.networks.edsr import EDSR
    from srdist.networks.fsrcnn import FSRCNN
    from srdist.networks.network import Network
    from srdist.networks.plain import PlainNetwork
    from srdist.networks.span import SPAN
    from srdist.networks.spandrelnetwork import SpandrelNetwork
    from srdist.networks.srcnn import SRCNN


N = TypeVar("N", bound="Network")

# Not strict as wholes: YAML and JSON have lists only.
Kernels = Annotated[tuple[Annotated[int, Field(ge=1, le=31)], ...], Field(strict=False, max_length=1000)]
Widths = Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(strict=False, max_length=1000)]


class NetworkSection(Section):
    """What the section of every family has."""

    family: str
    """Which kind of network: what the other fields mean depends on it; absent = srcnn."""
    scale: Annotated[int, Field(ge=2, le=8)] = 2
    """Factor between LR and HR, in each direction."""

    @property
    def for_use(self) -> NetworkSection:
        """The network that is saved for use and scored, where it is another one than is trained."""
        return self

    @abstractmethod
    def build(self, *, seed: int | None) -> Network:
        """The network, its initial weights decided by `seed` alone; None: for one whose weights are loaded next."""


class SRCNNConfig(NetworkSection):
    """The network: SRCNN (Dong et al., 2014), by default the seed's 128-64-3 with 3x3 kernels."""

    family: Literal["srcnn"] = "srcnn"
    """Which kind of network: what the other fields mean depends on it; absent = srcnn."""
    kernels: Kernels = (3, 3, 3)
    """Kernel side of each convolution, in pixels, odd."""
    widths: Widths = (128, 64)
    """Channels after each convolution but the last."""
    upscale: Literal["before", "after"] = "before"
    """before: bicubic first, convolutions on the HR grid (SRCNN); after: convolutions on the LR grid, then a pixel shuffle (ESPCN)."""
    residual: bool = True
    """Whether the network's output is added to the upscaled input."""
    pre_kernel: Literal["bicubic", "bilinear"] = "bicubic"
    """Kernel of the upscale inside the network."""
    last_relu: bool = False
    """ReLU after the last convolution, as the seed has it (not with residual)."""

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        _check_layers(self.kernels, self.widths)
        if self.residual and self.last_relu:
            raise ValueError("last_relu cannot go with residual: the network could never darken a pixel")
        if self.upscale == "after" and not self.residual and self.pre_kernel != "bicubic":
            raise ValueError("pre_kernel has no effect with upscale: after and residual: false")
        return self

    def build(self, *, seed: int | None) -> SRCNN:
        """The network; He (Kaiming) normal weights, close to the plain upscaling where residual."""
        from srdist.networks.srcnn import SRCNN

        return _begun(SRCNN(self), seed)


class Collapse(Section):
    """How a convolution is trained as several, which are one in use."""

    expand: Annotated[int, Field(ge=1, le=4096)] = 64
    """Channels between the two convolutions that each one is trained as."""
    edges: bool = False
    """Whether convolutions of side 3 have branches of fixed edge filters beside them (ECBSR)."""


class PlainConfig(NetworkSection):
    """Plain convolutions on the LR grid, two long skips, a pixel shuffle: by default SESR-M5 (Bhardwaj et al., 2022) in RGB."""

    family: Literal["plain"] = "plain"
    """Which kind of network: what the other fields mean depends on it; absent = srcnn."""
    kernels: Kernels = (5, 3, 3, 3, 3, 3, 5)
    """Kernel side of each convolution, in pixels, odd."""
    widths: Widths = (16, 16, 16, 16, 16, 16)
    """Channels after each convolution but the last."""
    activation: Literal["relu", "prelu", "tanh"] = "prelu"
    """After each convolution but the last; prelu learns a slope for each channel."""
    feature_skip: bool = True
    """Whether the first convolution's output is added to what goes into the last one."""
    base: Literal["none", "nearest", "bicubic"] = "bicubic"
    """The upscaling that the network's output is added to."""
    channels: Literal["rgb", "luma"] = "rgb"
    """luma: the network sees luma alone, and colours are upscaled by bicubic, as in the papers."""
    collapse: Collapse | None = None
    """Over-parameterized training (SESR): each convolution as several, whose weights are multiplied together at each step; null = off."""

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        _check_layers(self.kernels, self.widths)
        if len(self.kernels) < 2:
            raise ValueError("kernels needs at least two entries")
        if self.feature_skip and self.widths[0] != self.widths[-1]:
            raise ValueError(
                f"feature_skip adds the first width to the last, found {self.widths[0]} and {self.widths[-1]}"
            )
        return self

    @property
    def for_use(self) -> PlainConfig:
        """The same with its convolutions collapsed."""
        return self.model_copy(update={"collapse": None})

    def build(self, *, seed: int | None) -> PlainNetwork:
        """The network; He (Kaiming) normal weights, close to `base` where it has one."""
        from srdist.networks.plain import PlainNetwork

        return _begun(PlainNetwork(self), seed)


class CompactConfig(NetworkSection):
    """SRVGGNetCompact of Real-ESRGAN: a stack of 3x3 convolutions, whose files can be exchanged with it."""

    family: Literal["compact"] = "compact"
    """Which kind of network: what the other fields mean depends on it; absent = srcnn."""
    width: Annotated[int, Field(ge=1, le=4096)] = 64
    """Channels of each convolution."""
    convolutions: Annotated[int, Field(ge=0, le=1000)] = 16
    """3x3 convolutions between the first and the last."""

    def build(self, *, seed: int | None) -> CompactNetwork:
        """The network; torch's own initial weights, as Real-ESRGAN starts."""
        from srdist.networks.compact import CompactNetwork

        return _begun(CompactNetwork(self), seed)


class FSRCNNConfig(NetworkSection):
    """FSRCNN (Dong et al., ECCV 2016): FSRCNN(56, 12, 4) by default; (32, 5, 1) is the paper's FSRCNN-s."""

    family: Literal["fsrcnn"] = "fsrcnn"
    """Which kind of network: what the other fields mean depends on it; absent = srcnn."""
    features: Annotated[int, Field(ge=1, le=4096)] = 56
    """Channels of the first and the last part (the paper's d)."""
    shrunk: Annotated[int, Field(ge=1, le=4096)] = 12
    """Channels between them (the paper's s)."""
    mappings: Annotated[int, Field(ge=0, le=1000)] = 4
    """3x3 convolutions on those (the paper's m)."""
    channels: Literal["rgb", "luma"] = "rgb"
    """luma: the network sees luma alone, and colours are upscaled by bicubic, as in the paper."""

    def build(self, *, seed: int | None) -> FSRCNN:
        """The network; initial weights as in the paper."""
        from srdist.networks.fsrcnn import FSRCNN

        return _begun(FSRCNN(self), seed)


class EDSRConfig(NetworkSection):
    """EDSR (Lim et al., CVPRW 2017): the baseline by default; width 256, 32 blocks and residual_scale 0.1 are the full one."""

    family: Literal["edsr"] = "edsr"
    """Which kind of network: what the other fields mean depends on it; absent = srcnn."""
    scale: Literal[2, 3, 4, 8] = 2
    """Factor between LR and HR, in each direction."""
    width: Annotated[int, Field(ge=1, le=4096)] = 64
    """Channels of each convolution."""
    blocks: Annotated[int, Field(ge=0, le=1000)] = 16
    """Residual blocks of two convolutions."""
    residual_scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    """What a block's output is multiplied by before it is added."""

    def build(self, *, seed: int | None) -> EDSR:
        """The network; torch's own initial weights, as the authors' code has it."""
        from srdist.networks.edsr import EDSR

        return _begun(EDSR(self), seed)


class SPANConfig(NetworkSection):
    """SPAN (Wan et al., CVPRW 2024): 48 channels and 6 blocks by default; the paper's own has 52 channels."""

    family: Literal["span"] = "span"
    """Which kind of network: what the other fields mean depends on it; absent = srcnn."""
    width: Annotated[int, Field(ge=1, le=4096)] = 48
    """Channels of each convolution."""
    blocks: Annotated[int, Field(ge=1, le=1000)] = 6
    """Blocks of three convolutions."""
    branches: bool = True
    """Whether each convolution is trained as four, whose weights are collapsed into one at each step."""

    @property
    def for_use(self) -> SPANConfig:
        """The same with its branches collapsed."""
        return self.model_copy(update={"branches": False})

    def build(self, *, seed: int | None) -> SPAN:
        """The network; torch's own initial weights, as the authors' code has it."""
        from srdist.networks.span import SPAN

        return _begun(SPAN(self), seed)


class SpandrelConfig(NetworkSection):
    """An architecture of the spandrel library: SwinIR, HAT, RRDB (ESRGAN) and some twenty more (docs/networks.md)."""

    family: Literal["spandrel"] = "spandrel"
    """Which kind of network: what the other fields mean depends on it; absent = srcnn."""
    architecture: Annotated[str, Field(min_length=1, max_length=100)]
    """Its name in spandrel, or that of one of its classes where it has several."""
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Of its class, by name, as in {embed_dim: 60, depths: [6, 6, 6, 6]}; the others are the class's own defaults."""

    def build(self, *, seed: int | None) -> SpandrelNetwork:
        """The network; the initial weights that its class has, seeded.

        Raises:
            UserError: spandrel is not installed, or does not have this; the message names the field.
        """
        from srdist.networks.spandrelnetwork import SpandrelNetwork

        return SpandrelNetwork(self, seed=seed)


def _begun(network: N, seed: int | None) -> N:
    if seed is not None:
        network.initialize(seed)
    return network


def _check_layers(kernels: tuple[int, ...], widths: tuple[int, ...]) -> None:
    if len(kernels) != len(widths) + 1:
        raise ValueError(
            f"kernels has {len(kernels)} entries and widths {len(widths)}: "
            "kernels needs one more than widths (the last convolution ends in the image's channels)"
        )
    if even := [k for k in kernels if k % 2 == 0]:
        raise ValueError(f"kernels must be odd, found {even[0]}")


def _with_family(values: Any) -> Any:
    """What was written before there were families is of the first one."""
    return {"family": "srcnn", **values} if isinstance(values, dict) else values


NetworkConfig = Annotated[
    SRCNNConfig | PlainConfig | CompactConfig | FSRCNNConfig | EDSRConfig | SPANConfig | SpandrelConfig,
    Field(discriminator="family"),
    BeforeValidator(_with_family),
]
NETWORK: TypeAdapter[NetworkConfig] = TypeAdapter(NetworkConfig)
"""Reads what a weights file says of its network."""
