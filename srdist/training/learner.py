"""What is trained, under Accelerate: pairs in, better weights out, in steps that can be refused.

A step whose loss or gradient is not finite changes nothing, on all ranks alike, and is told by its values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from srdist.config import TrainConfig
from srdist.images.pixels import to_float
from srdist.machine import ranks
from srdist.machine.errors import UserError
from srdist.networks.network import Network
from srdist.training.contest import Contest, colour_drift, critic_of
from srdist.training.losses import Losses
from srdist.training.rehearsal import without_trace
from srdist.training.stepvalues import StepTensors
from srdist.training.trained import Trained


class Learner:
    """The network, and the critic that is trained beside it where a loss asks for one, by name.

    Args:
        network: the network; it is moved to the device and trained in place.
        images_per_step: images of this rank in one optimizer step, that the loss is a mean over.
        lr_shape: (images, height, width) of every LR batch that `accumulate` will be given.
    """

    def __init__(
        self,
        network: Network,
        config: TrainConfig,
        accelerator: Accelerator,
        *,
        images_per_step: int,
        lr_shape: tuple[int, int, int],
    ) -> None:
        self.config, self.accelerator, self.images_per_step = config, accelerator, images_per_step
        self.device = accelerator.device
        self._graphs = config.compile == "reduce-overhead" and self.device.type == "cuda"
        self.layout = layout(config)
        self._for_use, self._scale = network.for_use, network.scale
        self.network = Trained.of(self._placed(network), config, accelerator)
        self.trained = {"network": self.network}
        # A file may be missing on one machine alone.
        self.losses = ranks.together(lambda: Losses(config.all_losses, self.device))
        self.contest: Contest | None = None
        if (critic := critic_of(config.all_losses, seed=config.seed)) is not None:
            self.trained["critic"] = Trained.of_critic(self._placed(critic), config, accelerator)
            self.contest = Contest.of(config.all_losses, self.trained["critic"], accelerator)
        self._sums: dict[str, Tensor] = {}
        self._warm_up(*lr_shape)

    def begin(self, step: int) -> None:
        """Begin optimizer step `step` (0 is the first): who learns in it may depend on that."""
        if self.contest is not None:
            self.contest.begin(step)

    def accumulate(
        self,
        lr_u8: UInt8[Tensor, "n 3 h w"],
        hr_u8: UInt8[Tensor, "n 3 H W"],
        weight: Float[Tensor, " n"],
        *,
        last: bool,
    ) -> None:
        """Add the gradients of some images of the step; with `last` they are summed over the ranks."""
        if not self._sums:  # the step begins
            for trained in self.trained.values():
                trained.remember()
        lr, hr, weight = (
            self._to_device(lr_u8),
            self._to_device(hr_u8),
            weight.to(self.device, non_blocking=True),
        )
        if self._graphs:
            # What the graphs have made before is not looked at any more, and its memory may be used again.
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        with torch.set_grad_enabled(self._network_learns), self._summed(self.network, last=last):
            sr = self.network.forward(lr)
            average_sr = self.network.of_average(lr, self.accelerator) if self.losses.need_average else None
            of_each = self.losses.of_each(sr, hr, average_sr)
            if self.contest is not None:
                of_each |= self.contest.of_network(sr, hr, weight)
            parts = {kind: self._mean(values, weight) for kind, values in of_each.items()}
            loss = self.losses.total(parts)
            self._add("loss", loss)
            if len(parts) > 1:
                for kind, part in parts.items():
                    self._add(f"loss_{kind}", part)
            if self._network_learns:
                self._backward(loss)
        if self._graphs and not last:
            self.network.own_gradients()
        if self.contest is not None:
            self._contend(self.contest, sr.detach(), hr, weight, last=last)

    def _contend(
        self,
        contest: Contest,
        sr: Float[Tensor, "n 3 h w"],
        hr: Float[Tensor, "n 3 h w"],
        weight: Float[Tensor, " n"],
        *,
        last: bool,
    ) -> None:
        """Add the critic's gradients, and what tells how it stands between the two."""
        with self._summed(contest.critic, last=last):
            found = contest.of_critic(sr, hr, weight)
            values = {name: self._mean(each, weight) for name, each in found.items()}
            if contest.critic_learns:
                self._backward(values["loss_critic"])
        values |= {name: self._mean(each, weight) for name, each in colour_drift(sr, hr).items()}
        for name, value in values.items():
            self._add(name, value)

    def update(self, step: int, learning_rate: float) -> StepTensors:
        """Take optimizer step `step`; return this rank's losses, the gradient norms, and whether it was refused.

        One gradient that is not finite refuses the step of all that is trained. The values stay on the device: whether to
        refuse is decided there, without waiting for it.
        """
        scaler = self.accelerator.scaler
        norms = {}
        for name, trained in self.trained.items():
            if scaler is not None:
                scaler.unscale_(trained.adam)
            norms[_described("grad_norm", name)] = gradient_norm(trained.module.parameters(), self.device)
        refused = (~torch.stack(list(norms.values())).isfinite()).any().float()
        rates = {"network": learning_rate}
        if self.contest is not None:
            rates["critic"] = self.contest.learning_rate(learning_rate / self.config.learning_rate)
        for (name, trained), norm in zip(self.trained.items(), norms.values(), strict=True):
            if self.config.max_grad_norm is not None:
                nn.utils.clip_grads_with_norm_(trained.module.parameters(), self.config.max_grad_norm, norm)
            trained.step(rates[name], refused=refused)
            if trained.ema is not None and self._network_learns:
                trained.ema.update(step, refused=refused)
        scale = torch.ones_like(refused) if scaler is None else scaler.scale(torch.ones_like(refused))
        if scaler is not None:
            # Once for all: the scaler would forget what it has unscaled between one optimizer and the next.
            scaler.update()
        sums, self._sums = self._sums, {}
        return StepTensors(sums, norms, refused, scale)

    def abandon(self) -> None:
        """Forget what `accumulate` has gathered since the last update."""
        for trained in self.trained.values():
            trained.abandon()
        self._sums = {}

    def weights(self) -> dict[str, Tensor]:
        """The network's weights for use (Network.for_use): of the running average where there is one; CPU copies."""
        return self._for_use(self.network.weights())

    def for_use(self, model: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same, made of copies on the CPU of what `state` gave of the model."""
        return self._for_use(self.network.weights_in(model))

    def common_weights(self) -> dict[str, Tensor]:
        """The weights for use with the first rank's buffers: those of layers like BatchNorm are each rank's own. A collective."""
        weights, kept = self.weights(), self.network.module.state_dict(keep_vars=True)
        buffers = {
            name: weights[name]
            for name, tensor in kept.items()
            if name in weights and not isinstance(tensor, nn.Parameter)
        }
        return weights | ranks.broadcast(buffers) if buffers else weights

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Everything that training needs to go on: (weights and `ema.*`, optimizer values), which the next step changes.

        Of what is trained beside the network the names begin with its own and a colon.
        """
        model: dict[str, Tensor] = {}
        optimizer: dict[str, Tensor] = {}
        for name, trained in self.trained.items():
            of_model, of_optimizer = trained.state()
            model |= {_prefix(name) + key: tensor for key, tensor in of_model.items()}
            optimizer |= {_prefix(name) + key: tensor for key, tensor in of_optimizer.items()}
        if self.accelerator.scaler is not None:
            scaler = self.accelerator.scaler.state_dict()
            optimizer["scaler"] = torch.tensor(
                [scaler["scale"], scaler["_growth_tracker"]], dtype=torch.float64
            )
        return model, optimizer

    def load_state(self, model: dict[str, Tensor], optimizer: dict[str, Tensor]) -> None:
        """Take over what `state` gave."""
        for name, trained in self.trained.items():
            trained.load_state(dict(_of(name, model)), dict(_of(name, optimizer)))
        if self.accelerator.scaler is not None and "scaler" in optimizer:
            scale, growth = optimizer["scaler"].tolist()
            current = self.accelerator.scaler.state_dict()
            self.accelerator.scaler.load_state_dict(
                current | {"scale": scale, "_growth_tracker": int(growth)}
            )

    @property
    def _network_learns(self) -> bool:
        return self.contest is None or self.contest.network_learns

    def _summed(self, trained: Trained, *, last: bool) -> AbstractContextManager[Any]:
        """Gradients that come here are summed over the ranks, if they are the last of the step."""
        return nullcontext() if last else self.accelerator.no_sync(trained.forward)

    def _mean(self, values: Float[Tensor, " n"], weight: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        # The divisor counts damaged images (weight 0) too: it is the same on all ranks without asking them.
        return (values * weight).sum() / self.images_per_step

    def _backward(self, loss: Float[Tensor, ""]) -> None:
        # L1's gradient is finite where the loss is not: make it NaN too, and DDP carries that to all ranks.
        self.accelerator.backward(loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan))

    def _add(self, name: str, value: Float[Tensor, ""]) -> None:
        value = value.detach()
        self._sums[name] = self._sums[name] + value if name in self._sums else value

    def _placed(self, module: nn.Module) -> nn.Module:
        placed: nn.Module = module.to(self.device).to(memory_format=self.layout)  # type: ignore[call-overload]
        return placed.train()

    def _to_device(self, images_u8: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        return to_float(images_u8.to(self.device, non_blocking=True)).contiguous(memory_format=self.layout)

    def _warm_up(self, images: int, height: int, width: int) -> None:
        """A step of the run's own shapes on nothing, given up before the optimizer, at every start.

        After its first backward pass DDP lays out its buckets anew, and with them the order in which gloo adds
        the ranks' gradients. Done here, every real step of a run and of its resumption has the same layout. What is
        compiled is compiled here, for these shapes: of two different ones torch would make symbols. CUDA graphs are recorded
        in the second pass and replayed in the third.

        Raises:
            UserError: train.deterministic, and a part of the step has no deterministic algorithm on this device.
        """
        lr = torch.zeros((images, height, width, 3), dtype=torch.uint8)
        hr = torch.zeros((images, height * self._scale, width * self._scale, 3), dtype=torch.uint8)
        for _ in range(3 if self._graphs else 1):
            with without_trace(self.network.module):
                try:
                    # Views of NHWC memory, as those of a Pair.
                    self.accumulate(
                        lr.permute(0, 3, 1, 2), hr.permute(0, 3, 1, 2), torch.zeros(images), last=True
                    )
                except RuntimeError as error:
                    if "deterministic implementation" not in str(error):
                        raise
                    reason = str(error).partition(",")[0]
                    raise UserError(f"train.deterministic: found true, but {reason}") from error
            self.abandon()


def layout(config: TrainConfig) -> torch.memory_format:
    """Memory layout of weights and images: the config's, or the one measured best (benchmarks.train_step)."""
    channels_last = True if config.channels_last is None else config.channels_last
    return torch.channels_last if channels_last else torch.contiguous_format


def gradient_norm(parameters: Iterable[nn.Parameter], device: torch.device) -> Float[Tensor, ""]:
    """L2 norm of all gradients together, on `device`; not finite if any gradient is not, 0 where there are none."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return nn.utils.get_total_norm(gradients) if gradients else torch.zeros((), device=device)


def _described(value: str, name: str) -> str:
    """How a value of one of the trained things is named in the log."""
    return value if name == "network" else f"{value}_{name}"


def _prefix(name: str) -> str:
    return "" if name == "network" else f"{name}:"


def _of(name: str, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of one trained thing, without its prefix; those of others do no harm to the network, being named otherwise."""
    prefix = _prefix(name)
    return ((key.removeprefix(prefix), tensor) for key, tensor in tensors.items() if key.startswith(prefix))
