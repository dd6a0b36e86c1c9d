"""How errors become weights: the loss, the learning rate of a step, and the running average of the weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of a network's weights (Polyak and Juditsky 1992), updated after each step.

    The decay grows from 0 to `decay` as (1 + step) / (10 + step), so that the random start is forgotten.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int, *, refused: Float[Tensor, ""]) -> None:
        """Move towards the weights of `model`, after optimizer step `step` (0 is the first); not where it was refused."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        averages = list(self.tensors.values())
        # The way to oneself is nought, exactly, and no host has to wait to learn whether it is to be gone.
        towards = [
            torch.where(refused.bool(), average, value)
            for average, value in zip(averages, model.state_dict().values(), strict=True)
        ]
        torch._foreach_lerp_(averages, towards, weight)


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Float[Tensor, ""]:
    """L2 norm of all gradients together, on their device; not finite if any gradient is not."""
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
