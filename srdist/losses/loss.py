"""What a loss is: SR and HR images in, one number an image out."""

from __future__ import annotations

from typing import Protocol

from jaxtyping import Float
from torch import Tensor


class Loss(Protocol):
    """One number an image, in float32, so that an image of weight 0 has no part in the sum."""

    def __call__(
        self, sr: Float[Tensor, "n 3 h w"], hr: Float[Tensor, "n 3 h w"], /
    ) -> Float[Tensor, " n"]: ...


class AverageLoss(Protocol):
    """A loss that looks also at what the running average of the network's weights makes of the same LR."""

    def __call__(
        self,
        sr: Float[Tensor, "n 3 h w"],
        hr: Float[Tensor, "n 3 h w"],
        average_sr: Float[Tensor, "n 3 h w"],
        /,
    ) -> Float[Tensor, " n"]: ...
