"""Tensors of a device to the host: copies that stay as they are while training goes on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class HostCopies:
    """Memory of the host for some tensors by name, page-locked for those of a GPU; made once, and written over by each `take`."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    @torch.no_grad()
    def take(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Contiguous copies of `tensors`, which hold until the next call; the device is waited for once, for all of them."""
        devices = set()
        for name, tensor in tensors.items():
            source, locked = tensor.contiguous(), tensor.is_cuda
            if name not in self._held:
                self._held[name] = torch.empty_like(source, device="cpu", pin_memory=locked)
            self._held[name].copy_(source, non_blocking=locked)
            if locked:
                devices.add(tensor.device)
        for device in devices:
            torch.cuda.current_stream(device).synchronize()
        return {name: self._held[name] for name in tensors}
