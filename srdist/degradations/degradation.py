"""What a degradation is: HR images in, LR images out, the same for the same pixels and keys wherever it runs."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from jaxtyping import UInt8, UInt64


class Degradation(Protocol):
    """Frozen, without state, and it pickles: worker processes hold it."""

    @property
    def scale(self) -> int:
        """Factor between LR and HR, in each direction."""
        ...

    @property
    def margin(self) -> int:
        """HR pixels, a multiple of the scale, that are degraded around each side of a patch, where the image has them."""
        ...

    def __call__(
        self, hr_u8: UInt8[np.ndarray, "n H W 3"], keys: UInt64[np.ndarray, " n"], /
    ) -> UInt8[np.ndarray, "n h w 3"]:
        """The LR of a batch, its sides multiples of the scale; all that is random in one image comes from its key alone."""
        ...

    def explained(
        self, hr_u8: UInt8[np.ndarray, "H W 3"], key: int, /
    ) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
        """The LR of one image, and in words what was drawn for it."""
        ...


def image_by_image(
    degradation: Degradation, hr_u8: UInt8[np.ndarray, "n H W 3"], keys: UInt64[np.ndarray, " n"]
) -> UInt8[np.ndarray, "n h w 3"]:
    """The LR of a batch where nothing is gained by degrading several images at once."""
    count, height, width, _ = hr_u8.shape
    lr = np.empty((count, height // degradation.scale, width // degradation.scale, 3), np.uint8)
    for place, key in enumerate(keys.tolist()):
        lr[place], _ = degradation.explained(hr_u8[place], key)
    return lr
