"""EDSR: residual blocks without normalization on the LR grid, a long skip, and convolutions between pixel shuffles.

Lim et al., CVPRW 2017. The state dict has the names of BasicSR's EDSR (conv_first, body.0.conv1 ...).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from srdist.networks.config import EDSRConfig
from srdist.networks.initial import as_torch_has_it
from srdist.networks.network import Network

_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean RGB of DIV2K, which the paper's network takes off its input."""
_RANGE = 255.0


class EDSR(Network):
    """`config.blocks` blocks of two 3x3 convolutions of `config.width` channels."""

    def __init__(self, config: EDSRConfig) -> None:
        super().__init__()
        self.config, self.scale = config, config.scale
        # First, after the body, and one each for the convolutions before the (first) shuffle and after the last.
        self.halo = 2 * config.blocks + 4
        width = config.width
        self.conv_first = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(*(_Block(width, config.residual_scale) for _ in range(config.blocks)))
        self.conv_after_body = nn.Conv2d(width, width, 3, padding=1)
        factors = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}[config.scale]
        self.upsample = nn.Sequential(
            *(
                layer
                for factor in factors
                for layer in (nn.Conv2d(width, width * factor**2, 3, padding=1), nn.PixelShuffle(factor))
            )
        )
        self.conv_last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, lr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 H W"]:
        """Upscale LR images in [0, 1]; the output is near [0, 1] and not clamped."""
        mean = lr.new_tensor(_MEAN).view(1, 3, 1, 1)
        features = self.conv_first((lr - mean) * _RANGE)
        features = features + self.conv_after_body(self.body(features))
        sr: Tensor = self.conv_last(self.upsample(features))
        return sr.float() / _RANGE + mean

    def initialize(self, seed: int) -> None:
        """Torch's own initial weights, seeded, as the authors' code has it."""
        as_torch_has_it(self, torch.Generator().manual_seed(seed))

    def identity(self) -> dict[str, Any]:
        """What decides its pixels beside its tensors."""
        return {"family": "edsr", "scale": self.scale, "residual_scale": self.config.residual_scale}


class _Block(nn.Module):
    def __init__(self, width: int, residual_scale: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.residual_scale = residual_scale

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        correction: Tensor = self.conv2(F.relu(self.conv1(features), inplace=True))
        return features + correction * self.residual_scale
