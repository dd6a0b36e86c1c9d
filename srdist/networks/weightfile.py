"""A network as one file: safetensors with the metadata that upscaling and evaluation need, and nothing else.

The metadata are strings, as the format has it (https://github.com/huggingface/safetensors): `srdist` (format
version), `network` (JSON of the config's model section), `scale`, `kernel` (that LR was made with in training),
`manifest_id`, `step`, `srdist_version`.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from srdist import __version__
from srdist.machine.errors import UserError
from srdist.machine.files import write_bytes
from srdist.networks.config import SRCNNConfig
from srdist.networks.srcnn import SRCNN

FORMAT = "1"
SHIPPED = Path(__file__).parents[1] / "weights"
"""Folder of the weights that come with the package; `--weights NAME` names one without its suffix."""


@dataclass(frozen=True, slots=True)
class WeightsInfo:
    """What a weights file says of itself."""

    network: SRCNNConfig
    kernel: str
    """Kernel that made LR in training; "unknown" where the file does not say."""
    manifest_id: str
    """Of the set that it was trained on; "" where unknown."""
    step: int
    """Optimizer steps of training."""


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
    plain = {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
    return _ordered(save(plain, metadata))


def _ordered(data: bytes) -> bytes:
    """The same safetensors file with its header sorted: the library writes metadata in an order that varies."""
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def load_weights(name: str | Path) -> tuple[SRCNN, WeightsInfo]:
    """A network in evaluation mode on the CPU, from a file, a run folder (its best) or a shipped name.

    `.pth` is read as the seed's state dict (conv1, conv2, ... and a final ReLU), with `weights_only=True`.

    Raises:
        UserError: no such file, not safetensors, not srdist's, or tensors that do not fit the network.
    """
    path = find_weights(name)
    tensors, info = _read_seed(path) if path.suffix in (".pth", ".pt") else _read_safetensors(path)
    model = SRCNN(info.network)
    fit_state(model, tensors, source=str(path))
    return model.eval(), info


def find_weights(name: str | Path) -> Path:
    """The file meant by a path, a run folder or a shipped name."""
    path = Path(name)
    if path.is_dir():
        for candidate in ("best.safetensors", "last.safetensors"):
            if (path / candidate).is_file():
                return path / candidate
        raise UserError(f"{path}: a folder without best.safetensors or last.safetensors")
    if path.is_file():
        return path
    shipped = SHIPPED / f"{name}.safetensors"
    if path.name == str(name) and shipped.is_file():
        return shipped
    known = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.safetensors")))
    raise UserError(f"{path}: no such weights file" + (f"; shipped names: {known}" if known else ""))


def fit_state(model: SRCNN, tensors: dict[str, Tensor], *, source: str) -> None:
    """Load `tensors` into `model`; a missing, extra or misshapen tensor is a UserError that names it."""
    expected = model.state_dict()
    for tensor_name in sorted(expected.keys() | tensors.keys()):
        if tensor_name not in tensors or tensor_name not in expected:
            state = "is missing" if tensor_name not in tensors else "is not in this network"
            raise UserError(f"{source}: tensor {tensor_name} {state}")
        found, wanted = tuple(tensors[tensor_name].shape), tuple(expected[tensor_name].shape)
        if found != wanted:
            raise UserError(f"{source}: tensor {tensor_name} has shape {found}, expected {wanted}")
    model.load_state_dict(tensors)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], WeightsInfo]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a safetensors file: {error}") from error
    if metadata.get("srdist") != FORMAT:
        raise UserError(
            f"{path}: not srdist weights: metadata srdist is {metadata.get('srdist')!r}, expected {FORMAT!r}"
        )
    try:
        network = SRCNNConfig.model_validate(json.loads(metadata["network"]))
        step = int(metadata["step"])
    except (KeyError, ValueError, ValidationError) as error:
        raise UserError(f"{path}: damaged metadata: {' '.join(str(error).split())}") from error
    info = WeightsInfo(network, metadata.get("kernel", "unknown"), metadata.get("manifest_id", ""), step)
    return tensors, info


def _read_seed(path: Path) -> tuple[dict[str, Tensor], WeightsInfo]:
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read as a plain state dict: {str(error).splitlines()[0]}"
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise UserError(f"{path}: expected a state dict of tensors, found {type(tensors).__name__}")
    weights = [tensors.get(f"conv{i}.weight") for i in range(1, len(tensors) // 2 + 1)]
    shapes = [tuple(weight.shape) for weight in weights if weight is not None]
    if not shapes or len(shapes) != len(weights) or any(len(shape) != 4 for shape in shapes):
        raise UserError(
            f"{path}: expected the seed's tensors conv1.weight, conv1.bias, ..., found {sorted(tensors)}"
        )
    try:
        network = SRCNNConfig(
            scale=2,
            kernels=tuple(shape[2] for shape in shapes),
            widths=tuple(shape[0] for shape in shapes[:-1]),
            residual=False,
            pre_kernel="bilinear",
            last_relu=True,
        )
    except ValidationError as error:
        reasons = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        raise UserError(f"{path}: not the seed's network: {reasons}") from error
    return {name: tensor.float() for name, tensor in tensors.items()}, WeightsInfo(network, "bilinear", "", 0)
