"""A network on one device: pixels of equal shape in, their upscaled pixels out; alpha, grey and 16 bits seen to.

On a GPU each thread that calls it has a stream of its own, and pixels travel by pinned memory: while one thread's batch
is computed, another's is copied. No GPU has run this yet.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from srdist.networks.network import Network
from srdist.networks.tiling import NotFiniteError


@dataclass(frozen=True, eq=False)
class DeviceNetwork:
    """A network where it lies, and what its convolutions compute in."""

    network: Network
    device: torch.device
    number_type: torch.dtype
    """Of the convolutions, for 8-bit images; those of 16 bits are in float32."""
    _thread: threading.local = field(default_factory=threading.local)

    def upscale(self, lr: Shaped[np.ndarray, "n h w c"]) -> Shaped[np.ndarray, "n H W c"]:
        """Upscale a batch, uint8 or uint16 (which comes out as int32)."""
        peak = int(np.iinfo(lr.dtype).max)
        if lr.dtype == np.uint16:
            lr = lr.astype(np.int32)  # torch's uint16 has few operations, and fewer on GPUs
        half = self.number_type is not torch.float32 and peak == 255
        autocast = torch.autocast(self.device.type, self.number_type) if half else contextlib.nullcontext()
        with autocast, self._stream():
            return self._from_device(self._forward(self._to_device(lr), peak=peak))

    @contextlib.contextmanager
    def _stream(self) -> Iterator[None]:
        """This thread's own stream of the GPU, if it is one."""
        if self.device.type != "cuda":
            yield
            return
        if not hasattr(self._thread, "stream"):
            self._thread.stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            # The weights came by another stream.
            torch.cuda.synchronize(self.device)
        with torch.cuda.stream(self._thread.stream):
            yield

    def _to_device(self, lr: Shaped[np.ndarray, "n h w c"]) -> Shaped[Tensor, "n h w c"]:
        given = torch.from_numpy(lr)
        # torch keeps pinned blocks for the next batch, and gives none out again before its copy is through.
        return given.pin_memory().to(self.device, non_blocking=True) if self._pins else given.to(self.device)

    def _from_device(self, sr: Shaped[Tensor, "n H W c"]) -> Shaped[np.ndarray, "n H W c"]:
        if not self._pins:
            return sr.cpu().numpy()
        host = torch.empty(sr.shape, dtype=sr.dtype, pin_memory=True)
        host.copy_(sr, non_blocking=True)
        torch.cuda.current_stream(self.device).synchronize()
        return host.numpy()

    @property
    def _pins(self) -> bool:
        return self.device.type == "cuda"

    @torch.inference_mode()
    def _forward(self, lr: Shaped[Tensor, "n h w c"], *, peak: int) -> Shaped[Tensor, "n H W c"]:
        values = lr.permute(0, 3, 1, 2).float().div_(peak)
        channels = values.shape[1]
        colour, alpha = (values[:, :-1], values[:, -1:]) if channels in (2, 4) else (values, None)
        if alpha is None or bool((alpha == 1).all()):
            sr = self._colour(colour)
        else:
            # Premultiplied, so that the hidden colour of transparent pixels does not bleed into the edge.
            sr_alpha, divisor = self._alpha(alpha)
            sr = self._colour(colour * alpha) / divisor
            sr = torch.where(sr_alpha > 0, sr, 0)
            sr = torch.cat([sr, sr_alpha], dim=1)
        if alpha is not None and sr.shape[1] == channels - 1:
            sr = torch.cat([sr, torch.ones_like(sr[:, :1])], dim=1)
        levels = sr.float().mul(peak).round_().clamp_(0, peak)
        return levels.to(lr.dtype).permute(0, 2, 3, 1)

    def _colour(self, values: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c H W"]:
        """Through the network; grey goes in three times and comes out as the BT.601 mean of the three."""
        if values.shape[1] == 3:
            return self._network(values)
        r, g, b = self._network(values.expand(-1, 3, -1, -1)).float().unbind(1)
        return (0.299 * r + 0.587 * g + 0.114 * b).unsqueeze(1)

    def _alpha(self, alpha: Float[Tensor, "n 1 h w"]) -> tuple[Tensor, Tensor]:
        """Upscaled alpha in [0, 1], and what premultiplied colour is to be divided by.

        The same network makes both edges, of colour and of alpha: so they fit. Alpha is kept between the least and
        the greatest LR alpha nearby, so that what was opaque, or transparent, all around stays exactly that.
        """
        sr = self._colour(alpha)
        low, high = (
            F.interpolate(pooled, scale_factor=self.network.scale, mode="nearest")
            for pooled in (-F.max_pool2d(-alpha, 5, 1, 2), F.max_pool2d(alpha, 5, 1, 2))
        )
        clamped = torch.minimum(torch.maximum(sr, low), high)
        divisor = torch.where(low == high, low, sr).clamp_min(1 / 65535)
        return clamped, divisor

    def _network(self, lr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 H W"]:
        height, width = lr.shape[-2:]
        scale, multiple = self.network.scale, self.network.multiple
        below, beside = -height % multiple, -width % multiple
        if below or beside:
            lr = F.pad(lr, (0, beside, 0, below), mode="replicate")
        sr: Tensor = self.network(lr.contiguous(memory_format=torch.channels_last))
        sr = sr[..., : height * scale, : width * scale]
        # One number instead of a mask: a sum is not finite where any of its terms is not.
        if not sr.sum(dtype=torch.float32).isfinite():
            raise NotFiniteError("the network makes pixels of it that are not finite (NaN or infinity)")
        return sr
