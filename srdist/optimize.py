"""How errors become weights: the loss, the learning rate of a step, and the running average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from srdist.config import TrainConfig


def image_losses(
    sr: Float[Tensor, "n 3 h w"], hr: Float[Tensor, "n 3 h w"], *, loss: str
) -> Float[Tensor, " n"]:
    """The loss of each image, a mean over its values, in float32."""
    difference = sr.float() - hr
    match loss:
        case "mse":
            values = difference.square()
        case "l1":
            values = difference.abs()
        case "charbonnier":
            # Charbonnier et al. 1994, as in LapSRN (Lai et al., CVPR 2017).
            values = (difference.square() + 1e-6).sqrt()
        case _:
            raise AssertionError(loss)
    return values.flatten(1).mean(1)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Learning rate of optimizer step `step` (0 is the first): linear warm-up, then half a cosine."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    end = config.decay_steps or config.steps
    share = min(1.0, (step - config.warmup_steps) / max(1, end - config.warmup_steps))
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * 0.5 * (
        1 + math.cos(math.pi * share)
    )


class WeightAverage:
    """Exponential moving average of a network's weights (Polyak and Juditsky 1992), updated after each step.

    The decay grows from 0 to `decay` as (1 + step) / (10 + step), so that the random start is forgotten.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the weights of `model`, after optimizer step `step` (0 is the first)."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.tensors.values()), list(model.state_dict().values()), weight)


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Float[Tensor, ""]:
    """L2 norm of all gradients together, on their device; not finite if any gradient is not."""
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
