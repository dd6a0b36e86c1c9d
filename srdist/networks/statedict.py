"""State dicts that say nothing of their network: read as plain tensors, and known by the tensors' names.

The seed's (conv1.weight, conv1.bias, ...) and Real-ESRGAN's compact networks (body.0.weight, ...).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError
from torch import Tensor

from srdist.machine import statedict
from srdist.machine.errors import UserError
from srdist.networks.config import CompactConfig, NetworkSection, SRCNNConfig
from srdist.settings.section import problems

Shapes = Mapping[str, tuple[int, ...]]


class ForeignWeightsError(UserError):
    """A file that is not srdist's; another program's network, perhaps."""


def read_pickle(path: Path) -> dict[str, Tensor]:
    """A state dict of plain tensors, none of which claims more values than the file holds; no code of the file runs."""
    try:
        return statedict.read_pickle(path)
    except statedict.NoStateDictError as error:
        raise ForeignWeightsError(str(error)) from error


def recognize(shapes: Shapes, *, source: Path) -> tuple[NetworkSection, str]:
    """The network that tensors of these shapes are of, and the kernel that it was trained for.

    Raises:
        ForeignWeightsError: of none that is known here.
    """
    if "conv1.weight" in shapes:
        return _seeds(shapes, source=source), "bilinear"
    if (section := _compact(shapes)) is not None:
        return section, "unknown"
    names = ", ".join(sorted(shapes)[:6])
    raise ForeignWeightsError(
        f"{source}: not srdist weights, and expected the seed's tensors conv1.weight, conv1.bias, ..., or a compact "
        f"network's body.0.weight, ..., found {names[:200] or 'none'}"
    )


def _seeds(shapes: Shapes, *, source: Path) -> SRCNNConfig:
    weights = [shapes.get(f"conv{i}.weight", ()) for i in range(1, len(shapes) // 2 + 1)]
    if not weights or any(len(shape) != 4 for shape in weights):
        raise ForeignWeightsError(
            f"{source}: expected the seed's tensors conv1.weight, conv1.bias, ... and no others, each weight of four sides"
        )
    try:
        return SRCNNConfig(
            scale=2,
            kernels=tuple(shape[2] for shape in weights),
            widths=tuple(shape[0] for shape in weights[:-1]),
            residual=False,
            pre_kernel="bilinear",
            last_relu=True,
        )
    except ValidationError as error:
        wrong = "; ".join(itertools.islice(problems(error, SRCNNConfig), 3))
        raise UserError(f"{source}: not the seed's network: {wrong[:300]}") from error


def _compact(shapes: Shapes) -> CompactConfig | None:
    """Real-ESRGAN's: convolutions at the even places of `body`, slopes at the odd ones; RGB to RGB, upscaled."""
    layers = (len(shapes) + 1) // 3  # of each but the last: weight, bias, slopes
    first, last = shapes.get("body.0.weight", ()), shapes.get(f"body.{2 * layers - 2}.bias", ())
    if layers < 2 or len(first) != 4 or first[1] != 3 or len(last) != 1:
        return None
    scale = math.isqrt(last[0] // 3)
    try:
        return CompactConfig(scale=scale, width=first[0], convolutions=layers - 2)
    except ValidationError:
        return None
