"""What becomes of each image of a batch: which window of it is degraded, what is kept of that, which way round it stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt64

from srdist.stream.patches import corners, turns, windows


@dataclass(frozen=True, slots=True)
class Cuts:
    """One entry for each place of a batch, in HR pixels; some in a row may be of one image."""

    starts: Int64[np.ndarray, "n 2"]
    """(top, left) of the window in its image."""
    extents: Int64[np.ndarray, "n 2"]
    """(height, width) of the window, multiples of the scale."""
    insets: Int64[np.ndarray, "n 2"]
    """(top, left) in its window of what is kept, multiples of the scale."""
    ways: Int64[np.ndarray, " n"]
    """Which way round, as `patches.turned` takes it."""
    keys: UInt64[np.ndarray, " n"]
    """What the degradation draws its random numbers from."""
    whole: bool
    """Whether windows are kept as wholes: they are then turned before they are degraded, and else HR and LR after."""

    @classmethod
    def frames(
        cls, sizes: Int64[np.ndarray, "n 2"], keys: UInt64[np.ndarray, " n"], *, scale: int, flips: bool
    ) -> Cuts:
        """Whole images of (height, width) `sizes`, cropped at the right and bottom to multiples of the scale."""
        nowhere = np.zeros_like(sizes)
        ways = turns(keys, square=False) if flips else np.zeros(len(keys), np.int64)
        return cls(nowhere, sizes - sizes % scale, nowhere, ways, keys, whole=True)

    @classmethod
    def patches(
        cls,
        sizes: Int64[np.ndarray, "n 2"],
        keys: UInt64[np.ndarray, " n"],
        *,
        hr_patch: int,
        scale: int,
        margin: int,
        flips: bool,
    ) -> Cuts:
        """A square patch of each image of (height, width) `sizes`, with `margin` around it to be degraded."""
        tops = corners(keys, sizes, hr_patch=hr_patch, scale=scale)
        starts, extents = windows(tops, sizes, hr_patch=hr_patch, scale=scale, margin=margin)
        ways = turns(keys, square=True) if flips else np.zeros(len(keys), np.int64)
        return cls(starts, extents, tops - starts, ways, keys, whole=False)

    def alike(self, *, most_bytes: int) -> Iterator[list[int]]:
        """The places of windows of one size, as many at a time as hold `most_bytes` of pixels, or one."""
        by_size: dict[tuple[int, int], list[int]] = {}
        for place, (height, width) in enumerate(self.extents.tolist()):
            by_size.setdefault((height, width), []).append(place)
        for (height, width), places in by_size.items():
            at_a_time = max(1, most_bytes // (height * width * 3))
            for first in range(0, len(places), at_a_time):
                yield places[first : first + at_a_time]
