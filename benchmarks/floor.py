"""The least time that a training step of a network can take: its convolutions at a device's measured peaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Convolution:
    """What one convolution does to a batch."""

    operations: float
    """Floating point operations, forward."""
    values: float
    """Read and written, forward: input and output."""
    passes: int
    """Forward, gradient of the weights, and of the input but for the first layer's."""


def convolutions(network: nn.Module, lr_shape: tuple[int, int, int, int]) -> list[Convolution]:
    """Those of a network that is given a batch, from its shapes alone."""
    found: list[Convolution] = []

    def note(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        weights = module.weight
        operations = 2.0 * made.numel() * weights.shape[1] * weights.shape[2] * weights.shape[3]
        found.append(
            Convolution(operations, float(given[0].numel() + made.numel()), passes=3 if found else 2)
        )

    def on_meta(name: str) -> Any:
        return network.get_parameter(name).to("meta")

    hooks = [
        module.register_forward_hook(note) for module in network.modules() if isinstance(module, nn.Conv2d)
    ]
    try:
        tensors = {name: on_meta(name) for name, _ in network.named_parameters()}
        tensors |= {name: buffer.to("meta") for name, buffer in network.named_buffers()}
        torch.func.functional_call(network, tensors, (torch.empty(lr_shape, device="meta"),))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def floor_s(layers: list[Convolution], *, flops: float, copy: float, bytes_a_value: int) -> float:
    """Seconds of forward and backward, each layer at the slower of its operations and its bytes.

    Args:
        flops: floating point operations a second.
        copy: bytes a second, read and written.
    """
    return sum(
        max(layer.operations / flops, layer.values * bytes_a_value / copy) * layer.passes for layer in layers
    )
