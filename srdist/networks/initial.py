"""Initial weights made of a seed alone, as the papers have them."""

from __future__ import annotations

import math

import torch
from torch import nn

Convolution = nn.Conv2d | nn.ConvTranspose2d


def he_normal(layer: Convolution, generator: torch.Generator, *, gain: float = 1.0) -> None:
    """He et al., ICCV 2015, for ReLU, times `gain`; bias 0."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
    layer.weight.data.mul_(gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def as_torch_has_it(module: nn.Module, generator: torch.Generator) -> None:
    """Every convolution within `module` uniform in 1 / sqrt(fan in), weights and biases, as torch makes them."""
    for layer in module.modules():
        if isinstance(layer, Convolution):
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
            if layer.bias is not None:
                bound = layer.weight[0].numel() ** -0.5
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
