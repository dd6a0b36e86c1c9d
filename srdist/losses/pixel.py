"""How wrong an SR image is, pixel by pixel: one number an image."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def image_losses(
    sr: Float[Tensor, "n 3 h w"], hr: Float[Tensor, "n 3 h w"], *, loss: str
) -> Float[Tensor, " n"]:
    """The loss of each image, a mean over its values, in float32."""
    difference = sr.float() - hr
    match loss:
        case "mse":
            values = difference.square()
        case "l1":
            values = difference.abs()
        case "charbonnier":
            # Charbonnier et al. 1994, as in LapSRN (Lai et al., CVPR 2017).
            values = (difference.square() + 1e-6).sqrt()
        case _:
            raise AssertionError(loss)
    return values.flatten(1).mean(1)
