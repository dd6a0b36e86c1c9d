"""How wrong an SR image is at each frequency, whatever the place: of the discrete Fourier transform of each channel.

The transform is orthonormal: of the same images the loss does not grow with the side of the patch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class FocalFrequency:
    """Jiang et al., ICCV 2021 (https://arxiv.org/abs/2012.12821): squared distances of the spectra, the largest ones most.

    The weight of a frequency is its distance to the power of `alpha`, divided by the largest one of the image's
    channel; no gradient goes through it.
    """

    alpha: float

    def __call__(self, sr: Float[Tensor, "n 3 h w"], hr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        """The mean over channels and frequencies, of each image."""
        squared = torch.view_as_real(_spectrum(sr, hr)).square().sum(-1)
        weight = squared.detach().sqrt().pow(self.alpha)
        # Equal spectra have no largest distance: their loss is 0, not 0 / 0.
        largest = weight.amax((-2, -1), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        return (weight / largest * squared).flatten(1).mean(1)


def fft_l1(sr: Float[Tensor, "n 3 h w"], hr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """Cho et al., ICCV 2021 (MIMO-UNet): the mean distance of real and imaginary parts of the spectra, of each image."""
    return torch.view_as_real(_spectrum(sr, hr)).abs().flatten(1).mean(1)


def _spectrum(sr: Tensor, hr: Tensor) -> Tensor:
    """The transform of the difference, which is the difference of the transforms."""
    spectrum: Tensor = torch.fft.fft2((sr.float() - hr.float()).contiguous(), norm="ortho")
    return spectrum
