"""The running average of a module's weights, which is what is used of them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of a module's state (Polyak and Juditsky 1992), updated after each step.

    The decay grows from 0 to `decay` as (1 + step) / (10 + step), so that the random start is forgotten. What is
    no floating-point number, such as a count of batches, is as in the module.
    """

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int, *, refused: Float[Tensor, ""]) -> None:
        """Move towards the state of `module`, after optimizer step `step` (0 is the first); not where it was refused."""
        state = module.state_dict()
        # The way to oneself is nought, exactly, and no host has to wait to learn whether it is to be gone.
        towards = {
            name: torch.where(refused.bool(), average, state[name]) for name, average in self.tensors.items()
        }
        floats = [name for name, average in self.tensors.items() if average.is_floating_point()]
        for name in self.tensors.keys() - set(floats):
            self.tensors[name].copy_(towards[name])
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            [self.tensors[name] for name in floats], [towards[name] for name in floats], weight
        )
