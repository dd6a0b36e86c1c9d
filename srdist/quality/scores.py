"""How good is a network, beside the plain resamplings: LR, HR pairs in; PSNR-Y, SSIM-Y and RMSE out, the same on all ranks.

The protocol is the SR literature's (docs/quality.md): each method's output is rounded to 8 bit as a file would hold
it, then compared with HR. Each rank scores its own pairs. The scores of single images are gathered and summed with
`math.fsum`, which is exact, so the means do not depend on how the images were dealt out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, get_args

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from srdist.images.kernels import Kernel
from srdist.images.pixels import to_float, to_u8
from srdist.images.resize import resize_u8
from srdist.machine import ranks
from srdist.machine.errors import UserError, WorkError
from srdist.networks.enlarger import CPU_TILE, GPU_TILE
from srdist.networks.network import Network
from srdist.networks.tiling import Box, cut
from srdist.quality import metrics

Upscaler = Callable[[Float[Tensor, "n 3 h w"]], Float[Tensor, "n 3 H W"]]
"""LR in [0, 1] to SR near [0, 1], not clamped, on the device of its input."""

BASELINES: tuple[Kernel, ...] = ("nearest", "bilinear", "bicubic", "lanczos")
"""The plain resamplings that stand beside a network in the table."""

EQUAL_DB = 100.0
"""PSNR above this counts as this in a mean; an image equal to its reference has infinite PSNR."""


class PairLike(Protocol):
    """A batch of LR images and the HR images that they were made of."""

    @property
    def lr(self) -> UInt8[Tensor, "n 3 h w"]: ...
    @property
    def hr(self) -> UInt8[Tensor, "n 3 H W"]: ...


@dataclass(frozen=True, slots=True)
class ImageScore:
    """One method on one image."""

    psnr_y_db: float
    """Infinite where the image equals its reference; NaN where the border leaves nothing of it."""
    ssim_y: float
    """NaN where the shaved image is smaller than the 11x11 window."""
    rmse: float
    """Of RGB in [0, 1], without a border."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Means over images, by the protocol of docs/quality.md."""

    images: int
    psnr_y_db: float
    """Images equal to their reference, and all above EQUAL_DB, count as EQUAL_DB; NaN where no image has one."""
    ssim_y: float
    """Over the images that are large enough for the window; NaN where none is."""
    rmse: float


def score_pairs(
    methods: Mapping[str, Upscaler], pairs: Iterable[PairLike], *, scale: int, device: torch.device
) -> dict[str, Scores]:
    """The mean scores of each method over all ranks' pairs, identical on every rank; a collective.

    Each rank hands over its own pairs, perhaps none; together they should hold each image once.

    Raises:
        WorkError: a method's output is not finite somewhere, or a pair of one rank cannot be read (raised on every rank).
    """
    mine: list[Mapping[str, ImageScore]] = ranks.together(
        lambda: [row for pair in pairs for row in score_batch(methods, pair, scale=scale, device=device)]
    )
    rows = ranks.gather_items(mine)
    return ranks.together(lambda: mean_scores(methods, rows))


@torch.inference_mode()
def score_batch(
    methods: Mapping[str, Upscaler], pair: PairLike, *, scale: int, device: torch.device
) -> Iterator[dict[str, ImageScore]]:
    """The scores of each image of one batch, by method."""
    hr = pair.hr.to(device)
    lr = to_float(pair.lr.to(device))
    columns: dict[str, list[ImageScore]] = {}
    for name, upscale in methods.items():
        sr = upscale(lr)
        sr_u8 = to_u8(sr)
        finite = torch.isfinite(sr).flatten(1).all(1)
        # A NaN would become some 8-bit value: the RMSE says for such an image that there is no result.
        rmse = metrics.rmse(sr_u8, hr).where(finite, torch.nan)
        values = torch.stack(
            [metrics.psnr_y(sr_u8, hr, border=scale), metrics.ssim_y(sr_u8, hr, border=scale), rmse], dim=1
        )
        columns[name] = [ImageScore(*image) for image in values.tolist()]
    for row in zip(*columns.values(), strict=True):
        yield dict(zip(columns, row, strict=True))


def mean_scores(methods: Iterable[str], rows: Sequence[Mapping[str, ImageScore]]) -> dict[str, Scores]:
    """The mean of each method over images, whatever their order; NaN where there is nothing to take a mean of."""
    return {name: _mean(name, [row[name] for row in rows]) for name in methods}


