"""A state dict out of a file that anybody wrote: plain tensors by name, no code of the file is run."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from srdist.machine.errors import UserError

_WRAPPED = ("params_ema", "params", "state_dict")
"""Names under which trainers put the state dict into their file; the first that is there counts."""


class NoStateDictError(UserError):
    """The file is none; another program's, perhaps."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a pickle by any other name, in float32 on the CPU.

    Raises:
        NoStateDictError: the file cannot be read, or holds something else.
        UserError: a tensor claims more values than the file holds.
    """
    if path.suffix != ".safetensors":
        return read_pickle(path)
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as damage:
        raise NoStateDictError(f"{path}: not a safetensors file: {damage}") from damage
    return {name: tensor.float() for name, tensor in tensors.items()}


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The same of torch's pickles, read weights-only: none of the tensors claims more values than the file holds."""
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle makes its reader raise nearly anything
        raise NoStateDictError(
            f"{path}: cannot be read as a plain state dict: {' '.join(str(error).split())[:200]}"
        ) from error
    for name in _WRAPPED:
        if isinstance(tensors, dict) and isinstance(tensors.get(name), dict):
            tensors = tensors[name]
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise NoStateDictError(f"{path}: expected a state dict of tensors, found {type(tensors).__name__}")
    for name, tensor in tensors.items():
        # A stride of 0 makes a tensor of any size of a single number.
        if tensor.layout is not torch.strided or tensor.nbytes > tensor.untyped_storage().nbytes():
            raise UserError(f"{path}: tensor {name} is no plain array of its shape {tuple(tensor.shape)}")
    return {str(name): tensor.float() for name, tensor in tensors.items()}
