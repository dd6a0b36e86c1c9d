"""The network and its optimizer under Accelerate: pairs in, better weights out, in steps that can be refused.

A step whose loss or gradient is not finite changes nothing, on all ranks alike, and is told by its trace.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from srdist.config import TrainConfig
from srdist.images.pixels import to_float
from srdist.losses.pixel import image_losses
from srdist.networks.srcnn import SRCNN
from srdist.training.optimize import WeightAverage, gradient_norm

_OPTIMIZER_VALUES = ("step", "exp_avg", "exp_avg_sq")


class Learner:
    """One network in training.

    Args:
        network: the network; it is moved to the device and trained in place.
        images_per_step: images of this rank in one optimizer step, that the loss is a mean over.
    """

    def __init__(
        self, network: SRCNN, config: TrainConfig, accelerator: Accelerator, *, images_per_step: int
    ) -> None:
        self.config, self.accelerator, self.images_per_step = config, accelerator, images_per_step
        self.device = accelerator.device
        self.layout = layout(config)
        self.network = network.to(self.device).to(memory_format=self.layout).train()  # type: ignore[call-overload]
        self.parameters = dict(self.network.named_parameters())
        adam = torch.optim.Adam(self.parameters.values(), lr=config.learning_rate, fused=True)
        module: Any = torch.compile(network) if config.compile else network
        self.model, self.optimizer = accelerator.prepare(module, adam)
        self.adam = adam
        self.average = WeightAverage(network, decay=config.ema_decay) if config.ema_decay else None
        self._loss = torch.zeros((), device=self.device)
        self._warm_up()

    def accumulate(
        self,
        lr_u8: UInt8[Tensor, "n 3 h w"],
        hr_u8: UInt8[Tensor, "n 3 H W"],
        weight: Float[Tensor, " n"],
        *,
        last: bool,
    ) -> None:
        """Add the gradients of some images of the step; with `last` they are summed over the ranks."""
        lr, hr, weight = (
            self._to_device(lr_u8),
            self._to_device(hr_u8),
            weight.to(self.device, non_blocking=True),
        )
        with nullcontext() if last else self.accelerator.no_sync(self.model):
            losses = image_losses(self.model(lr), hr, loss=self.config.loss)
            # The divisor counts damaged images (weight 0) too: it is the same on all ranks without asking them.
            loss = (losses * weight).sum() / self.images_per_step
            self._loss += loss.detach()
            # L1's gradient is finite where the loss is not: make it NaN too, and DDP carries that to all ranks.
            self.accelerator.backward(loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan))

    def update(self, step: int, learning_rate: float) -> Float[Tensor, " 3"]:
        """Take optimizer step `step`; return this rank's loss, the gradient norm and 1 if the step was refused.

        The values stay on the device: whether to refuse is decided there, without waiting for it.
        """
        self.accelerator.unscale_gradients(self.optimizer)
        norm = gradient_norm(self.network.parameters())
        refused = (~norm.isfinite()).float()
        if self.config.max_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(self.network.parameters(), self.config.max_grad_norm, norm)
        for group in self.adam.param_groups:
            group["lr"] = learning_rate
        if self.accelerator.scaler is None:
            # The fused kernels look at found_inf themselves, as they do for torch's GradScaler.
            self.adam.found_inf = refused  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.network, step, refused=refused)
        told = torch.stack([self._loss, norm, refused])
        self._loss = torch.zeros((), device=self.device)
        return told

    def abandon(self) -> None:
        """Forget what `accumulate` has gathered since the last update."""
        self.optimizer.zero_grad(set_to_none=True)
        self._loss = torch.zeros((), device=self.device)

    def weights(self) -> dict[str, Tensor]:
        """The weights for use: the running average where there is one; CPU copies."""
        tensors = self.network.state_dict() if self.average is None else self.average.tensors
        return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Everything that training needs to go on: (weights and `ema.*`, optimizer values), CPU copies."""
        model = {
            name: tensor.detach().cpu().contiguous().clone()
            for name, tensor in self.network.state_dict().items()
        }
        if self.average is not None:
            model |= {
                f"ema.{name}": tensor.cpu().contiguous().clone()
                for name, tensor in self.average.tensors.items()
            }
        optimizer = {
            f"{name}/{value}": self.adam.state[parameter][value].detach().cpu().contiguous().clone()
            for name, parameter in self.parameters.items()
            if parameter in self.adam.state
            for value in _OPTIMIZER_VALUES
        }
        if self.accelerator.scaler is not None:
            scaler = self.accelerator.scaler.state_dict()
            optimizer["scaler"] = torch.tensor(
                [scaler["scale"], scaler["_growth_tracker"]], dtype=torch.float64
            )
        return model, optimizer

    def load_state(self, model: dict[str, Tensor], optimizer: dict[str, Tensor]) -> None:
        """Take over what `state` gave."""
        averages = {name.removeprefix("ema."): t for name, t in model.items() if name.startswith("ema.")}
        with torch.no_grad():
            for name, tensor in self.network.state_dict().items():
                tensor.copy_(model[name])
            if self.average is not None:
                for name, tensor in self.average.tensors.items():
                    tensor.copy_(averages[name])
            for name, parameter in self.parameters.items():
                if f"{name}/step" in optimizer:
                    state = {"step": optimizer[f"{name}/step"].to(self.device)}
                    for value in ("exp_avg", "exp_avg_sq"):
                        # Of the parameter's own memory layout, as Adam would have made it.
                        state[value] = torch.empty_like(parameter).copy_(optimizer[f"{name}/{value}"])
                    self.adam.state[parameter] = state
        if self.accelerator.scaler is not None and "scaler" in optimizer:
            scale, growth = optimizer["scaler"].tolist()
            current = self.accelerator.scaler.state_dict()
            self.accelerator.scaler.load_state_dict(
                current | {"scale": scale, "_growth_tracker": int(growth)}
            )

    def _to_device(self, images_u8: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        if self.device.type == "cuda":
            images_u8 = images_u8.pin_memory().to(self.device, non_blocking=True)
        return to_float(images_u8).contiguous(memory_format=self.layout)

    def _warm_up(self) -> None:
        """One backward pass on nothing, before the first step of every start.

        After its first backward pass DDP lays out its buckets anew, and with them the order in which gloo adds
        the ranks' gradients. Done here, every real step of a run and of its resumption has the same layout.
        """
        side = 16
        lr = torch.zeros((1, 3, side, side), device=self.device)
        self.accelerator.backward(self.model(lr).sum() * 0)
        self.optimizer.zero_grad(set_to_none=True)


def layout(config: TrainConfig) -> torch.memory_format:
    """Memory layout of weights and images: the config's, or the one measured best (benchmarks.train_step)."""
    channels_last = True if config.channels_last is None else config.channels_last
    return torch.channels_last if channels_last else torch.contiguous_format
