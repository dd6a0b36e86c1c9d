"""SRCNN: an LR batch in, an SR batch out; the bicubic upscaling is part of the network's forward.

Dong, Loy, He, Tang: Image Super-Resolution Using Deep Convolutional Networks, TPAMI 2016. With
`upscale: after` the convolutions work on the LR grid and a pixel shuffle makes the HR grid, as in
Shi et al., CVPR 2016 (ESPCN) and Dong et al., ECCV 2016 (FSRCNN): at scale 2 a quarter of the arithmetic.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from srdist.images.resize import upscale_float
from srdist.networks.config import SRCNNConfig
from srdist.networks.initial import he_normal
from srdist.networks.network import Network


class SRCNN(Network):
    """Convolutions with ReLU between them, before or after the upscaling.

    The state dict is conv1.weight, conv1.bias, conv2.weight ...: with the default shape the seed's own.
    """

    def __init__(self, config: SRCNNConfig) -> None:
        super().__init__()
        self.config = config
        self.scale, self.halo = config.scale, _halo(config)
        self.sums_in_float32 = config.residual
        image_channels = 3 if config.upscale == "before" else 3 * config.scale**2
        channels = (3, *config.widths, image_channels)
        self.num_layers = len(config.kernels)
        for i, kernel in enumerate(config.kernels):
            convolution = nn.Conv2d(channels[i], channels[i + 1], kernel, padding=kernel // 2)
            self.add_module(f"conv{i + 1}", convolution)

    def forward(self, lr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 H W"]:
        """Upscale LR images in [0, 1]; the output is near [0, 1] and not clamped."""
        config = self.config
        if config.upscale == "before":
            base = self.upscaled(lr)
            features = base
        else:
            base = self.upscaled(lr) if config.residual else lr
            features = lr
        for i in range(1, self.num_layers + 1):
            features = self.get_submodule(f"conv{i}")(features)
            if i < self.num_layers or config.last_relu:
                features = F.relu(features, inplace=True)
        sr = features if config.upscale == "before" else F.pixel_shuffle(features, config.scale)
        return sr + base if config.residual else sr

    def upscaled(self, lr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 H W"]:
        """The input, upscaled by `pre_kernel` in float32: the network's starting point and its baseline."""
        return upscale_float(lr.float(), scale=self.config.scale, kernel=self.config.pre_kernel)

    def initialize(self, seed: int) -> None:
        """Seeded initial weights: He (Kaiming) normal, biases 0; the last layer small where residual.

        A residual network starts close to the bicubic upscaling instead of at noise.
        """
        generator = torch.Generator().manual_seed(seed)
        for i in range(1, self.num_layers + 1):
            layer = self.get_submodule(f"conv{i}")
            assert isinstance(layer, nn.Conv2d)
            he_normal(layer, generator, gain=0.01 if self.config.residual and i == self.num_layers else 1.0)

    def identity(self) -> dict[str, Any]:
        """What decides its pixels beside its tensors."""
        config = self.config
        return {
            "family": "srcnn",
            "scale": config.scale,
            "kernels": config.kernels,
            "upscale": config.upscale,
            "residual": config.residual,
            "pre_kernel": config.pre_kernel,
            "last_relu": config.last_relu,
        }


def _halo(config: SRCNNConfig) -> int:
    radius = sum(kernel // 2 for kernel in config.kernels)
    if config.upscale == "before":
        # ceil of the radius on the HR grid, and two pixels of support of the bicubic itself.
        return -(-radius // config.scale) + 2
    return max(radius, 2)
