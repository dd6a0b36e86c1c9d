"""How wrong an SR image is where it looks like an artifact: LDL (Liang, Zeng and Zhang, CVPR 2022, https://arxiv.org/abs/2203.09195).

A pixel counts by how much its neighbourhood's errors vary, and not at all where the running average of the network's
weights (train.ema_decay) is no better.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

WINDOW = 7


def ldl(
    sr: Float[Tensor, "n 3 h w"], hr: Float[Tensor, "n 3 h w"], average_sr: Float[Tensor, "n 3 h w"]
) -> Float[Tensor, " n"]:
    """The mean absolute error of each image, weighted by its map of artifacts.

    No gradient goes through the map: the paper's fifth root has an infinite slope where an image has no error.
    """
    error = (sr.float() - hr.float()).abs()
    return (_artifacts(error.detach(), average_sr.detach().float() - hr.float()) * error).flatten(1).mean(1)


def _artifacts(
    error: Float[Tensor, "n 3 h w"], average_error: Float[Tensor, "n 3 h w"]
) -> Float[Tensor, "n 1 h w"]:
    """The variance of the errors around a pixel, times the fifth root of that of the image."""
    residual, average_residual = error.sum(1, keepdim=True), average_error.abs().sum(1, keepdim=True)
    of_image = residual.var((-3, -2, -1), keepdim=True).pow(1 / 5)
    weight = _local_variance(residual) * of_image
    return torch.where(residual < average_residual, 0.0, weight)


def _local_variance(residual: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    """In the 7x7 window around each pixel, the image mirrored at its edges."""
    # Around the image's mean: the difference of two large means would lose the variance.
    centred = residual - residual.mean((-2, -1), keepdim=True)
    padded = F.pad(centred, [WINDOW // 2] * 4, mode="reflect")
    mean, square = F.avg_pool2d(padded, WINDOW, 1), F.avg_pool2d(padded.square(), WINDOW, 1)
    count = WINDOW**2
    return (square - mean.square()).clamp(min=0) * (count / (count - 1))
