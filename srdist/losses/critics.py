"""Critics: networks that judge how real an image looks, place by place. In go images, out come logits: above 0 is real.

Each image is judged for itself: no statistics of the batch, so that the judgement is the same on any number of ranks.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

_SLOPE = 0.2
"""Of the leaky ReLUs, as in both papers."""


class Critic(nn.Module, ABC):
    """RGB in [0, 1] in, logits out."""

    @abstractmethod
    def features(self, images: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        """What each layer makes of the images, the logits last."""

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 H W"]:
        """The logits of each place."""
        return self.features(images)[-1]


class UNetCritic(Critic):
    """Real-ESRGAN's (Wang et al., ICCVW 2021): down three times, up again with skips; a logit for each pixel.

    Where a side is no multiple of 8, what goes up is resized to what it is added to.
    """

    def __init__(self, width: int, normed: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.ModuleList(
            normed(nn.Conv2d(width * 2**i, width * 2 ** (i + 1), 4, 2, 1, bias=False)) for i in range(3)
        )
        self.up = nn.ModuleList(
            normed(nn.Conv2d(width * 2 ** (i + 1), width * 2**i, 3, padding=1, bias=False))
            for i in reversed(range(3))
        )
        self.last = nn.ModuleList(normed(nn.Conv2d(width, width, 3, padding=1, bias=False)) for _ in range(2))
        self.logits = nn.Conv2d(width, 1, 3, padding=1)

    def features(self, images: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        """What each layer makes of the images, the logits last."""
        found = [F.leaky_relu(self.first(images), _SLOPE)]
        for convolution in self.down:
            found.append(F.leaky_relu(convolution(found[-1]), _SLOPE))
        x = found[-1]
        for convolution, skip in zip(self.up, reversed(found[:3]), strict=True):
            raised = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = F.leaky_relu(convolution(raised), _SLOPE) + skip
            found.append(x)
        for convolution in self.last:
            x = F.leaky_relu(convolution(x), _SLOPE)
            found.append(x)
        return [*found, self.logits(x)]


class PatchCritic(Critic):
    """pix2pix's (Isola et al., CVPR 2017): a logit for each patch, of 70x70 pixels with three layers.

    Without the paper's batch norm, which mixes the images of a batch: spectral norm in its place.
    """

    def __init__(self, width: int, layers: int, normed: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        widths = [3, *(width * 2 ** min(i, 3) for i in range(layers + 1))]
        self.layers = nn.ModuleList(
            normed(nn.Conv2d(before, after, 4, 2 if i < layers else 1, 1))
            for i, (before, after) in enumerate(pairwise(widths))
        )
        self.logits = normed(nn.Conv2d(widths[-1], 1, 4, 1, 1))

    def features(self, images: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        """What each layer makes of the images, the logits last."""
        found = [images]
        for layer in self.layers:
            found.append(F.leaky_relu(layer(found[-1]), _SLOPE))
        return [*found[1:], self.logits(found[-1])]


def seeded(make: Callable[[Callable[[nn.Module], nn.Module]], Critic], *, seed: int, normed: bool) -> Critic:
    """A critic with torch's own initial weights, made of `seed` alone.

    Args:
        make: the critic, given what is to become of each convolution.
        normed: spectral norm (Miyato et al., ICLR 2018), whose vectors take one power iteration a pass in training.
    """
    own_seed = int.from_bytes(hashlib.sha256(f"critic {seed}".encode()).digest()[:8], "little") >> 1
    # The vectors of spectral norm are drawn from torch's global generator, whatever one does.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(own_seed)
        return make(spectral_norm if normed else _as_it_is)


def _as_it_is(layer: nn.Module) -> nn.Module:
    return layer
