"""SRVGGNetCompact of Real-ESRGAN: a stack of 3x3 convolutions with PReLU on the LR grid, added to repeated pixels.

Wang et al., ICCVW 2021, and https://github.com/xinntao/Real-ESRGAN (BSD-3). The state dict has its names, body.0.weight
and so on: files of each are the other's.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from srdist.networks.config import CompactConfig
from srdist.networks.initial import as_torch_has_it
from srdist.networks.network import Network


class CompactNetwork(Network):
    """`config.convolutions` convolutions of `config.width` channels, one before them, one after."""

    sums_in_float32 = True

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config, self.scale, self.halo = config, config.scale, config.convolutions + 2
        width = config.width
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.PReLU(width)]
        for _ in range(config.convolutions):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width)]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, 3 * config.scale**2, 3, padding=1))

    def forward(self, lr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 H W"]:
        """Upscale LR images in [0, 1]; the output is near [0, 1] and not clamped."""
        base = F.interpolate(lr, scale_factor=float(self.scale), mode="nearest")
        return F.pixel_shuffle(self.body(lr), self.scale) + base

    def initialize(self, seed: int) -> None:
        """Torch's own initial weights, seeded, as Real-ESRGAN starts; slopes of 0.25."""
        as_torch_has_it(self, torch.Generator().manual_seed(seed))

    def identity(self) -> dict[str, Any]:
        """What decides its pixels beside its tensors."""
        return {"family": "compact", "scale": self.scale}
