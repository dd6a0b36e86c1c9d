"""What a network is to the rest of srdist: an LR batch in, an SR batch out, and what tiling must know of it."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Network(nn.Module, ABC):
    """RGB in [0, 1], upscaled by `scale`; the output is near [0, 1] and not clamped."""

    scale: int
    """Factor between LR and HR, in each direction."""
    halo: int | None
    """LR pixels on each side of an output pixel that its value depends on; None: not known, or all of them."""
    multiple: int = 1
    """LR sides that it takes are multiples of this; others are padded by who calls it."""
    grid: int = 1
    """Tiles begin at multiples of this, in LR pixels: where windows that it looks at lie."""
    smallest: int = 1
    """Least LR side that it is trained on, in pixels; images below it are padded by the network itself."""
    precisions: tuple[str, ...] = ("fp32", "tf32", "bf16", "fp16")
    """Values of train.precision that it can be trained in."""

    sums_in_float32: bool = False
    """Whether its last layer is added to an upscaling in float32, whatever the layers before compute in."""

    @abstractmethod
    def forward(self, lr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 H W"]:
        """Upscale LR images."""

    def initialize(self, seed: int) -> None:
        """Initial weights made of `seed` alone."""
        raise NotImplementedError(f"{type(self).__name__} comes with its weights")

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What decides its pixels beside its tensors, as JSON values.

        Named one by one: a field that is new and changes no pixel must not make finished images anew.
        """

    def notes(self) -> list[str]:
        """What somebody who trains it should know of it, a line each."""
        return []

    def for_use(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of the network that is saved for use (see NetworkSection.for_use), made of those of this one."""
        return tensors

    def from_use(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The other way round: tensors of this network that compute what the saved ones do."""
        return tensors

    def digest(self) -> str:
        """Of all that decides its pixels: equal for networks that make the same of the same image."""
        hashed = hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            values = tensor.detach().cpu().contiguous()
            hashed.update(json.dumps([name, str(values.dtype), list(values.shape)]).encode())
            hashed.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
        return hashed.hexdigest()
