"""PSNR, SSIM and RMSE of images, each in one place and with every option named.

The SR literature's protocol (that of the benchmark tables since SRCNN): luma in 16..235 of 8-bit images,
`border = scale` pixels shaved, SSIM of Wang et al. 2004 with an 11x11 Gaussian of sigma 1.5 on the region where
the window lies inside the image; then the mean over images. Sums are float64, and are taken block by block,
so that an image of any size is scored in bounded memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from srdist.images.pixels import luma
from srdist.images.similarity import SSIM_WINDOW, ssim_map

_CPU_SIDE = 160
"""Of the blocks that are scored at a time, in pixels: they stay in the caches, and below the size from which torch
starts threads: for sums this small these wait for each other most of the time (docs/log.md)."""
_GPU_SIDE = 2048


def shave(images: Tensor, border: int) -> Tensor:
    """Cut `border` pixels from each side of [..., h, w]; nothing is left of a side of 2 * border or less."""
    height, width = images.shape[-2:]
    return images[..., border : max(border, height - border), border : max(border, width - border)]


def psnr_y(
    sr_u8: UInt8[Tensor, "n 3 h w"], hr_u8: UInt8[Tensor, "n 3 h w"], *, border: int
) -> Float[Tensor, " n"]:
    """PSNR of the luma, in dB with peak 255, per image; infinite for equal images, NaN where the border leaves nothing."""
    sr_u8, hr_u8 = shave(sr_u8, border), shave(hr_u8, border)

    def squares(sr: Tensor, hr: Tensor) -> Tensor:
        return (luma(sr) - luma(hr)).square().sum()

    return _decibels(
        _sums(squares, sr_u8, hr_u8, overlap=0) / (sr_u8.shape[-2] * sr_u8.shape[-1]), peak=255.0
    )


def psnr(a: Float[Tensor, "n h w"], b: Float[Tensor, "n h w"], *, peak: float) -> Float[Tensor, " n"]:
    """Peak signal-to-noise ratio in dB, per image, of values whose range is 0..`peak`; infinite for equal images."""
    return _decibels((a.double() - b.double()).square().flatten(1).mean(1), peak=peak)


def ssim_y(
    sr_u8: UInt8[Tensor, "n 3 h w"], hr_u8: UInt8[Tensor, "n 3 h w"], *, border: int
) -> Float[Tensor, " n"]:
    """SSIM of the luma, per image; NaN where the shaved image is smaller than the 11x11 window."""
    sr_u8, hr_u8 = shave(sr_u8, border), shave(hr_u8, border)

    def index(sr: Tensor, hr: Tensor) -> Tensor:
        return ssim_map(luma(sr), luma(hr), peak=255.0).sum()

    return _sums(index, sr_u8, hr_u8, overlap=SSIM_WINDOW - 1) / _windows(sr_u8)


def ssim(a: Float[Tensor, "n h w"], b: Float[Tensor, "n h w"], *, peak: float) -> Float[Tensor, " n"]:
    """Structural similarity (Wang et al., TIP 2004), per image: K1 0.01, K2 0.03, valid region only; NaN where that is empty."""
    if _windows(a) == 0:
        return torch.full((a.shape[0],), torch.nan, dtype=torch.float64, device=a.device)
    return ssim_map(a.double(), b.double(), peak=peak).flatten(1).mean(1)


def rmse(sr_u8: UInt8[Tensor, "n 3 h w"], hr_u8: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """Root mean square error over RGB in [0, 1], per image, without a border: the seed's figure."""

    def squares(sr: Tensor, hr: Tensor) -> Tensor:
        planes = zip(sr, hr, strict=True)
        return torch.stack([(a.int() - b.int()).square_().sum() for a, b in planes]).sum()

    return (_sums(squares, sr_u8, hr_u8, overlap=0) / sr_u8.shape[1:].numel()).sqrt() / 255


def _sums(
    measure: Callable[[Tensor, Tensor], Tensor], sr_u8: Tensor, hr_u8: Tensor, *, overlap: int
) -> Float[Tensor, " n"]:
    """The sum of `measure` over the blocks of each image: of one image the same whatever it is batched with."""
    # Broadcasting would compare a one-row image with every row of another, and give a number.
    if sr_u8.shape != hr_u8.shape:
        raise ValueError(f"sr is {tuple(sr_u8.shape)} and hr {tuple(hr_u8.shape)}: only equals compare")
    totals = sr_u8.new_zeros(sr_u8.shape[0], dtype=torch.float64)
    blocks = list(_blocks(sr_u8, overlap=overlap))
    for sr, hr, total in zip(sr_u8, hr_u8, totals, strict=True):
        for rows, columns in blocks:
            total += measure(sr[:, rows, columns], hr[:, rows, columns])
    return totals


def _decibels(mean_square: Float[Tensor, " n"], *, peak: float) -> Float[Tensor, " n"]:
    return 10 * torch.log10(peak**2 / mean_square)


def _windows(images: Tensor) -> int:
    height, width = images.shape[-2:]
    return max(0, height - SSIM_WINDOW + 1) * max(0, width - SSIM_WINDOW + 1)


def _blocks(images: Tensor, *, overlap: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of blocks that cover [..., h, w], neighbours sharing `overlap` pixels."""
    height, width = images.shape[-2:]
    side = _CPU_SIDE if images.device.type == "cpu" else _GPU_SIDE
    for top in range(0, height - overlap, side):
        for left in range(0, width - overlap, side):
            yield (
                slice(top, min(height, top + side + overlap)),
                slice(left, min(width, left + side + overlap)),
            )
