"""PSNR, SSIM and RMSE of images, each in one place and with every option named.

The SR literature's protocol (README of the benchmark tables since SRCNN): luma in 16..235 of 8-bit images,
`border = scale` pixels shaved, SSIM of Wang et al. 2004 with an 11x11 Gaussian of sigma 1.5 on the region where
the window lies inside the image; then the mean over images.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from srdist.imaging import luma

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5


def shave(images: Tensor, border: int) -> Tensor:
    """Cut `border` pixels from each side of [..., h, w]; refuses to leave nothing."""
    height, width = images.shape[-2:]
    if min(height, width) <= 2 * border:
        raise ValueError(f"image of {height}x{width} has nothing left inside a border of {border}")
    return images[..., border : height - border, border : width - border]


def psnr_y(
    sr_u8: UInt8[Tensor, "n 3 h w"], hr_u8: UInt8[Tensor, "n 3 h w"], *, border: int
) -> Float[Tensor, " n"]:
    """PSNR of the luma, in dB with peak 255, per image; infinite for equal images."""
    return psnr(shave(luma(sr_u8), border), shave(luma(hr_u8), border), peak=255.0)


def psnr(a: Float[Tensor, "n h w"], b: Float[Tensor, "n h w"], *, peak: float) -> Float[Tensor, " n"]:
    """Peak signal-to-noise ratio in dB, per image, of values whose range is 0..`peak`."""
    mean_square = (a.double() - b.double()).square().flatten(1).mean(1)
    return 10 * torch.log10(peak**2 / mean_square)


def ssim_y(
    sr_u8: UInt8[Tensor, "n 3 h w"], hr_u8: UInt8[Tensor, "n 3 h w"], *, border: int
) -> Float[Tensor, " n"]:
    """SSIM of the luma, per image; NaN where the shaved image is smaller than the 11x11 window."""
    return ssim(shave(luma(sr_u8), border), shave(luma(hr_u8), border), peak=255.0)


def ssim(a: Float[Tensor, "n h w"], b: Float[Tensor, "n h w"], *, peak: float) -> Float[Tensor, " n"]:
    """Structural similarity (Wang et al., TIP 2004), per image: K1 0.01, K2 0.03, valid region only."""
    if min(a.shape[-2:]) < SSIM_WINDOW:
        return torch.full((a.shape[0],), torch.nan, dtype=torch.float64, device=a.device)
    a, b = a.double().unsqueeze(1), b.double().unsqueeze(1)
    mean_a, mean_b = _blur(a), _blur(b)
    variance_a = _blur(a * a) - mean_a * mean_a
    variance_b = _blur(b * b) - mean_b * mean_b
    covariance = _blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    index = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    index /= (mean_a.square() + mean_b.square() + c1) * (variance_a + variance_b + c2)
    return index.flatten(1).mean(1)


def rmse(sr_u8: UInt8[Tensor, "n 3 h w"], hr_u8: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """Root mean square error over RGB in [0, 1], per image, without a border: the seed's figure."""
    return ((sr_u8.double() - hr_u8.double()) / 255).square().flatten(1).mean(1).sqrt()


def _blur(images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    offsets = torch.arange(SSIM_WINDOW, dtype=torch.float64, device=images.device) - SSIM_WINDOW // 2
    window = torch.exp(-offsets.square() / (2 * SSIM_SIGMA**2))
    window /= window.sum()
    return F.conv2d(F.conv2d(images, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
