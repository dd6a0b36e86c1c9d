"""One of several degradations for each image, drawn by its key: as files of the world have not all met the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8, UInt64

from srdist.degradations.degradation import Degradation, image_by_image
from srdist.degradations.draws import Draws

MIXTURE = "mixture"
"""The name whose draws decide which."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """Each image by one of the members; its own draws are those that it would have alone."""

    scale: int
    members: tuple[Degradation, ...]
    weights: tuple[float, ...]

    @property
    def margin(self) -> int:
        """That of the member which needs most."""
        return max(member.margin for member in self.members)

    def __call__(
        self, hr_u8: UInt8[np.ndarray, "n H W 3"], keys: UInt64[np.ndarray, " n"], /
    ) -> UInt8[np.ndarray, "n h w 3"]:
        """The LR of a batch, each image by its own key."""
        return image_by_image(self, hr_u8, keys)

    def explained(
        self, hr_u8: UInt8[np.ndarray, "H W 3"], key: int, /
    ) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
        """The LR of one image, and what its member drew for it."""
        return self.members[Draws.of(key, MIXTURE).pick(0, self.weights)].explained(hr_u8, key)
