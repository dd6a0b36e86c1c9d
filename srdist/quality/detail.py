"""Detail told from its imitation: a sharpness that needs no reference, the power spectrum beside HR's, and whether SR gives LR again.

Of 8-bit images as files hold them; sums are float64 and taken part by part, so that an image of any size is
scored in bounded memory. Formulas and what they are blind to: docs/quality.md.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from srdist.images.kernels import Kernel
from srdist.images.pixels import luma
from srdist.images.resize import resize_u8
from srdist.quality.metrics import shave

BLUR = 11
"""Length of the box that an image is blurred with to see what it loses, in pixels (Crete et al.)."""
SEGMENT = 32
"""Side of the squares whose spectra are averaged, in pixels; neighbours overlap by half."""
RINGS = SEGMENT // 2
"""Rings of the spectrum, each 1/32 cycle a pixel wide, from the first to Nyquist's 0.5."""
FLOOR = 1 / 12
"""Added to each ring's power, in squared levels: that of rounding to 8 bit, so that a flat image has a spectrum."""
_SIDE = 256
_AROUND = BLUR + 1
"""By how much what is left of a part is smaller than the part: the blur's reach and Sobel's."""


def sharpness_y(images_u8: UInt8[Tensor, "n 3 h w"], *, border: int) -> Float[Tensor, " n"]:
    """How much of an image's edges a blur would take, 0 (blurred already) to 1, of the luma; NaN for a flat or too small one.

    One minus the blur of Crete, Dolmiere, Ladret and Nicolas (SPIE 6492, 2007), with Sobel's derivatives as in scikit-image's
    `blur_effect`, where all of both filters lies inside the image. Noise and rings count as sharp.

    Args:
        border: pixels that are left out on each side.
    """
    found = []
    for image in shave(images_u8, border):
        sums = torch.zeros(2, 2, dtype=torch.float64, device=image.device)
        height, width = image.shape[-2:]
        for top in range(0, height - _AROUND, _SIDE):
            for left in range(0, width - _AROUND, _SIDE):
                part = image[:, top : top + _SIDE + _AROUND, left : left + _SIDE + _AROUND]
                plane = luma(part)
                sums += torch.stack([_edges(plane), _edges(plane.T)])
        found.append((sums[:, 1] / sums[:, 0]).min())
    return torch.stack(found) if found else images_u8.new_zeros(0, dtype=torch.float64)


def _edges(plane: Float[Tensor, "h w"]) -> Float[Tensor, " 2"]:
    """The sum of the downward derivative's sizes, and of what a downward blur takes from them."""
    step = plane[2:] - plane[:-2]
    step = (step[:, :-2] + 2 * step[:, 1:-1] + step[:, 2:]) / 8
    along = step.cumsum(0)
    blurred = torch.cat([along[BLUR - 1 : BLUR], along[BLUR:] - along[:-BLUR]]) / BLUR
    around = BLUR // 2
    sizes = step[around:-around, around:-around].abs()
    lost = (sizes - blurred[:, around:-around].abs()).clamp_(min=0)
    return torch.stack([sizes.sum(), lost.sum()])


def rings_y(images_u8: UInt8[Tensor, "n 3 h w"], *, border: int) -> Float[Tensor, "n 16"]:
    """Mean power of the luma in rings of equal frequency, in squared levels a bin; NaN for an image smaller than SEGMENT.

    Welch's estimate (1967): squares of SEGMENT pixels, overlapping by half, without their mean, under Hann's window,
    their periodograms averaged; then the mean over the bins whose frequency, rounded to 1/SEGMENT cycles a pixel, is
    that of the ring. The corners beyond 0.5 cycles a pixel are left out.
    """
    window = torch.hann_window(SEGMENT, dtype=torch.float64, device=images_u8.device)
    window = window[:, None] * window
    window /= window.square().sum().sqrt()
    frequencies = [torch.fft.fftfreq(SEGMENT), torch.fft.rfftfreq(SEGMENT)]
    down, across = (frequency.double().to(images_u8.device) * SEGMENT for frequency in frequencies)
    ring = (down[:, None].square() + across.square()).sqrt().round()
    # Of each pair of conjugate bins but for those of the first and last column there is one.
    times = torch.ones_like(across).mul_(2).index_fill_(0, torch.tensor([0, RINGS], device=across.device), 1)
    masks = torch.stack([(ring == number) * times for number in range(1, RINGS + 1)])
    masks /= masks.sum((-1, -2), keepdim=True)
    found = [(masks * _power(image, window)).sum((-1, -2)) for image in shave(images_u8, border)]
    return torch.stack(found) if found else images_u8.new_zeros((0, RINGS), dtype=torch.float64)


def _power(image_u8: UInt8[Tensor, "3 h w"], window: Float[Tensor, "s s"]) -> Float[Tensor, "s r"]:
    """The mean periodogram of an image's squares, by rows of squares; NaN where there is none."""
    half = SEGMENT // 2
    total = torch.zeros(SEGMENT, half + 1, dtype=torch.float64, device=image_u8.device)
    count = 0
    height, width = image_u8.shape[-2:]
    if width >= SEGMENT:
        for top in range(0, height - SEGMENT + 1, half):
            squares = luma(image_u8[:, top : top + SEGMENT]).unfold(1, SEGMENT, half).transpose(0, 1)
            squares = (squares - squares.mean((-1, -2), keepdim=True)) * window
            total += torch.view_as_real(torch.fft.rfft2(squares)).square().sum((0, -1))
            count += len(squares)
    return total / count if count else total.fill_(torch.nan)


def spectrum_db(
    sr_rings: Float[Tensor, "n 16"], hr_rings: Float[Tensor, "n 16"], *, floor: float = FLOOR
) -> Float[Tensor, " n"]:
    """How far two spectra are from each other: the root mean square over the rings of their ratio in dB; 0 for equal ones.

    The log-spectral distance (Gray and Markel, IEEE TASSP 24, 1976) of azimuthal means (Durall et al., CVPR 2020). Too little
    and too much of a frequency count alike, and where the detail lies counts for nothing.
    """
    return (10 * torch.log10((sr_rings + floor) / (hr_rings + floor))).square().mean(1).sqrt()


def consistency_db(
    sr_u8: UInt8[Tensor, "n 3 H W"], lr_u8: UInt8[Tensor, "n 3 h w"], *, kernel: Kernel
) -> Float[Tensor, " n"]:
    """PSNR between SR, reduced by the kernel that made LR, and LR, of 8-bit RGB without a border, in dB; infinite for equals.

    The LR-PSNR of NTIRE's challenge on the space of SR images (Lugmayr et al., CVPRW 2021). What SR shows beyond LR may be invented,
    but where this is high it contradicts nothing that LR shows.
    """
    again = resize_u8(sr_u8.cpu(), height=lr_u8.shape[-2], width=lr_u8.shape[-1], kernel=kernel)
    squares = [
        (a.int() - b.int()).square_().sum().double() / a.numel()
        for a, b in zip(again, lr_u8.cpu(), strict=True)
    ]
    mean = torch.stack(squares) if squares else torch.zeros(0, dtype=torch.float64)
    return 10 * torch.log10(255**2 / mean)
