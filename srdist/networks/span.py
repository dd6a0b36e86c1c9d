"""SPAN: blocks of three 3x3 convolutions whose output is weighted by a gate that is made of itself, without parameters.

Wan et al., Swift Parameter-free Attention Network, CVPRW 2024 (NTIRE 2024, first place). Each convolution is trained with
branches that are collapsed at every step (collapse.py); the names are those of its authors' code.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from srdist.networks.collapse import ThreeInARow, collapsed_state, expanded_state
from srdist.networks.config import SPANConfig
from srdist.networks.initial import as_torch_has_it
from srdist.networks.network import Network

_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean RGB of DIV2K, which the paper's network takes off its input."""
_RANGE = 255.0


class SPAN(Network):
    """`config.blocks` blocks of `config.width` channels."""

    def __init__(self, config: SPANConfig) -> None:
        super().__init__()
        self.config, self.scale = config, config.scale
        self.halo = 3 * config.blocks + 3
        width = config.width
        self.conv_1 = _convolution(3, width, branches=config.branches)
        for i in range(1, config.blocks + 1):
            self.add_module(f"block_{i}", _Block(width, branches=config.branches))
        self.conv_cat = nn.Conv2d(4 * width, width, 1)
        self.conv_2 = _convolution(width, width, branches=config.branches)
        self.upsampler = nn.Sequential(
            nn.Conv2d(width, 3 * config.scale**2, 3, padding=1), nn.PixelShuffle(config.scale)
        )

    def forward(self, lr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 H W"]:
        """Upscale LR images in [0, 1]; the output is near [0, 1] and not clamped."""
        first = self.conv_1((lr - lr.new_tensor(_MEAN).view(1, 3, 1, 1)) * _RANGE)
        after_block, inner = [], first
        features = first
        for i in range(1, self.config.blocks + 1):
            features, inner = self.get_submodule(f"block_{i}")(features)
            after_block.append(features)
        joined = torch.cat([first, self.conv_2(features), after_block[0], inner], 1)
        sr: Tensor = self.upsampler(self.conv_cat(joined))
        return sr

    def initialize(self, seed: int) -> None:
        """Torch's own initial weights, seeded, as the authors' code has it."""
        as_torch_has_it(self, torch.Generator().manual_seed(seed))

    def identity(self) -> dict[str, Any]:
        """What decides its pixels beside its tensors."""
        return {"family": "span", "scale": self.scale}

    def for_use(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The plain convolutions that `tensors` of this network come to."""
        return collapsed_state(self, tensors)

    def from_use(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of this network that come to the plain convolutions `tensors`."""
        return expanded_state(self, tensors)


class _Block(nn.Module):
    def __init__(self, width: int, *, branches: bool) -> None:
        super().__init__()
        self.c1_r, self.c2_r, self.c3_r = (_convolution(width, width, branches=branches) for _ in range(3))

    def forward(self, features: Float[Tensor, "n c h w"]) -> tuple[Tensor, Tensor]:
        """The block's output, and its first convolution's, activated."""
        inner = F.silu(self.c1_r(features))
        out = self.c3_r(F.silu(self.c2_r(inner)))
        return (out + features) * (torch.sigmoid(out) - 0.5), inner


def _convolution(inputs: int, outputs: int, *, branches: bool) -> nn.Module:
    return ThreeInARow(inputs, outputs) if branches else nn.Conv2d(inputs, outputs, 3, padding=1)
