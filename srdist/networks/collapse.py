"""Convolutions that are trained as several and used as one: linear, so that their weights can be multiplied together.

That is done at every step, so that a step costs little more than the one convolution's (Bhardwaj et al., MLSys 2022).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from srdist.networks.config import Collapse

_EDGES = (
    ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0)),
    ((1.0, 2.0, 1.0), (0.0, 0.0, 0.0), (-1.0, -2.0, -1.0)),
    ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0)),
)
"""The fixed filters of ECBSR's branches: Sobel across and down, Laplace."""


class Collapsing(nn.Module, ABC):
    """A convolution made of others; zero padding keeps the size."""

    kernel: int

    def forward(self, features: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h w"]:
        # In float32 whatever the step's precision: the products of weights must not be rounded before they are one.
        with torch.autocast(features.device.type, enabled=False):
            one = self.collapsed(dict(self.named_parameters()))
        return F.conv2d(features, one["weight"], one["bias"], padding=self.kernel // 2)

    @abstractmethod
    def collapsed(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """`weight` [o, i, k, k] and `bias` [o] of the one convolution that `parts`, tensors of this layer, come to."""

    @abstractmethod
    def expanded(self, one: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of this layer that come to `one`; what that leaves open stays as it is, and unused."""


def collapsed_state(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """State dict of the network of plain convolutions that computes what `network` does with `tensors`."""
    plain = dict(tensors)
    for name, layer in network.named_modules():
        if isinstance(layer, Collapsing):
            parts = {part: plain.pop(f"{name}.{part}") for part, _ in layer.named_parameters()}
            plain |= {f"{name}.{key}": tensor for key, tensor in layer.collapsed(parts).items()}
    return plain


def expanded_state(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The other way round: a state dict of `network` that computes what plain convolutions of `tensors` do."""
    own = dict(tensors)
    for name, layer in network.named_modules():
        if isinstance(layer, Collapsing):
            one = {key: own.pop(f"{name}.{key}") for key in ("weight", "bias")}
            own |= {f"{name}.{part}": tensor for part, tensor in layer.expanded(one).items()}
    return own


class CollapsedConvolution(Collapsing):
    """A convolution to `expand` channels, one of side 1 back, and the identity where it fits, computed as one.

    With `edges` also three branches of a convolution of side 1 and a fixed edge filter each.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, collapse: Collapse) -> None:
        super().__init__()
        self.kernel, self.short_skip = kernel, inputs == outputs
        self.expand = nn.Parameter(torch.zeros(collapse.expand, inputs, kernel, kernel))
        self.project = nn.Parameter(torch.zeros(outputs, collapse.expand))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.edges = nn.Parameter(torch.zeros(3, outputs, inputs)) if collapse.edges and kernel == 3 else None

    def collapsed(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        weight = torch.einsum("oe,eikl->oikl", parts["project"], parts["expand"])
        return {
            "weight": weight + self._beside(parts.get("edges"), like=weight),
            "bias": parts["bias"],
        }

    def expanded(self, one: dict[str, Tensor]) -> dict[str, Tensor]:
        parts = {name: tensor.detach().clone() for name, tensor in self.named_parameters()}
        outputs = one["bias"].shape[0]
        parts["expand"][:outputs] = one["weight"] - self._beside(parts.get("edges"), like=one["weight"])
        parts["project"].zero_()[:, :outputs] = torch.eye(outputs)
        parts["bias"] = one["bias"]
        return parts

    def initialize(self, generator: torch.Generator, *, gain: float) -> None:
        """He normal together; the identity beside it has its share where there is one."""
        nn.init.kaiming_normal_(
            self.expand, nonlinearity="linear" if self.short_skip else "relu", generator=generator
        )
        nn.init.normal_(self.project, std=gain * self.project.shape[1] ** -0.5, generator=generator)
        nn.init.zeros_(self.bias)
        if self.edges is not None:
            nn.init.normal_(self.edges, std=0.1 * gain * self.edges.shape[2] ** -0.5, generator=generator)

    def _beside(self, edges: Tensor | None, *, like: Tensor) -> Tensor:
        """The weight of what lies beside the two convolutions in a row."""
        beside = like.new_zeros(())
        if self.short_skip:
            outputs, middle = self.project.shape[0], self.kernel // 2
            delta = F.pad(like.new_ones(1, 1), (middle, middle, middle, middle))
            beside = torch.eye(outputs, dtype=like.dtype, device=like.device)[:, :, None, None] * delta
        if edges is not None:
            beside = beside + torch.einsum("boi,bkl->oikl", edges, like.new_tensor(_EDGES))
        return beside


class ThreeInARow(Collapsing):
    """SPAN's: a convolution of side 1, one of side 3 and one of side 1, twice as wide between, and one of side 1 beside.

    The names are those of its authors' code (Wan et al., CVPRW 2024).
    """

    kernel = 3

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.sk = nn.Conv2d(inputs, outputs, 1)
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, 2 * inputs, 1),
            nn.Conv2d(2 * inputs, 2 * outputs, 3),
            nn.Conv2d(2 * outputs, outputs, 1),
        )

    def collapsed(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        into, middle, out = (parts[f"conv.{i}.weight"] for i in range(3))
        weight = torch.einsum("om,mnkl,ni->oikl", out[..., 0, 0], middle, into[..., 0, 0])
        weight = weight + F.pad(parts["sk.weight"], (1, 1, 1, 1))
        # Zero padding lies before the first of the three, so that its bias reaches every tap of the second.
        bias = middle.sum((2, 3)) @ parts["conv.0.bias"] + parts["conv.1.bias"]
        bias = out[..., 0, 0] @ bias + parts["conv.2.bias"] + parts["sk.bias"]
        return {"weight": weight, "bias": bias}

    def expanded(self, one: dict[str, Tensor]) -> dict[str, Tensor]:
        parts = {name: tensor.detach().clone() for name, tensor in self.named_parameters()}
        outputs, inputs = one["weight"].shape[:2]
        parts["conv.0.weight"][:inputs] = torch.eye(inputs)[..., None, None]
        parts["conv.1.weight"][:outputs, :inputs] = one["weight"]
        parts["conv.1.weight"][:outputs, inputs:] = 0
        parts["conv.2.weight"].zero_()[:, :outputs] = torch.eye(outputs)[..., None, None]
        for name in ("sk.weight", "sk.bias", "conv.0.bias", "conv.1.bias"):
            parts[name].zero_()
        parts["conv.2.bias"] = one["bias"]
        return parts
