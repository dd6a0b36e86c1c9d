"""Plain convolutions on the LR grid with PReLU and two long skips: ESPCN, SESR and ECBSR are members.

Shi et al., CVPR 2016 (ESPCN); Bhardwaj et al., MLSys 2022 (SESR); Zhang et al., ACM MM 2021 (ECBSR). With `collapse` each
convolution is trained as several in a row or side by side; since all of them are linear, their *weights* are multiplied
together at every step and the images go through one convolution: a step costs little more than the plain network's,
and what is saved for use is the plain network.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from srdist.images.resize import upscale_float
from srdist.networks.collapse import CollapsedConvolution, collapsed_state, expanded_state
from srdist.networks.config import PlainConfig
from srdist.networks.initial import he_normal
from srdist.networks.luma import luma_of, with_more_luma
from srdist.networks.network import Network


class PlainNetwork(Network):
    """Convolutions of one grid; the state dict is conv1.weight, conv1.bias, act1.weight, conv2.weight ..."""

    def __init__(self, config: PlainConfig) -> None:
        super().__init__()
        self.config, self.scale = config, config.scale
        radius = sum(kernel // 2 for kernel in config.kernels)
        # The bicubic upscaling looks two pixels far.
        self.sums_in_float32 = config.base != "none"
        self.halo = max(radius, 2 if config.base == "bicubic" or config.channels == "luma" else 0)
        image_channels = 3 if config.channels == "rgb" else 1
        channels = (image_channels, *config.widths, image_channels * config.scale**2)
        self.num_layers = len(config.kernels)
        for i, kernel in enumerate(config.kernels, start=1):
            inputs, outputs = channels[i - 1], channels[i]
            convolution = (
                nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
                if config.collapse is None
                else CollapsedConvolution(inputs, outputs, kernel, config.collapse)
            )
            self.add_module(f"conv{i}", convolution)
            if i < self.num_layers and config.activation == "prelu":
                self.add_module(f"act{i}", nn.PReLU(outputs))

    def forward(self, lr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 H W"]:
        """Upscale LR images in [0, 1]; the output is near [0, 1] and not clamped."""
        config = self.config
        image = luma_of(lr) if config.channels == "luma" else lr
        features = first = self._activated(1, self.get_submodule("conv1")(image))
        for i in range(2, self.num_layers):
            features = self._activated(i, self.get_submodule(f"conv{i}")(features))
        if config.feature_skip:
            features = features + first
        sr = F.pixel_shuffle(self.get_submodule(f"conv{self.num_layers}")(features), self.scale)
        match config.base:
            case "nearest":
                sr = sr + F.interpolate(image, scale_factor=float(self.scale), mode="nearest")
            case "bicubic" if config.channels == "rgb":
                return sr + self._bicubic(lr)
        if config.channels == "rgb":
            return sr
        upscaled = self._bicubic(lr)
        # Bicubic of the luma is luma of the bicubic.
        return with_more_luma(upscaled, sr if config.base == "bicubic" else sr - luma_of(upscaled))

    def _bicubic(self, lr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 H W"]:
        return upscale_float(lr.float(), scale=self.scale, kernel="bicubic")

    def _activated(self, i: int, features: Tensor) -> Tensor:
        match self.config.activation:
            case "relu":
                return F.relu(features, inplace=True)
            case "tanh":
                return torch.tanh(features)
            case "prelu":
                activated: Tensor = self.get_submodule(f"act{i}")(features)
                return activated

    def initialize(self, seed: int) -> None:
        """Seeded initial weights: He (Kaiming) normal, biases 0; the last layer small where something is added to it."""
        generator = torch.Generator().manual_seed(seed)
        for i in range(1, self.num_layers + 1):
            layer = self.get_submodule(f"conv{i}")
            assert isinstance(layer, nn.Conv2d | CollapsedConvolution)
            gain = 0.01 if i == self.num_layers and self.config.base != "none" else 1.0
            if isinstance(layer, CollapsedConvolution):
                layer.initialize(generator, gain=gain)
            else:
                he_normal(layer, generator, gain=gain)

    def identity(self) -> dict[str, Any]:
        """What decides its pixels beside its tensors."""
        config = self.config
        return {
            "family": "plain",
            "scale": config.scale,
            "kernels": config.kernels,
            "activation": config.activation,
            "feature_skip": config.feature_skip,
            "base": config.base,
            "channels": config.channels,
        }

    def for_use(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The plain convolutions that `tensors` of this network come to."""
        return collapsed_state(self, tensors)

    def from_use(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of this network that come to the plain convolutions `tensors`."""
        return expanded_state(self, tensors)
