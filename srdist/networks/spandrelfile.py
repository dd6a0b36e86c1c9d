"""A network of ours as a file that programs built on spandrel load: a bare state dict under the names that they know."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from srdist.machine.errors import UserError
from srdist.machine.files import write_named
from srdist.networks.compact import CompactNetwork
from srdist.networks.network import Network
from srdist.networks.readback import unlike
from srdist.networks.span import SPAN
from srdist.networks.spandrelnetwork import SpandrelNetwork
from srdist.networks.weightfile import WeightsInfo


def export_spandrel(network: Network, info: WeightsInfo, out: Path) -> None:
    """Write `network` for spandrel, after spandrel has read it back as the same network.

    Raises:
        UserError: spandrel is not installed, knows no such network, or would compute something else.
    """
    if out.suffix != ".safetensors":
        raise UserError(f"{out}: expected a name that ends in .safetensors")
    tensors = _tensors(network, info)
    if difference := unlike(network, tensors):
        raise UserError(
            f"{out}: not written, as spandrel reads these tensors as another network: {difference}"
        )
    # Copies: safetensors takes no tensors that share memory.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_named(out, save(plain, {"format": "pt"}))


def _tensors(network: Network, info: WeightsInfo) -> dict[str, Tensor]:
    match network:
        case CompactNetwork() | SpandrelNetwork():
            return network.state_dict()
        case SPAN() if network.config.blocks == 6:
            return _span(network)
        case _:
            raise UserError(
                f"spandrel has no network that computes what this one does (family {info.network.family}); "
                "it has compact, span with 6 blocks, and whatever family spandrel trains"
            )


def _span(network: SPAN) -> dict[str, Tensor]:
    """With the branches of training, which spandrel's has always, and beside them what they come to."""
    branched = network.config.model_copy(update={"branches": True}).build(seed=None)
    plain = network.for_use(network.state_dict())
    tensors = branched.from_use(plain)
    merged = {
        f"{name.removesuffix('.sk.weight')}.eval_conv.{part}": plain[
            f"{name.removesuffix('.sk.weight')}.{part}"
        ]
        for name in tensors
        if name.endswith(".sk.weight")
        for part in ("weight", "bias")
    }
    return tensors | merged
