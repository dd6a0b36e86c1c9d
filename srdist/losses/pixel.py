"""How wrong an SR image is, pixel by pixel: the mean over an image's values."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def mse(sr: Float[Tensor, "n 3 h w"], hr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """The mean squared error of each image."""
    return _of_each((sr.float() - hr).square())


def l1(sr: Float[Tensor, "n 3 h w"], hr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """The mean absolute error of each image."""
    return _of_each((sr.float() - hr).abs())


def charbonnier(sr: Float[Tensor, "n 3 h w"], hr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """Charbonnier et al. 1994, as in LapSRN (Lai et al., CVPR 2017)."""
    return _of_each(((sr.float() - hr).square() + 1e-6).sqrt())


def _of_each(values: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    return values.flatten(1).mean(1)
