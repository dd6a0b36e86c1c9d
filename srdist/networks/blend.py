"""Two networks of one shape made one: each value on the straight way from the first to the second.

Network interpolation of ESRGAN (Wang et al., ECCVW 2018): between a PSNR-trained network and the adversarial one that was
started from it lies every measure of detail.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srdist.machine.errors import UserError
from srdist.machine.files import write_named
from srdist.networks.network import Network
from srdist.networks.weightfile import (
    WeightsInfo,
    compare_shapes,
    find_weights,
    load_weights,
    pack_weights,
    shapes_of,
)
from srdist.settings.places import refuse_input


def blend(first: str | Path, second: str | Path, *, alpha: float, out: Path) -> Path:
    """Write (1 - `alpha`) x `first` + `alpha` x `second` as a weights file that says what it is made of.

    Args:
        first: and `second`: weights files of srdist, run folders (their best) or names of bundled weights.
        alpha: from 0, the first, to 1, the second.

    Raises:
        UserError: they are not of one network, or `out` is no safetensors file or one of the two.
    """
    sources = [find_weights(name) for name in (first, second)]
    if out.suffix != ".safetensors":
        raise UserError(f"--out {out}: expected a name that ends in .safetensors")
    refuse_input("--out", out, sources)
    (a, of_a), (b, of_b) = (load_weights(source) for source in sources)
    _refuse_others(sources, (of_a, of_b))
    tensors = _between(a, b, alpha=alpha, source=sources[1])
    parts = _parts(sources, (of_a, of_b), shares=(1 - alpha, alpha))
    made = replace(
        of_a,
        kernel=of_a.kernel if of_a.kernel == of_b.kernel else "unknown",
        degradation=of_a.degradation if of_a.degradation == of_b.degradation else "",
        manifest_id=of_a.manifest_id if of_a.manifest_id == of_b.manifest_id else "",
        step=max(of_a.step, of_b.step),
        blend=json.dumps({"of": parts}, sort_keys=True),
    )
    write_named(out, pack_weights(tensors, made))
    return out


def _refuse_others(sources: list[Path], infos: tuple[WeightsInfo, WeightsInfo]) -> None:
    a, b = (info.network.model_dump(mode="json") for info in infos)
    for name in sorted(a.keys() | b.keys()):
        if a.get(name) != b.get(name):
            raise UserError(
                f"{sources[1]}: {name} is {b.get(name)!r}, and {a.get(name)!r} in {sources[0]}: only networks of one "
                "shape can be blended"
            )


def _between(a: Network, b: Network, *, alpha: float, source: Path) -> dict[str, Tensor]:
    one, other = a.state_dict(), b.state_dict()
    compare_shapes(shapes_of(other), shapes_of(one), source=str(source))
    made = {}
    for name, tensor in one.items():
        if tensor.is_floating_point():
            made[name] = torch.lerp(tensor, other[name], alpha)
        elif torch.equal(tensor, other[name]):
            made[name] = tensor
        else:
            raise UserError(f"{source}: tensor {name}, which holds no floats, differs: nothing lies between")
    return made


def _parts(
    sources: list[Path], infos: tuple[WeightsInfo, WeightsInfo], *, shares: tuple[float, float]
) -> list[dict[str, Any]]:
    """The trained files that a blend is made of, each once with its share: a blend counts as what it was made of."""
    parts: dict[str, dict[str, Any]] = {}
    for source, info, share in zip(sources, infos, shares, strict=True):
        for part in _made_of(info) or [_whole(source, info)]:
            mine = parts.setdefault(part["sha256"], part | {"share": 0.0})
            mine["share"] += share * part["share"]
    return list(parts.values())


def _whole(source: Path, info: WeightsInfo) -> dict[str, Any]:
    said = {name: value for name, value in asdict(info).items() if name not in ("network", "blend")}
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    return {"file": source.name, "sha256": sha256, "share": 1.0} | {k: v for k, v in said.items() if v != ""}


def _made_of(info: WeightsInfo) -> list[dict[str, Any]]:
    """What a file says that it was blended of; nothing where it was trained, or says it in another way."""
    try:
        parts = json.loads(info.blend)["of"] if info.blend else []
        if all(isinstance(part["sha256"], str) and isinstance(part["share"], float) for part in parts):
            return list(parts)
    except (ValueError, KeyError, TypeError):
        pass
    return []
