"""A second family beside srdist's own, made here: what a seam is worth shows when somebody else uses it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, TypeAdapter
from torch import Tensor, nn

from srdist.config import Config
from srdist.networks.config import (
    CompactConfig,
    EDSRConfig,
    FSRCNNConfig,
    NetworkSection,
    PlainConfig,
    SPANConfig,
    SRCNNConfig,
)
from srdist.networks.network import Network


class TinyConfig(NetworkSection):
    """Repeated pixels, and a convolution's correction to them."""

    family: Literal["tiny"] = "tiny"
    side: Annotated[int, Field(ge=1)] = 3
    """Of the convolution, in LR pixels."""

    def build(self, *, seed: int | None) -> Network:
        return Tiny(self, seed=seed)


class Tiny(Network):
    """Sides that are odd are refused: whoever calls it pads."""

    multiple = 2

    def __init__(self, config: TinyConfig, *, seed: int | None) -> None:
        super().__init__()
        self.config, self.scale, self.halo = config, config.scale, config.side // 2
        self.correction = nn.Conv2d(3, 3 * config.scale**2, config.side, padding=config.side // 2)
        if seed is not None:
            generator = torch.Generator().manual_seed(seed)
            nn.init.normal_(self.correction.weight, std=0.05, generator=generator)
            nn.init.zeros_(self.correction.bias)  # type: ignore[arg-type]

    def forward(self, lr: Tensor) -> Tensor:
        base = F.interpolate(lr, scale_factor=self.scale, mode="nearest")
        return base + F.pixel_shuffle(self.correction(lr), self.scale)

    def identity(self) -> dict[str, Any]:
        return {"family": "tiny", "scale": self.scale}


NetworkConfig = Annotated[
    SRCNNConfig | PlainConfig | CompactConfig | FSRCNNConfig | EDSRConfig | SPANConfig | TinyConfig,
    Field(discriminator="family"),
]
NETWORK: TypeAdapter[NetworkConfig] = TypeAdapter(NetworkConfig)


class RunConfig(Config):
    """A run's config whose network may be of the second family as well."""

    model: NetworkConfig = TinyConfig()  # type: ignore[assignment]
