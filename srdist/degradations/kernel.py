"""HR to LR: what a camera of lower resolution would have seen, as 8-bit images."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import UInt8

from srdist.images.kernels import Kernel
from srdist.images.resize import resize_u8


def margin(kernel: Kernel, scale: int) -> int:
    """HR pixels, a multiple of `scale`, that a patch needs on each side for its LR to be that of the whole image."""
    match kernel:
        case "bicubic":
            return 2 * scale
        case "bilinear":
            return scale
        case "lanczos":
            return 3 * scale
        case "nearest" | "box":
            return 0


def degrade(
    hr_u8: UInt8[np.ndarray, "n H W 3"], *, scale: int, kernel: Kernel
) -> UInt8[np.ndarray, "n h w 3"]:
    """Reduce a batch by `scale`, both sides being multiples of it: as Pillow would, a whole batch at once."""
    height, width = hr_u8.shape[1:3]
    if height % scale or width % scale:
        raise ValueError(f"HR of {height}x{width} is not a multiple of scale {scale}")
    batch = torch.from_numpy(hr_u8).permute(0, 3, 1, 2)
    lr = resize_u8(batch, height=height // scale, width=width // scale, kernel=kernel)
    return lr.permute(0, 2, 3, 1).numpy()
