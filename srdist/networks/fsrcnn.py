"""FSRCNN: features on the LR grid, shrunk, mapped, expanded, and a 9x9 deconvolution to the HR grid.

Dong, Loy, Tang: Accelerating the Super-Resolution Convolutional Neural Network, ECCV 2016.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from srdist.images.resize import upscale_float
from srdist.networks.config import FSRCNNConfig
from srdist.networks.initial import he_normal
from srdist.networks.luma import luma_of, with_more_luma
from srdist.networks.network import Network


class FSRCNN(Network):
    """FSRCNN(d, s, m) of the paper: `config.features`, `config.shrunk`, `config.mappings`."""

    def __init__(self, config: FSRCNNConfig) -> None:
        super().__init__()
        self.config, self.scale = config, config.scale
        d, s, m = config.features, config.shrunk, config.mappings
        image_channels = 3 if config.channels == "rgb" else 1
        # An output pixel takes from LR pixels whose 9x9 stamps reach it: four HR pixels to each side.
        self.halo = 2 + m + max(4 // self.scale, (self.scale + 3) // self.scale)
        if config.channels == "luma":
            self.halo = max(self.halo, 2)
        layers: list[nn.Module] = [nn.Conv2d(image_channels, d, 5, padding=2), nn.PReLU(d)]
        layers += [nn.Conv2d(d, s, 1), nn.PReLU(s)]
        for _ in range(m):
            layers += [nn.Conv2d(s, s, 3, padding=1), nn.PReLU(s)]
        self.features = nn.Sequential(*layers, nn.Conv2d(s, d, 1), nn.PReLU(d))
        self.deconvolution = nn.ConvTranspose2d(
            d, image_channels, 9, stride=self.scale, padding=4, output_padding=self.scale - 1
        )

    def forward(self, lr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 H W"]:
        """Upscale LR images in [0, 1]; the output is near [0, 1] and not clamped."""
        if self.config.channels == "rgb":
            sr: Tensor = self.deconvolution(self.features(lr))
            return sr
        luma = self.deconvolution(self.features(luma_of(lr)))
        upscaled = upscale_float(lr.float(), scale=self.scale, kernel="bicubic")
        return with_more_luma(upscaled, luma - luma_of(upscaled))

    def initialize(self, seed: int) -> None:
        """Seeded, as in the paper: He normal, and normal of deviation 0.001 in the deconvolution; slopes of 0.25."""
        generator = torch.Generator().manual_seed(seed)
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                he_normal(layer, generator)
        nn.init.normal_(self.deconvolution.weight, std=0.001, generator=generator)
        assert self.deconvolution.bias is not None
        nn.init.zeros_(self.deconvolution.bias)

    def identity(self) -> dict[str, Any]:
        """What decides its pixels beside its tensors."""
        return {"family": "fsrcnn", "scale": self.scale, "channels": self.config.channels}
