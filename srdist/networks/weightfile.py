"""A network as one file: safetensors with the metadata that upscaling and evaluation need, and nothing else.

The metadata are strings, as the format has it (https://github.com/huggingface/safetensors): `srdist` (format
version), `network` (JSON of the config's model section), `scale`, `kernel` (that LR was made with in training, or the
name of what else made it), `manifest_id`, `step`, `srdist_version`; `degradation` (JSON of the config's section) where
the name in `kernel` does not say all; and `blend` (JSON: alpha, and of both files name, sha256 and these metadata) where
`srdist blend` made it.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from srdist import __version__
from srdist.machine.errors import UserError, refuse_url
from srdist.machine.files import write_bytes
from srdist.machine.plainjson import parse_json
from srdist.networks import config as networkconfig
from srdist.networks.budget import at_most
from srdist.networks.config import NetworkConfig, NetworkSection, SpandrelConfig
from srdist.networks.network import Network
from srdist.networks.statedict import ForeignWeightsError, Shapes, read_pickle, recognize
from srdist.settings.section import problems

FORMAT = "1"
_FLOATS = ("F32", "F16", "BF16", "F64")
_WHOLE = ("I64", "I32", "I16", "I8", "U8", "BOOL")
BUNDLED = Path(__file__).parents[1] / "weights"
"""Folder of the weights that come with the package; `--weights NAME` names one without its suffix."""


@dataclass(frozen=True, slots=True)
class WeightsInfo:
    """What a weights file says of itself."""

    network: NetworkSection
    kernel: str
    """Kernel, or the kind of another degradation, that made LR in training; "unknown" where the file does not say."""
    manifest_id: str
    """Of the set that it was trained on; "" where unknown."""
    step: int
    """Optimizer steps of training."""
    degradation: str = ""
    """JSON of the degradation's section; "" where `kernel` says all."""
    blend: str = ""
    """JSON of what it was blended of (blend.py); "" where it was trained."""


def save_weights(path: Path, tensors: dict[str, Tensor], info: WeightsInfo) -> None:
    """Write a whole safetensors file."""
    write_bytes(path, pack_weights(tensors, info))


def pack_weights(tensors: dict[str, Tensor], info: WeightsInfo) -> bytes:
    """The bytes of a safetensors file."""
    metadata = {
        "srdist": FORMAT,
        "network": info.network.model_dump_json(),
        "scale": str(info.network.scale),
        "kernel": info.kernel,
        "manifest_id": info.manifest_id,
        "step": str(info.step),
        "srdist_version": __version__,
    }
    if info.degradation:
        metadata["degradation"] = info.degradation
    if info.blend:
        metadata["blend"] = info.blend
    plain = {name: _as_float32(tensor).cpu().contiguous() for name, tensor in tensors.items()}
    return _ordered(save(plain, metadata))


def _as_float32(tensor: Tensor) -> Tensor:
    """What is no floating-point number, such as a table of places, stays what it is."""
    return tensor.detach().float() if tensor.is_floating_point() else tensor.detach()


