"""Networks that see luma alone, as most of the papers': luma of RGB, and RGB with another luma."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

_GAIN = 255 / 219
"""What each of R, G and B gains where luma gains 1 and Cb and Cr stay."""


def luma_of(image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
    """BT.601 luma, 16/255 to 235/255, of RGB in [0, 1]."""
    r, g, b = image.unbind(1)
    return ((65.481 * r + 128.553 * g + 24.966 * b + 16) / 255).unsqueeze(1)


def with_more_luma(
    image: Float[Tensor, "n 3 h w"], more: Float[Tensor, "n 1 h w"]
) -> Float[Tensor, "n 3 h w"]:
    """RGB whose luma is greater by `more`, Cb and Cr as they were."""
    return image + more * _GAIN