def _mean(name: str, scores: Sequence[ImageScore]) -> Scores:
    if broken := sum(math.isnan(score.rmse) for score in scores):
        raise WorkError(
            f"{name}: the output for {broken} of {len(scores)} images is not finite: "
            "the weights are damaged, or their training diverged"
        )
    return Scores(
        images=len(scores),
        psnr_y_db=_mean_of(
            min(score.psnr_y_db, EQUAL_DB) for score in scores if not math.isnan(score.psnr_y_db)
        ),
        ssim_y=_mean_of(score.ssim_y for score in scores if not math.isnan(score.ssim_y)),
        rmse=_mean_of(score.rmse for score in scores),
    )


def _mean_of(values: Iterable[float]) -> float:
    known = list(values)
    return math.fsum(known) / len(known) if known else math.nan


def baseline(kernel: Kernel, *, scale: int) -> Upscaler:
    """Enlarge by a plain resampling as Pillow does, rounded to 8 bit as an image file would be."""

    def upscale(lr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 H W"]:
        height, width = lr.shape[-2] * scale, lr.shape[-1] * scale
        # On the CPU on every device: Pillow's arithmetic in 8 bit exists there only.
        sr_u8 = resize_u8(to_u8(lr).cpu(), height=height, width=width, kernel=kernel)
        return to_float(sr_u8).to(lr.device)

    return upscale


def baselines(*, scale: int) -> dict[str, Upscaler]:
    """The plain resamplings of the table, by name."""
    return {kernel: baseline(kernel, scale=scale) for kernel in BASELINES}


def network(model: Network, *, tile: int | None = None) -> Upscaler:
    """A network in tiles, each with the halo that its output depends on: memory stays bounded on large images.

    Args:
        tile: side in LR pixels of the tiles of one image (those of a batch are smaller); None: by device.
    """
    scale = model.scale
    forward: Upscaler = model

    def upscale(lr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 H W"]:
        count, channels, height, width = lr.shape
        # NHWC is what convolutions on the CPU are fastest in.
        lr = lr.contiguous(memory_format=torch.channels_last)
        side = tile or (CPU_TILE if lr.device.type == "cpu" else GPU_TILE)
        whole, side = Box(0, height, 0, width), max(1, int(side / math.sqrt(count)))
        if max(height, width) <= side:
            return forward(lr)
        sr = lr.new_empty(count, channels, height * scale, width * scale)
        for box in cut(whole, tile=side):
            wide = box.grown(model.halo or 0, height=height, width=width)
            part = forward(lr[:, :, wide.top : wide.bottom, wide.left : wide.right])
            top, left = (box.top - wide.top) * scale, (box.left - wide.left) * scale
            rows, columns = (box.bottom - box.top) * scale, (box.right - box.left) * scale
            sr[:, :, box.top * scale : box.bottom * scale, box.left * scale : box.right * scale] = part[
                :, :, top : top + rows, left : left + columns
            ]
        return sr

    return upscale


def common_scale(weights: Mapping[str, int], *, asked: int | None) -> int:
    """The one scale of some weights (name to scale) and of `--scale`.

    Raises:
        UserError: there are two scales, or none.
    """
    scales = {f"the weights {name}": scale for name, scale in weights.items()}
    if asked is not None:
        scales["--scale"] = asked
    if not scales:
        raise UserError("neither weights nor --scale are given: the scale is not known")
    (first, scale), *others = scales.items()
    for name, other in others:
        if other != scale:
            raise UserError(f"{first} has scale {scale}, {name} has scale {other}: expected one scale")
    return scale


def choose_kernel(
    asked: Kernel | None, trained_for: Mapping[str, str], *, warn: Callable[[str], None]
) -> Kernel:
    """The kernel that makes LR: the one asked for, else that of the first weights (name to kernel), else bicubic.

    `warn` is told of weights that were trained for another kernel, or do not say for which.
    """
    kernels: tuple[Kernel, ...] = get_args(Kernel)
    known = [kernel for trained in trained_for.values() for kernel in kernels if kernel == trained]
    chosen = asked or (known[0] if known else "bicubic")
    for name, kernel in trained_for.items():
        if kernel not in kernels:
            warn(f"{name} does not say which kernel it was trained for; LR is made by {chosen}")
        elif kernel != chosen:
            warn(f"LR is made by {chosen}, but {name} was trained for {kernel}: expect a worse result")
    return chosen
