"""A module in training: the module, the optimizer that improves it, the running average of its weights; and their way to tensors and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn

from srdist.config import TrainConfig
from srdist.training.average import WeightAverage

_OPTIMIZER_VALUES = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class Trained:
    """One of the things that a Learner trains."""

    module: nn.Module
    """As it is saved."""
    forward: nn.Module
    """The same as it is called: compiled, under DDP."""
    adam: torch.optim.Adam
    ema: WeightAverage | None
    _remembered: dict[str, Tensor] = field(default_factory=dict)
    """Its buffers as the step began."""

    @classmethod
    def of(cls, module: nn.Module, config: TrainConfig, accelerator: Accelerator) -> Self:
        """Prepare the network, which is on its device already, to be trained in place."""
        adam = torch.optim.Adam(module.parameters(), lr=config.learning_rate, fused=True)
        mode = config.compile if isinstance(config.compile, str) else None
        called: Any = torch.compile(module, dynamic=False, mode=mode) if config.compile else module
        ema = WeightAverage(module, decay=config.ema_decay) if config.ema_decay else None
        return cls(module, accelerator.prepare(called), adam, ema)

    @classmethod
    def of_critic(cls, module: nn.Module, config: TrainConfig, accelerator: Accelerator) -> Self:
        """Prepare a critic; its average would be of no use to anybody."""
        # ESRGAN's and Real-ESRGAN's betas: what the critic sees changes as it learns.
        adam = torch.optim.Adam(module.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), fused=True)
        return cls(module, accelerator.prepare(module), adam, None)

    def remember(self) -> None:
        """Keep the buffers (of BatchNorm, of spectral norm), which forward passes change, for a step that comes to nothing."""
        self._remembered.update({name: buffer.clone() for name, buffer in self.module.named_buffers()})

    @torch.no_grad()
    def step(self, learning_rate: float, *, refused: Float[Tensor, ""]) -> None:
        """One step of the optimizer by the gradients, and none of them are left; where it is refused all is as it was."""
        for group in self.adam.param_groups:
            group["lr"] = learning_rate
        # The fused kernels look at it themselves, without a host that waits.
        self.adam.found_inf = refused  # type: ignore[attr-defined]
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        for name, buffer in self.module.named_buffers():
            buffer.copy_(torch.where(refused.bool(), self._remembered[name], buffer))
        self._remembered.clear()

    @torch.no_grad()
    def abandon(self) -> None:
        """Forget the gradients, and what forward passes have changed since `remember`."""
        self.adam.zero_grad(set_to_none=True)
        for name, buffer in self.module.named_buffers():
            # Nothing is remembered where the step was given up before its first forward pass.
            if name in self._remembered:
                buffer.copy_(self._remembered[name])
        self._remembered.clear()

    def own_gradients(self) -> None:
        """Take gradients out of the memory of a CUDA graph, which its next replay writes over."""
        for parameter in self.module.parameters():
            if parameter.grad is not None:
                parameter.grad = parameter.grad.clone()

    @torch.no_grad()
    def of_average(self, inputs: Tensor, accelerator: Accelerator) -> Tensor:
        """What the running average of the weights makes of `inputs`; it changes nothing."""
        assert self.ema is not None
        # Copies: some modules write into their tensors as they are called.
        copies = {name: tensor.clone() for name, tensor in self.ema.tensors.items()}
        try:
            with accelerator.autocast():
                made: Tensor = torch.func.functional_call(self.module.eval(), copies, (inputs,))
        finally:
            self.module.train()
        return made.float()

    def weights(self) -> dict[str, Tensor]:
        """The weights for use: the running average where there is one; CPU copies."""
        return {
            name: tensor.cpu().contiguous().clone()
            for name, tensor in self.weights_in(self.state()[0]).items()
        }

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """All that is needed to go on: (weights and `ema.*`, optimizer values by `PARAMETER/VALUE`), which the next step changes."""
        model = {name: tensor.detach() for name, tensor in self.module.state_dict().items()}
        if self.ema is not None:
            model |= {f"ema.{name}": tensor for name, tensor in self.ema.tensors.items()}
        optimizer = {
            f"{name}/{value}": self.adam.state[parameter][value]
            for name, parameter in self.module.named_parameters()
            if parameter in self.adam.state
            for value in _OPTIMIZER_VALUES
        }
        return model, optimizer

    def weights_in(self, model: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights for use among what `state` gave: the running average where there is one."""
        prefix = "" if self.ema is None else "ema."
        return {name: model[prefix + name] for name in self.module.state_dict()}

    @torch.no_grad()
    def load_state(self, model: dict[str, Tensor], optimizer: dict[str, Tensor]) -> None:
        """Take over what `state` gave."""
        for name, tensor in self.module.state_dict().items():
            tensor.copy_(model[name])
        if self.ema is not None:
            for name, tensor in self.ema.tensors.items():
                tensor.copy_(model[f"ema.{name}"])
        for name, parameter in self.module.named_parameters():
            if f"{name}/step" in optimizer:
                state = {"step": optimizer[f"{name}/step"].to(parameter.device, copy=True)}
                for value in ("exp_avg", "exp_avg_sq"):
                    # Of the parameter's own memory layout, as Adam would have made it.
                    state[value] = torch.empty_like(parameter).copy_(optimizer[f"{name}/{value}"])
                self.adam.state[parameter] = state
