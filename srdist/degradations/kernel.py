"""LR by one resampling kernel, as 8-bit images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8, UInt64

from srdist.images.kernels import Kernel
from srdist.images.resize import resize_u8


@dataclass(frozen=True, slots=True)
class KernelDegradation:
    """Reduces as Pillow would, a whole batch at once; nothing in it is random."""

    scale: int
    kernel: Kernel

    @property
    def margin(self) -> int:
        """What a patch needs on each side for its LR to be that part of the LR of the whole image, in HR pixels."""
        match self.kernel:
            case "bicubic":
                return 2 * self.scale
            case "bilinear":
                return self.scale
            case "lanczos":
                return 3 * self.scale
            case "nearest" | "box":
                return 0

    def __call__(
        self,
        hr_u8: UInt8[np.ndarray, "n H W 3"],
        keys: UInt64[np.ndarray, " n"],  # noqa: ARG002 (nothing is random)
        /,
    ) -> UInt8[np.ndarray, "n h w 3"]:
        """Reduce a batch by the scale, both sides being multiples of it."""
        height, width = hr_u8.shape[1:3]
        if height % self.scale or width % self.scale:
            raise ValueError(f"HR of {height}x{width} is not a multiple of scale {self.scale}")
        batch = torch.from_numpy(hr_u8).permute(0, 3, 1, 2)
        lr = resize_u8(batch, height=height // self.scale, width=width // self.scale, kernel=self.kernel)
        return lr.permute(0, 2, 3, 1).numpy()

    def explained(
        self, hr_u8: UInt8[np.ndarray, "H W 3"], key: int, /
    ) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
        """The LR of one image, and the kernel's name."""
        return self(hr_u8[None], np.array([key], np.uint64))[0], (self.kernel,)
