"""What programs built on spandrel make of tensors: the network that spandrel tells from them, beside the one they are of.

Spandrel reads a network's shape from its tensors. What leaves no trace in them (a range of values, say) it takes to be
what is usual, and computes something else where it is not.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from srdist.networks.architectures import library
from srdist.networks.network import Network

_EQUAL = 0.1 / 255
"""Of the largest output value, at least 1: a tenth of an 8-bit level."""


def unlike(network: Network, tensors: dict[str, Tensor]) -> str | None:
    """How what spandrel makes of `tensors` differs from `network`, which they are to be of; None where it does not.

    Args:
        network: in evaluation mode, on the CPU.

    Raises:
        UserError: spandrel is not installed.
    """
    spandrel = library()
    own = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the classes' own
            read = spandrel.ModelLoader(device="cpu").load_from_state_dict(own)
    except Exception as error:  # whatever tensors of any kind make some forty readers raise
        return f"it cannot read them ({' '.join(str(error).split())[:200]})"
    if read.scale != network.scale:
        return f"it takes them for {read.architecture.name} upscaling by {read.scale}"
    side = -(-max(24, network.smallest) // network.multiple) * network.multiple
    lr = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        sr, theirs = network(lr), read.model.eval()(lr.clone())
    if sr.shape == theirs.shape and (sr - theirs).abs().max() <= _EQUAL * max(1.0, float(sr.abs().max())):
        return None
    changed = _arguments(network, read.model)
    return f"it takes them for {read.architecture.name}{f' with {changed}' if changed else ''}, which computes other pixels"


def _arguments(network: Network, theirs: nn.Module) -> str:
    """The arguments that spandrel could not know, and what it takes them to be."""
    ours: Any = getattr(network, "model", None)
    given, taken = (getattr(one, "hyperparameters", {}) for one in (ours, theirs))
    wrong = [name for name in given if name in taken and _plain(given[name]) != _plain(taken[name])]
    return ", ".join(f"{name} {taken[name]!r} instead of {given[name]!r}" for name in wrong)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
