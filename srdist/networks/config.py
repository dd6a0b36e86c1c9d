"""Which network: the section of a config, a run and a weights file that names it, told apart from the others by its fields.

Apart from the networks because a config is read, and a wrong one refused, without torch.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from srdist.settings.section import Section

if TYPE_CHECKING:
    from srdist.networks.network import Network
    from srdist.networks.srcnn import SRCNN


class NetworkSection(Section):
    """What the section of every family has."""

    family: str
    """Which kind of network: what the other fields mean depends on it; absent = srcnn."""
    scale: Annotated[int, Field(ge=2, le=8)] = 2
    """Factor between LR and HR, in each direction."""

    @abstractmethod
    def build(self, *, seed: int | None) -> Network:
        """The network, its initial weights decided by `seed` alone; None: for one whose weights are loaded next."""


class SRCNNConfig(NetworkSection):
    """The network: SRCNN (Dong et al., 2014), by default the seed's 128-64-3 with 3x3 kernels."""

    family: Literal["srcnn"] = "srcnn"
    """Which kind of network: what the other fields mean depends on it; absent = srcnn."""
    # Not strict as wholes: YAML and JSON have lists only.
    kernels: Annotated[
        tuple[Annotated[int, Field(ge=1, le=31)], ...], Field(strict=False, max_length=1000)
    ] = (3, 3, 3)
    """Kernel side of each convolution, in pixels, odd."""
    widths: Annotated[
        tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(strict=False, max_length=1000)
    ] = (128, 64)
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
        if len(self.kernels) != len(self.widths) + 1:
            raise ValueError(
                f"kernels has {len(self.kernels)} entries and widths {len(self.widths)}: "
                "kernels needs one more than widths (the last convolution ends in the image's channels)"
            )
        if even := [k for k in self.kernels if k % 2 == 0]:
            raise ValueError(f"kernels must be odd, found {even[0]}")
        if self.residual and self.last_relu:
            raise ValueError("last_relu cannot go with residual: the network could never darken a pixel")
        if self.upscale == "after" and not self.residual and self.pre_kernel != "bicubic":
            raise ValueError("pre_kernel has no effect with upscale: after and residual: false")
        return self

    def build(self, *, seed: int | None) -> SRCNN:
        """The network; He (Kaiming) normal weights, close to the plain enlargement where residual."""
        from srdist.networks.srcnn import SRCNN

        network = SRCNN(self)
        if seed is not None:
            network.initialize(seed)
        return network


NetworkConfig = SRCNNConfig
NETWORK: TypeAdapter[NetworkConfig] = TypeAdapter(NetworkConfig)
"""Reads what a weights file says of its network."""