def _ordered(data: bytes) -> bytes:
    """The same safetensors file with its header sorted: the library writes metadata in an order that varies."""
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(parse_json(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def load_weights(name: str | Path) -> tuple[Network, WeightsInfo]:
    """A network in evaluation mode on the CPU, from a file, a run folder (its best) or the name of bundled weights.

    Files without srdist's metadata, and `.pth`, are known by their tensors' names (statedict.py).

    Raises:
        UserError: no such file, damaged, tensors that do not fit the network or are not finite.
        ForeignWeightsError: nothing that srdist wrote; another program's, perhaps.
    """
    path = find_weights(name)
    tensors, info = _read_pickle(path) if path.suffix in (".pth", ".pt") else _read_safetensors(path)
    for tensor_name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise UserError(
                f"{path}: tensor {tensor_name} holds NaN or infinity: its training diverged, or the file is damaged"
            )
    network = info.network.build(seed=None)
    network.load_state_dict(tensors)
    return network.eval(), info


def note_on(name: str | Path) -> str | None:
    """What a user should know of how `name` was understood; None where there is nothing."""
    path = Path(name)
    if path.is_dir() and not (path / "best.safetensors").is_file() and (path / "last.safetensors").is_file():
        return f"{path} has no best.safetensors: its last.safetensors is taken"
    return None


def find_weights(name: str | Path) -> Path:
    """The file meant by a path, a run folder or the name of bundled weights."""
    refuse_url(str(name), "weights are a file, a run folder or a bundled name")
    path = Path(name)
    if path.is_dir():
        for candidate in ("best.safetensors", "last.safetensors"):
            if (path / candidate).is_file():
                return path / candidate
        raise UserError(f"{path}: a folder without best.safetensors or last.safetensors")
    if path.is_file():
        return path
    bundled = BUNDLED / f"{name}.safetensors"
    if path.name == str(name) and bundled.is_file():
        return bundled
    bundled_names = ", ".join(sorted(file.stem for file in BUNDLED.glob("*.safetensors")))
    raise UserError(
        f"{path}: no such weights file" + (f"; bundled weights: {bundled_names}" if bundled_names else "")
    )


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of each."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def compare_shapes(
    held: Mapping[str, tuple[int, ...]],
    expected: Mapping[str, tuple[int, ...]],
    *,
    source: str,
    error: type[UserError] = UserError,
) -> None:
    """Refuse tensors that are not those expected.

    Raises:
        UserError: a missing, extra or misshapen tensor, by name.
    """
    for name in sorted(expected.keys() | held.keys()):
        if name not in held or name not in expected:
            state = "is missing" if name not in held else "is not in this network"
            raise error(f"{source}: tensor {name} {state}")
        if held[name] != expected[name]:
            raise error(f"{source}: tensor {name} has shape {held[name]}, expected {expected[name]}")


def _expected_tensors(network: NetworkSection, *, held: Shapes, source: Path) -> dict[str, Tensor]:
    """Tensors like a network's, made without memory for more than a file holds: it may claim any size.

    Args:
        found: the shapes of the tensors that the file holds.

    Raises:
        UserError: the network cannot be made, or would be much larger than the file.
    """
    if isinstance(network, SpandrelConfig):  # whose classes compute with values as they are made
        try:
            with at_most(4 * sum(math.prod(shape) for shape in held.values()) + 2**24):
                return _tensors(network)
        except UserError as error:
            raise UserError(f"{source}: {error}") from error
    with torch.device("meta"):
        return _tensors(network)


def _tensors(section: NetworkSection) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = section.build(seed=None).state_dict()
    return tensors


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], WeightsInfo]:
    try:
        with safe_open(path, framework="pt") as file:
            headers = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            shapes = {name: tuple(header.get_shape()) for name, header in headers.items()}
            metadata = file.metadata() or {}
            if "srdist" in metadata:
                info = _parse_metadata(metadata, source=path)
            else:
                info = WeightsInfo(*recognize(shapes, source=path), "", 0)
            # Of tensors that only look like a network of ours spandrel may know more.
            error = UserError if "srdist" in metadata else ForeignWeightsError
            expected = _expected_tensors(info.network, held=shapes, source=path)
            compare_shapes(shapes, shapes_of(expected), source=str(path), error=error)
            for name, header in headers.items():
                kinds = _FLOATS if expected[name].is_floating_point() else _WHOLE
                if header.get_dtype() not in kinds:
                    raise UserError(
                        f"{path}: tensor {name} is of type {header.get_dtype()}, expected {', '.join(kinds)}"
                    )
            return {name: _as_float32(file.get_tensor(name)) for name in shapes}, info
    except (SafetensorError, OSError) as damage:
        # Safetensors of any origin go by this suffix; under another one the file may be another program's.
        kind = UserError if path.suffix == ".safetensors" else ForeignWeightsError
        raise kind(f"{path}: not a safetensors file: {damage}") from damage


def _parse_metadata(metadata: Mapping[str, str], *, source: Path) -> WeightsInfo:
    if metadata["srdist"] != FORMAT:
        raise UserError(
            f"{source}: weights of format {metadata['srdist'][:20]!r}, expected {FORMAT!r}: a newer srdist wrote them"
        )
    try:
        network = networkconfig.NETWORK.validate_python(parse_json(metadata["network"]))
        step = int(metadata["step"])
    except ValidationError as error:
        wrong = "; ".join(itertools.islice(problems(error, NetworkConfig), 3))
        raise UserError(f"{source}: damaged metadata: network: {wrong[:300]}") from error
    except (KeyError, ValueError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise UserError(f"{source}: damaged metadata: {reason[:300]}") from error
    kernel, manifest_id = metadata.get("kernel", "unknown"), metadata.get("manifest_id", "")
    degradation, blend = metadata.get("degradation", ""), metadata.get("blend", "")
    return WeightsInfo(network, kernel, manifest_id, step, degradation, blend)


def _read_pickle(path: Path) -> tuple[dict[str, Tensor], WeightsInfo]:
    tensors = read_pickle(path)
    shapes = shapes_of(tensors)
    section, kernel = recognize(shapes, source=path)
    expected = _expected_tensors(section, held=shapes, source=path)
    compare_shapes(shapes, shapes_of(expected), source=str(path), error=ForeignWeightsError)
    return tensors, WeightsInfo(section, kernel, "", 0)
