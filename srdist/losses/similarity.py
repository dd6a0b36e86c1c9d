"""How unlike an SR image's structure is: 1 - SSIM of RGB in [0, 1], at one or several scales."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from srdist.images.similarity import constants, moments

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_LEAST = 1e-4
"""Below it the contrast of a scale counts as this much: the slope of a small power is infinite at 0."""


@dataclass(frozen=True, slots=True)
class Dissimilarity:
    """1 - MS-SSIM (Wang, Simoncelli and Bovik, Asilomar 2003); with one scale 1 - SSIM (Wang et al., TIP 2004).

    Each scale is half the one before, by the mean of 2x2 pixels. The weights of the scales are the first of the
    paper's, made to sum to 1. Each channel for itself, then their mean.
    """

    scales: int

    def __call__(self, sr: Float[Tensor, "n 3 h w"], hr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        """From 0, for equal images, to about 1, of each image."""
        a, b = sr.float(), hr.float()
        c1, c2 = constants(1.0)
        product = torch.ones_like(a[:, :, 0, 0])
        weights = _WEIGHTS[: self.scales]
        for scale, weight in enumerate(weights):
            if scale:
                a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
            at = moments(a, b)
            index = (2 * at.covariance + c2) / (at.variance_a + at.variance_b + c2)
            if scale == self.scales - 1:
                index = (
                    index * (2 * at.mean_a * at.mean_b + c1) / (at.mean_a.square() + at.mean_b.square() + c1)
                )
            mean = index.mean((-2, -1))
            product = product * (
                mean if self.scales == 1 else mean.clamp(min=_LEAST).pow(weight / sum(weights))
            )
        return 1 - product.mean(1)
