"""The network as a run begins with it: built, held against the patches and the precision, what never learns frozen."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from srdist.config import Config
from srdist.machine.device import mixed_precision
from srdist.machine.errors import UserError
from srdist.networks.foreign import start_from
from srdist.networks.network import Network
from srdist.training.rehearsal import without_trace


class Beginning(NamedTuple):
    """A network with its first weights."""

    network: Network
    frozen: list[str]
    """Names of the parameters that were frozen (see freeze_unreached)."""
    anew: list[str]
    """Names of the tensors that a file of another scale in `train.init_from` does not give."""


def begin_network(config: Config, *, rank_batch: int, resumes: bool = False) -> Beginning:
    """The network that a run trains, as it begins.

    Args:
        rank_batch: images of a rank in one forward pass.
        resumes: whether the weights will come from a checkpoint; `train.init_from` is not read then.

    Raises:
        UserError: it cannot be made, or trained on patches of this size or in this precision; or it and `train.init_from`
            do not fit each other.
    """
    network = config.model.build(seed=config.train.seed)
    precision, patch = config.train.precision, config.data.hr_patch
    if precision not in network.precisions:
        possible = ", ".join(network.precisions)
        raise UserError(f"train.precision: found {precision}, this network can be trained in: {possible}")
    side = network.smallest if patch is None else patch // config.model.scale
    if side < network.smallest:
        raise UserError(
            f"data.hr_patch: {patch} makes LR patches of {side} pixels a side, expected at least "
            f"{network.smallest * config.model.scale}: this network takes no fewer than {network.smallest} LR pixels"
        )
    start = config.train.init_from
    anew = [] if start is None or resumes else start_from(network, config.model, start)
    frozen = freeze_unreached(network, images=min(rank_batch, 2), side=max(side, 8), precision=precision)
    return Beginning(network, frozen, anew)


def freeze_unreached(network: Network, *, images: int, side: int, precision: str) -> list[str]:
    """Freeze the parameters that no gradient reaches, which would make DDP wait for ever; return their names, sorted.

    They are found by one forward and backward pass, after which the network is as it was before.

    Args:
        images: in the batch.
        side: of the LR patches, in pixels.

    Raises:
        UserError: the network does not run on such patches, in this precision, or upscales by another factor.
    """
    lr = torch.rand(images, 3, side, side, generator=torch.Generator().manual_seed(0))
    if problem := _pass(network, lr, precision):
        fine_in_fp32 = not _is_wide(precision) and _pass(network, lr, "fp32") is None
        field = f"train.precision: {precision}" if fine_in_fp32 else "model"
        many = f"{images} LR patch{'es' if images > 1 else ''} of {side}x{side} pixels"
        raise UserError(f"{field}: the network cannot be trained on {many}: {problem}")
    parameters = dict(network.named_parameters())
    unreached = sorted(name for name, one in parameters.items() if one.requires_grad and one.grad is None)
    for name in unreached:
        parameters[name].requires_grad_(False)
    network.zero_grad(set_to_none=True)
    return unreached


def _pass(network: Network, lr: Float[Tensor, "n 3 h w"], precision: str) -> str | None:
    """Once forward and backward; what went wrong, if something did."""
    n, _, height, width = lr.shape
    expected = (n, 3, height * network.scale, width * network.scale)
    with without_trace(network), torch.autocast("cpu", torch.bfloat16, enabled=not _is_wide(precision)):
        try:
            sr = network.train()(lr)
            if sr.shape != expected:
                return f"it makes {tuple(sr.shape)} of {tuple(lr.shape)}, expected {expected}"
            sr.float().square().mean().backward()
        except Exception as error:  # what a network of others raises over shapes and types that do not fit
            return " ".join(str(error).split())[:300] or type(error).__name__
    return None


def _is_wide(precision: str) -> bool:
    return mixed_precision(precision) == "no"
