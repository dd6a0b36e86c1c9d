"""What a stage of a chain is: one 8-bit image in, one out, perhaps of another size; and what it drew, in words."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from srdist.degradations.draws import Draws

Image = UInt8[np.ndarray, "h w 3"]
Resized = UInt8[np.ndarray, "H W 3"]
"""What is made of an image and has another size."""
Made = tuple[np.ndarray, str]
"""The image, and a few words of what was drawn; "" where the stage left it alone."""


class Stage(Protocol):
    """Frozen, without state, and it pickles."""

    def __call__(self, image: Image, lr_size: tuple[int, int], draws: Draws, /) -> Made:
        """Degrade an image.

        Args:
            lr_size: (height, width) that the LR will have.
        """
        ...
