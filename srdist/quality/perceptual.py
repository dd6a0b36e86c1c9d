"""LPIPS and DISTS, as torchmetrics computes them: distances of features of networks whose weights torchvision keeps in its cache.

Nothing is fetched from here: a file that is not in the cache is named, with where it comes from.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from srdist.images.pixels import to_float
from srdist.machine.errors import UserError

Perceptual = Literal["lpips", "dists"]
SMALLEST = 32
"""Side below which the networks' features end, in pixels."""
_WEIGHTS = {"lpips": "AlexNet_Weights", "dists": "VGG16_Weights"}
_STATED = {
    "lpips": "Zhang et al. 2018, AlexNet, version 0.1, of RGB, no border",
    "dists": "Ding et al. 2020, VGG16, of RGB, no border",
}


@dataclass(frozen=True, slots=True)
class PerceptualMeasure:
    """The distance of two images' features, 0 for equal images; NaN for images smaller than SMALLEST."""

    name: Perceptual
    network: Callable[[Tensor, Tensor], Tensor]
    """SR and HR in [0, 1], as [1, 3, h, w], to one number."""

    @property
    def stated(self) -> str:
        """What it is."""
        return _STATED[self.name]

    def beside(
        self, lr: UInt8[Tensor, "n 3 h w"], hr: UInt8[Tensor, "n 3 H W"], /
    ) -> Callable[[UInt8[Tensor, "n 3 H W"]], Float[Tensor, " n"]]:
        """The distance to HR's features; each image by itself, so that it does not depend on its batch."""
        del lr

        def distances(sr: UInt8[Tensor, "n 3 H W"]) -> Float[Tensor, " n"]:
            if min(sr.shape[-2:]) < SMALLEST:
                return torch.full((len(sr),), math.nan, dtype=torch.float64, device=sr.device)
            with torch.inference_mode():
                # Contiguous: another layout in memory is another order of sums.
                pairs = zip(sr.contiguous(), hr.to(sr.device).contiguous(), strict=True)
                found = [
                    self.network(to_float(a[None]), to_float(b[None])).double().reshape(()) for a, b in pairs
                ]
            return torch.stack(found)

        return distances


def load(name: Perceptual, *, device: torch.device) -> PerceptualMeasure:
    """LPIPS (Zhang et al., CVPR 2018) or DISTS (Ding et al., TPAMI 2020).

    Raises:
        UserError: torchmetrics, torchvision or the network's file is not at hand, or the file is damaged.
    """
    try:
        import torchvision.models  # type: ignore[import-untyped]
        from torchmetrics.functional.image.dists import DISTSNetwork
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
    except (
        ImportError,
        RuntimeError,
    ) as error:  # RuntimeError: a torchvision that was built for another torch
        raise UserError(
            f"{name} needs torchmetrics and the torchvision of this torch, pip install 'srdist[perceptual]': {error}"
        ) from error
    weights = getattr(torchvision.models, _WEIGHTS[name]).DEFAULT
    _check_cached(name, str(weights.url))
    network: Any
    if name == "lpips":
        network = LearnedPerceptualImagePatchSimilarity(net_type="alex").net.to(device).eval()
        return PerceptualMeasure(name, lambda sr, hr: network(sr, hr, normalize=True))
    network = DISTSNetwork().to(device).eval()
    return PerceptualMeasure(name, network)


def _check_cached(name: str, url: str) -> None:
    """Where torchvision looks for the file first: with it there, it fetches nothing. Its name says how its sha256 begins."""
    file = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if not file.is_file():
        raise UserError(
            f"{name} needs {file} (or in another TORCH_HOME), which nothing here fetches: it comes from {url}"
        )
    stated = re.search(r"-([0-9a-f]{8,64})\.pth$", file.name)
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if stated is None or not found.startswith(stated[1]):
        raise UserError(f"{name}: {file} is damaged: its sha256 is {found}, expected what its name says")
