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
        # The parameters themselves, not their memory of now: DDP gives them another.
        state = module.state_dict(keep_vars=True)
        self.tensors = {name: value.detach().clone() for name, value in state.items()}
        floats = [name for name, average in self.tensors.items() if average.is_floating_point()]
        self._averages, self._state = (
            [self.tensors[name] for name in floats],
            [state[name] for name in floats],
        )
        self._counts = [(self.tensors[name], state[name]) for name in self.tensors.keys() - set(floats)]

    @torch.no_grad()
    def update(self, step: int, *, refused: Float[Tensor, ""]) -> None:
        """Move towards the module's state, after optimizer step `step` (0 is the first).

        Not where the step was refused, in which case that state is what it was before the step: finite.
        """
        for average, count in self._counts:
            average.copy_(count)
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        # Nought of the way is nought, exactly, and no host has to wait to learn whether it is to be gone.
        ways = torch._foreach_sub(self._state, self._averages)
        torch._foreach_mul_(ways, weight * (1 - refused))
        torch._foreach_add_(self._averages, ways)
