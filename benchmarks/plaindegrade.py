"""Real-ESRGAN's second order as its training does it: in float32 tensors, a batch at a time, with a differentiable JPEG.

Written here after the paper and its published options, as the way that benchmarks/degrade.py compares with: dense
kernels of 21x21 for all, resizing without antialiasing, one draw of a resizing for the whole batch, Poisson noise by
the number of distinct levels of each image.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 21
_LUMA = [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56]
_LUMA += [14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92]
_LUMA += [49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99]
_CHROMA = [17, 18, 24, 47, 18, 21, 26, 66, 24, 26, 56, 99, 47, 66, 99, 99]
_TO_YCC = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


class PlainSecondOrder:
    """A batch of HR [n, 3, H, W] in [0, 1] to LR; every draw from one generator, in the order of the batch."""

    def __init__(self, scale: int, seed: int) -> None:
        self.scale = scale
        self.random = np.random.default_rng(seed)

    def __call__(self, hr: Tensor) -> Tensor:
        count, _, height, width = hr.shape
        small = (height // self.scale, width // self.scale)
        image = _convolved(hr, self._kernels(count, sigma=(0.2, 3.0)))
        ratio = self._ratio((0.2, 0.7, 0.1), (0.15, 1.5))
        image = self._resized(image, (int(height * ratio), int(width * ratio)))
        image = self._noisy(image, sigma=(1, 30), poisson=(0.05, 3.0))
        image = _jpeg(image.clamp(0, 1), self._qualities(count))
        if self.random.uniform() < 0.8:
            image = _convolved(image, self._kernels(count, sigma=(0.2, 1.5)))
        ratio = self._ratio((0.3, 0.4, 0.3), (0.3, 1.2))
        image = self._resized(image, (int(small[0] * ratio), int(small[1] * ratio)))
        image = self._noisy(image, sigma=(1, 25), poisson=(0.05, 2.5))
        ring = torch.stack([self._sinc() if self.random.uniform() < 0.8 else _pulse() for _ in range(count)])
        if self.random.uniform() < 0.5:
            image = _convolved(self._resized(image, small), ring)
            image = _jpeg(image.clamp(0, 1), self._qualities(count))
        else:
            image = _jpeg(image.clamp(0, 1), self._qualities(count))
            image = _convolved(self._resized(image, small), ring)
        return (image.clamp(0, 1) * 255).round()

    def _kernels(self, count: int, *, sigma: tuple[float, float]) -> Tensor:
        kernels = [
            self._sinc() if self.random.uniform() < 0.1 else self._gaussian(sigma) for _ in range(count)
        ]
        return torch.stack(kernels)

    def _gaussian(self, sigma: tuple[float, float]) -> Tensor:
        side = self.random.choice(np.arange(7, 22, 2))
        kind = self.random.choice(6, p=[0.45, 0.25, 0.12, 0.03, 0.12, 0.03])
        sigma_x, sigma_y = self.random.uniform(*sigma, 2)
        angle = self.random.uniform(-math.pi, math.pi)
        if kind % 2 == 0:
            sigma_y, angle = sigma_x, 0.0
        line = np.arange(side) - side // 2
        x, y = np.meshgrid(line, line)
        u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
        squares = (u / sigma_x) ** 2 + (v / sigma_y) ** 2
        if kind < 4:
            exponent = 1.0 if kind < 2 else self.random.uniform(0.5, 4.0)
            weights = np.exp(-0.5 * squares**exponent)
        else:
            weights = 1 / (squares ** self.random.uniform(1, 2) + 1)
        return _padded(torch.from_numpy(weights / weights.sum()).float())

    def _sinc(self) -> Tensor:
        side = self.random.choice(np.arange(7, 22, 2))
        cutoff = self.random.uniform(math.pi / 3, math.pi)
        line = torch.arange(side, dtype=torch.float64) - side // 2
        radius = (line[None] ** 2 + line[:, None] ** 2).sqrt()
        weights = torch.special.bessel_j1(cutoff * radius) * cutoff / (2 * math.pi * radius)
        weights[side // 2, side // 2] = cutoff**2 / (4 * math.pi)
        return _padded((weights / weights.sum()).float())

    def _ratio(self, ways: tuple[float, float, float], low_high: tuple[float, float]) -> float:
        way = self.random.choice(3, p=ways)
        return float([self.random.uniform(1, low_high[1]), self.random.uniform(low_high[0], 1), 1][way])

    def _resized(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(image, size=size, mode=str(self.random.choice(["area", "bilinear", "bicubic"])))

    def _noisy(self, image: Tensor, *, sigma: tuple[float, float], poisson: tuple[float, float]) -> Tensor:
        count, _, height, width = image.shape
        grey = torch.from_numpy(self.random.uniform(size=count) < 0.4).view(-1, 1, 1, 1)
        if self.random.uniform() < 0.5:
            strength = torch.from_numpy(self.random.uniform(*sigma, count)).float().view(-1, 1, 1, 1) / 255
            noise = torch.where(grey, torch.randn(count, 1, height, width), torch.randn(image.shape))
            return (image + noise * strength).clamp(0, 1)
        strength = torch.from_numpy(self.random.uniform(*poisson, count)).float().view(-1, 1, 1, 1)
        image = (image.clamp(0, 1) * 255).round() / 255
        luma = (image * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
        luma = (luma * 255).round() / 255
        noise = torch.where(grey, _photons(luma), _photons(image))
        return (image + noise * strength).clamp(0, 1)

    def _qualities(self, count: int) -> Tensor:
        return torch.from_numpy(self.random.uniform(30, 95, count)).float()


def _photons(image: Tensor) -> Tensor:
    levels = torch.tensor([2.0 ** math.ceil(math.log2(len(torch.unique(one)))) for one in image])
    levels = levels.view(-1, 1, 1, 1)
    return torch.poisson(image * levels) / levels - image


def _padded(kernel: Tensor) -> Tensor:
    around = (SIDE - len(kernel)) // 2
    return F.pad(kernel, (around, around, around, around))


def _pulse() -> Tensor:
    return _padded(torch.ones(1, 1))


def _convolved(image: Tensor, kernels: Tensor) -> Tensor:
    count, channels, height, width = image.shape
    radius = SIDE // 2
    mode = "reflect" if min(height, width) > radius else "replicate"
    padded = F.pad(image, (radius, radius, radius, radius), mode=mode)
    planes = padded.reshape(1, count * channels, height + 2 * radius, width + 2 * radius)
    weight = kernels[:, None].repeat(1, channels, 1, 1).reshape(count * channels, 1, SIDE, SIDE)
    return F.conv2d(planes, weight, groups=count * channels).view(count, channels, height, width)


def _jpeg(image: Tensor, quality: Tensor) -> Tensor:
    """Quantized cosines of 8x8 blocks, colour at half the sides: all in tensors, as a differentiable JPEG has it."""
    height, width = image.shape[-2:]
    padded = F.pad(image * 255, (0, -width % 16, 0, -height % 16), mode="replicate")
    colours: Any = torch.einsum("ij,njhw->nihw", _TO_YCC, padded)
    luma, chroma = colours[:, :1] - 128, F.avg_pool2d(colours[:, 1:], 2)
    factor = torch.where(quality < 50, 50 / quality, 2 - quality / 50).view(-1, 1, 1, 1, 1)
    coarse = torch.full((8, 8), 99.0)
    coarse[:4, :4] = torch.tensor(_CHROMA).float().view(4, 4)
    luma = _quantized(luma, torch.tensor(_LUMA).float().view(8, 8), factor) + 128
    chroma = _quantized(chroma, coarse, factor).repeat_interleave(2, -1).repeat_interleave(2, -2)
    restored = torch.einsum("ij,njhw->nihw", torch.linalg.inv(_TO_YCC), torch.cat([luma, chroma], 1))
    return restored[..., :height, :width].clamp(0, 255) / 255


def _quantized(planes: Tensor, table: Tensor, factor: Tensor) -> Tensor:
    count, channels, height, width = planes.shape
    place = torch.arange(8)
    cosines = ((2 * place[None] + 1) * place[:, None] * math.pi / 16).cos() / 2
    cosines[0] /= math.sqrt(2)
    blocks = planes.view(count, channels * height // 8, 8, width // 8, 8).transpose(2, 3)
    table = table * factor
    coefficients = (cosines @ blocks @ cosines.T / table).round() * table
    pixels = cosines.T @ coefficients @ cosines
    return pixels.transpose(2, 3).reshape(count, channels, height, width)
