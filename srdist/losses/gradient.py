"""How wrong the steps between neighbouring pixels are: the edges."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def sobel(sr: Float[Tensor, "n 3 h w"], hr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """The mean absolute error of each image's slopes, across and down, as Sobel's 3x3 filter has them (Sobel and Feldman 1968).

    Divided by 8, so that a slope is in levels a pixel; where the filter lies inside the image, so that no border is
    made up.
    """
    error = sr.float() - hr.float()
    across = _smoothed(error[..., 2:] - error[..., :-2], dimension=-2)
    down = _smoothed(error[..., 2:, :] - error[..., :-2, :], dimension=-1)
    return (across.abs() + down.abs()).flatten(1).mean(1) / 16


def _smoothed(steps: Tensor, *, dimension: int) -> Tensor:
    size = steps.shape[dimension] - 2
    before, at, after = (steps.narrow(dimension, offset, size) for offset in range(3))
    return before + 2 * at + after
