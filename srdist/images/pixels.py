"""Pixels as numbers: 8-bit levels and floats, luma, and the part of an image that has an exact LR."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor


def to_pillow(image_u8: UInt8[Tensor, "3 h w"]) -> Image.Image:
    """An 8-bit RGB tensor as a Pillow image."""
    return Image.fromarray(image_u8.permute(1, 2, 0).contiguous().numpy())


def to_float(image_u8: UInt8[Tensor, "*n 3 h w"]) -> Float[Tensor, "*n 3 h w"]:
    """uint8 0..255 to float32 in [0, 1]."""
    return image_u8.float().div_(255)


def to_u8(image: Float[Tensor, "*n 3 h w"]) -> UInt8[Tensor, "*n 3 h w"]:
    """Float in [0, 1] to uint8, clamped and rounded to nearest, as an image file would hold it."""
    return image.float().mul(255).round_().clamp_(0, 255).to(torch.uint8)


def luma(image_u8: UInt8[Tensor, "*n 3 h w"]) -> Float[Tensor, "*n h w"]:
    """BT.601 luma in 16..235 of 8-bit RGB, unrounded float64: MATLAB's rgb2ycbcr, as the SR literature scores."""
    r, g, b = (plane.double() for plane in image_u8.unbind(-3))
    return 16 + (65.481 * r + 128.553 * g + 24.966 * b) / 255


def mod_crop(image: Tensor, scale: int) -> Tensor:
    """The top left part [..., h, w] whose sides are multiples of `scale`: what has an exact LR image."""
    height, width = image.shape[-2:]
    return image[..., : height - height % scale, : width - width % scale]
