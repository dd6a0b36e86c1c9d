"""A network over images of any size: batches, tiles, alpha, 16 bits, and memory that runs out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from srdist.networks.network import Network
from srdist.networks.precision import Precision, number_type
from srdist.networks.tiling import UNKNOWN_HALO, Box, NotFiniteError, cut, paste

CPU_TILE = 256
"""Side of a tile on the CPU, in LR pixels: activations of larger ones leave the caches (docs/log.md)."""
GPU_TILE = 512
"""Side of the first tile tried on a GPU, in LR pixels; halved when memory runs out."""
MIN_TILE = 32
"""No tile gets smaller than this: below, the halo is most of the work."""


class TiledNetwork:
    """A network on its device, with the tile and batch size that its memory has allowed so far.

    Memory that runs out halves the batch, then the tile, then moves to the CPU, and the tile is computed again;
    the sizes stay reduced for the images that follow.
    """

    def __init__(
        self,
        network: Network,
        *,
        device: torch.device,
        tile: int | None = None,
        precision: Precision = "fp32",
    ) -> None:
        """Take over `network` (evaluation mode).

        Args:
            tile: side in LR pixels; None = by device.
            precision: of the convolutions, for 8-bit images (see number_type); those of 16 bits are in float32.
        """
        # NHWC: 1.2 to 2.5 times as fast as NCHW for these convolutions on the CPU (docs/log.md).
        self.network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.scale, self.multiple = network.scale, network.multiple
        self.grid = math.lcm(network.multiple, network.grid)
        """Edges of what is computed at once lie on multiples of this inside the image, in LR pixels."""
        self.halo = UNKNOWN_HALO if network.halo is None else network.halo
        """LR pixels around a tile that are looked at."""
        self.device = device
        self.number_type = number_type(precision, network, device=device)
        self.tile = tile or (CPU_TILE if device.type == "cpu" else GPU_TILE)
        self.blend = 0 if network.halo is not None else min(UNKNOWN_HALO, self.tile // 2)
        """LR pixels on each side of a cut over which neighbouring tiles fade into each other; 0 = they meet in the cut."""
        # On the CPU a batch is slower than its images one by one: its activations leave the caches.
        self.batch = 1 if device.type == "cpu" else 64

    def upscale(self, pixels: Shaped[np.ndarray, "h w c"]) -> Shaped[np.ndarray, "H W c"]:
        """Upscale one image, uint8 or uint16, of 1 to 4 channels (see photo.Photo)."""
        return self.upscale_many([pixels])[0]

    def upscale_many(
        self, images: Sequence[Shaped[np.ndarray, "h w c"]]
    ) -> list[Shaped[np.ndarray, "H W c"]]:
        """Upscale images of one size, channel count and depth, batched as memory allows."""
        return self._upscale(images, 0, images[0].shape[0])

    def upscale_rows(
        self, pixels: Shaped[np.ndarray, "h w c"], top: int, bottom: int
    ) -> Shaped[np.ndarray, "H W c"]:
        """Rows `top` to `bottom` of an image, upscaled; the rows outside are only looked at."""
        return self._upscale([pixels], top, bottom)[0]

    def _upscale(self, images: Sequence[np.ndarray], top: int, bottom: int) -> list[np.ndarray]:
        _, width, channels = images[0].shape
        area = Box(top, bottom, 0, width)
        outputs = [np.empty(area.shape(self.scale, channels), image.dtype) for image in images]
        done = 0
        while done < len(images):
            group = slice(done, done + self.batch)
            boxes = list(cut(area, tile=self.tile))
            if not self.blend:
                for box in boxes:
                    self._upscale_box(images[group], outputs[group], box, area)
            else:
                self._blend(images[group], outputs[group], boxes, area)
            done = group.stop
        return outputs

    def _blend(
        self, images: Sequence[np.ndarray], outputs: Sequence[np.ndarray], boxes: Sequence[Box], area: Box
    ) -> None:
        """Tiles that overlap: side by side they fade into a band of rows, the bands into the outputs."""
        s, channels = self.scale, images[0].shape[2]
        for _, row in itertools.groupby(boxes, key=lambda box: box.top):
            bands: list[np.ndarray] = []
            for box in row:
                wide = box.grown(self.blend, height=area.bottom, width=area.right).inside(area)
                band = Box(wide.top, wide.bottom, area.left, area.right)
                bands = bands or [np.empty(band.shape(s, channels), image.dtype) for image in images]
                parts = [np.empty(wide.shape(s, channels), image.dtype) for image in images]
                self._upscale_box(images, parts, wide, wide)
                for canvas, part in zip(bands, parts, strict=True):
                    paste(
                        canvas.swapaxes(0, 1),
                        part.swapaxes(0, 1),
                        wide.left * s,
                        2 * (box.left - wide.left) * s,
                    )
            for output, canvas in zip(outputs, bands, strict=True):
                paste(output, canvas, (band.top - area.top) * s, 2 * (box.top - band.top) * s)

    def _upscale_box(
        self, images: Sequence[np.ndarray], outputs: Sequence[np.ndarray], box: Box, area: Box
    ) -> None:
        """One tile of some images, into their outputs; where memory runs out, again in smaller parts.

        Args:
            area: what the outputs hold.
        """
        try:
            self._compute(images, outputs, box, area)
            return
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error) or not self._shrink(len(images), box):
                raise
        # Outside the except clause: until here the error's traceback keeps the tensors that did not fit.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        size, tile = self.batch, self.tile  # which may shrink again on the way
        for start in range(0, len(images), size):
            group = slice(start, start + size)
            for part in cut(box, tile=tile):
                self._upscale_box(images[group], outputs[group], part, area)

    def _shrink(self, batch: int, box: Box) -> bool:
        """One step down from what was tried: half the batch, half the tile, the CPU; False where none is left."""
        side = max(box.bottom - box.top, box.right - box.left)
        if batch > 1:
            self.batch = batch // 2
        elif side >= 2 * MIN_TILE:
            self.tile = side // 2
        elif self.device.type != "cpu":
            self.device = torch.device("cpu")
            self.network.to(self.device)
            self.number_type = torch.float32
            self.tile, self.batch = CPU_TILE, 1
        else:
            return False
        return True

    def _compute(
        self, images: Sequence[np.ndarray], outputs: Sequence[np.ndarray], box: Box, area: Box
    ) -> None:
        height, width, _ = images[0].shape
        s = self.scale
        wide = box.grown(self.halo, height=height, width=width, multiple=self.grid)
        lr = np.stack([image[wide.top : wide.bottom, wide.left : wide.right] for image in images])
        peak = np.iinfo(lr.dtype).max
        if lr.dtype == np.uint16:
            lr = lr.astype(np.int32)  # torch's uint16 has few operations, and fewer on GPUs
        half = self.number_type is not torch.float32 and peak == 255
        with torch.autocast(self.device.type, self.number_type, enabled=half):
            sr = self._forward(torch.from_numpy(lr).to(self.device), peak=peak)
        inner = sr[:, *box.slices(s, origin=wide)]
        for output, values in zip(outputs, inner.cpu().numpy(), strict=True):
            output[box.slices(s, origin=area)] = values

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
            F.interpolate(pooled, scale_factor=self.scale, mode="nearest")
            for pooled in (-F.max_pool2d(-alpha, 5, 1, 2), F.max_pool2d(alpha, 5, 1, 2))
        )
        clamped = torch.minimum(torch.maximum(sr, low), high)
        divisor = torch.where(low == high, low, sr).clamp_min(1 / 65535)
        return clamped, divisor

    def _network(self, lr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 H W"]:
        height, width = lr.shape[-2:]
        below, beside = -height % self.multiple, -width % self.multiple
        if below or beside:
            lr = F.pad(lr, (0, beside, 0, below), mode="replicate")
        sr: Tensor = self.network(lr.contiguous(memory_format=torch.channels_last))
        sr = sr[..., : height * self.scale, : width * self.scale]
        # One number instead of a mask: a sum is not finite where any of its terms is not.
        if not sr.sum(dtype=torch.float32).isfinite():
            raise NotFiniteError("the network makes pixels of it that are not finite (NaN or infinity)")
        return sr


def _out_of_memory(error: Exception) -> bool:
    # The CPU allocator raises a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
