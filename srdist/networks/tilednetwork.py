"""A network over images of any size: batches, tiles, and memory that runs out."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Condition

import numpy as np
import torch
from jaxtyping import Shaped

from srdist.networks.devicenetwork import DeviceNetwork
from srdist.networks.network import Network
from srdist.networks.outofmemory import out_of_memory
from srdist.networks.piece import Piece, fit_one_batch, padded, tiles
from srdist.networks.precision import Precision, number_type
from srdist.networks.tiling import UNKNOWN_HALO, Box, cut, paste

CPU_TILE = 256
"""Side of a tile on the CPU, in LR pixels: activations of larger ones leave the caches (docs/log.md)."""
GPU_TILE = 512
"""Side of the first tile tried on a GPU, in LR pixels; halved when memory runs out."""
GPU_BATCH = 64
"""Pieces of a batch on a GPU, at most."""
GPU_BATCH_PIXELS = 16 * GPU_TILE**2
"""LR pixels of a batch on a GPU, at most (a single piece may have more)."""
GPU_LANES = 2
"""Threads that use a GPU: while one waits for its batch, the other stacks and copies the next."""
MIN_TILE = 32
"""No tile gets smaller than this: below, the halo is most of the work."""


def _say(line: str) -> None:
    print(f"srdist: {line}", file=sys.stderr, flush=True)


class TiledNetwork:
    """A network on its device, with the tile and batch size that its memory has allowed so far.

    Memory that runs out halves the batch, then the tile, then moves to the CPU, and the pieces are computed again;
    the sizes stay reduced for the images that follow. Several threads may call it.
    """

    def __init__(
        self,
        network: Network,
        *,
        device: torch.device,
        tile: int | None = None,
        precision: Precision = "fp32",
        tell: Callable[[str], None] = _say,
    ) -> None:
        """Take over `network` (evaluation mode).

        Args:
            tile: side in LR pixels; None = by device.
            precision: of the convolutions, for 8-bit images (see number_type); those of 16 bits are in float32.
            tell: is given the line that says so when the work moves to the CPU.
        """
        on_cpu = device.type == "cpu"
        # NHWC: 1.2 to 2.5 times as fast as NCHW for these convolutions on the CPU (docs/log.md).
        self.network: Network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.scale, self.multiple = network.scale, network.multiple
        self.grid = math.lcm(network.multiple, network.grid)
        """Edges of what is computed at once lie on multiples of this inside the image, in LR pixels."""
        self.halo = UNKNOWN_HALO if network.halo is None else network.halo
        """LR pixels around a tile that are looked at."""
        self._on = DeviceNetwork(self.network, device, number_type(precision, network, device=device))
        self.tile = tile or (CPU_TILE if on_cpu else GPU_TILE)
        self.blend = 0 if network.halo is not None else min(UNKNOWN_HALO, self.tile // 2)
        """LR pixels on each side of a cut over which neighbouring tiles fade into each other; 0 = they meet in the cut."""
        # On the CPU a batch is slower than its images one by one: its activations leave the caches.
        self.batch = 1 if on_cpu else GPU_BATCH
        self.lanes = 1 if on_cpu else GPU_LANES
        """Threads that it pays to call it from, where images are batched."""
        self._tell = tell
        self._gate, self._users, self._moving = Condition(), 0, False

    @property
    def device(self) -> torch.device:
        """Where it computes now."""
        return self._on.device

    @property
    def number_type(self) -> torch.dtype:
        """What the convolutions compute in now, for 8-bit images."""
        return self._on.number_type

    def upscale(self, pixels: Shaped[np.ndarray, "h w c"]) -> Shaped[np.ndarray, "H W c"]:
        """Upscale one image, uint8 or uint16, of 1 to 4 channels (see photo.Photo)."""
        return self.upscale_many([pixels])[0]

    def upscale_many(
        self, images: Sequence[Shaped[np.ndarray, "_ _ c"]]
    ) -> list[Shaped[np.ndarray, "_ _ c"]]:
        """Upscale images of one channel count and depth, whose shapes are equal or fit one batch, as memory allows."""
        if len({image.shape for image in images}) == 1:
            return self._upscale(images, 0, images[0].shape[0])
        assert all(self.fit_one_batch(images[0].shape, image.shape) for image in images)
        s = self.scale
        outputs = [np.empty((s * h, s * w, c), i.dtype) for i in images for h, w, c in [i.shape]]
        self._run(padded(images, outputs, halo=self.halo))
        return outputs

    def fit_one_batch(self, one: tuple[int, ...], other: tuple[int, ...]) -> bool:
        """Whether images of these shapes, [h, w, c], may be given to `upscale_many` together."""
        if one == other:
            return True
        exact = not self.blend and self.grid == 1
        near = fit_one_batch(
            (one[0], one[1]), (other[0], other[1]), halo=max(self.halo, 1), largest=self.tile
        )
        return exact and one[2] == other[2] and near

    def upscale_rows(
        self, pixels: Shaped[np.ndarray, "h w c"], top: int, bottom: int
    ) -> Shaped[np.ndarray, "H W c"]:
        """Rows `top` to `bottom` of an image, upscaled; the rows outside are only looked at."""
        return self._upscale([pixels], top, bottom)[0]

    def _upscale(self, images: Sequence[np.ndarray], top: int, bottom: int) -> list[np.ndarray]:
        _, width, channels = images[0].shape
        area = Box(top, bottom, 0, width)
        outputs = [np.empty(area.shape(self.scale, channels), image.dtype) for image in images]
        if not self.blend:
            pairs = zip(images, outputs, strict=True)
            self._run(piece for pair in pairs for piece in self._tiles(*pair, area))
            return outputs
        size = self.batch
        for start in range(0, len(images), size):
            group = slice(start, start + size)
            self._blend(images[group], outputs[group], list(cut(area, tile=self.tile)), area)
        return outputs

    def _tiles(self, image: np.ndarray, output: np.ndarray, area: Box) -> Iterator[Piece]:
        # Alike only where they are batched: more around a tile is more work.
        return tiles(
            image, output, area, tile=self.tile, halo=self.halo, multiple=self.grid, alike=self.batch > 1
        )

    def _blend(
        self, images: Sequence[np.ndarray], outputs: Sequence[np.ndarray], boxes: Sequence[Box], area: Box
    ) -> None:
        """Tiles that overlap: side by side they fade into a band of rows, the bands into the outputs."""
        s, channels = self.scale, images[0].shape[2]
        height, width = area.bottom, area.right
        for _, row in itertools.groupby(boxes, key=lambda box: box.top):
            bands: list[np.ndarray] = []
            for box in row:
                wide = box.grown(self.blend, height=height, width=width).inside(area)
                band = Box(wide.top, wide.bottom, area.left, area.right)
                bands = bands or [np.empty(band.shape(s, channels), image.dtype) for image in images]
                parts = [np.empty(wide.shape(s, channels), image.dtype) for image in images]
                seen = wide.grown(
                    self.halo, height=images[0].shape[0], width=images[0].shape[1], multiple=self.grid
                )
                self._run(Piece(i, part, wide, wide, seen) for i, part in zip(images, parts, strict=True))
                for canvas, part in zip(bands, parts, strict=True):
                    paste(
                        canvas.swapaxes(0, 1),
                        part.swapaxes(0, 1),
                        wide.left * s,
                        2 * (box.left - wide.left) * s,
                    )
            for output, canvas in zip(outputs, bands, strict=True):
                paste(output, canvas, (band.top - area.top) * s, 2 * (box.top - band.top) * s)

    def _run(self, pieces: Iterable[Piece]) -> None:
        """Compute pieces and write what they make, those of one shape together."""
        alike: dict[tuple[int, int], list[Piece]] = {}
        for piece in pieces:
            shape = (piece.wide.bottom - piece.wide.top, piece.wide.right - piece.wide.left)
            group = alike.setdefault(shape, [])
            group.append(piece)
            if len(group) >= self._at_a_time(shape):
                self._compute(alike.pop(shape))
        for shape, group in alike.items():
            size = self._at_a_time(shape)  # which may have shrunk meanwhile
            for start in range(0, len(group), size):
                self._compute(group[start : start + size])

    def _at_a_time(self, shape: tuple[int, int]) -> int:
        return max(1, min(self.batch, GPU_BATCH_PIXELS // (shape[0] * shape[1])))

    def _compute(self, pieces: list[Piece]) -> None:
        """Pieces of one shape; where memory runs out, again in smaller parts."""
        try:
            with self._where_it_lies() as on:
                made = on.upscale(np.stack([piece.pixels() for piece in pieces]))
            for piece, values in zip(pieces, made, strict=True):
                piece.write(values, scale=self.scale)
            return
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error) or not self._shrink(pieces, on, " ".join(str(error).split())[:120]):
                raise
        # Outside the except clause: until here the error's traceback keeps the tensors that did not fit.
        if on.device.type == "cuda":
            torch.cuda.empty_cache()
        size, tile = self.batch, self.tile  # which may shrink again on the way
        for start in range(0, len(pieces), size):
            group = pieces[start : start + size]
            cuts = [piece.cut(tile=tile, halo=self.halo, multiple=self.grid) for piece in group]
            # The first tile of each, then the second: of images of one size they have one shape.
            self._run(piece for row in itertools.zip_longest(*cuts) for piece in row if piece is not None)

    @contextmanager
    def _where_it_lies(self) -> Iterator[DeviceNetwork]:
        """The network on its device, where it stays until the block ends."""
        with self._gate:
            self._gate.wait_for(lambda: not self._moving)
            self._users += 1
            on = self._on
        try:
            yield on
        finally:
            with self._gate:
                self._users -= 1
                self._gate.notify_all()

    def _shrink(self, pieces: list[Piece], on: DeviceNetwork, error: str) -> bool:
        """One step down from what was tried: half the batch, half the tile, the CPU; False where none is left."""
        inner = pieces[0].inner
        side = max(inner.bottom - inner.top, inner.right - inner.left)
        with self._gate:
            self._gate.wait_for(lambda: not self._moving)
            if on is not self._on:
                return True  # another thread has moved it
            if len(pieces) > 1:
                self.batch = min(self.batch, len(pieces) // 2)
            elif side >= 2 * MIN_TILE:
                self.tile = min(self.tile, side // 2)
            elif on.device.type != "cpu":
                self._move_to_cpu()
                self._tell(
                    f"{on.device} has no memory left for a tile of {side} pixels ({error}): the work goes on on the CPU in "
                    "fp32, which takes many times as long; stop it and start it again when the GPU is free"
                )
            else:
                return False
        return True

    def _move_to_cpu(self) -> None:
        """Once no thread computes with it any more."""
        self._moving = True
        self._gate.wait_for(lambda: self._users == 0)
        cpu = torch.device("cpu")
        self._on = DeviceNetwork(self.network.to(cpu), cpu, torch.float32)
        self.tile, self.batch = CPU_TILE, 1
        self._moving = False
        self._gate.notify_all()
