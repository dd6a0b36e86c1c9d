"""How far SR is from HR in the layers of VGG19 (Simonyan and Zisserman, ICLR 2015), trained for recognition on ImageNet.

Johnson et al., ECCV 2016; the features are those before ReLU, as in ESRGAN (Wang et al., ECCVW 2018). The weights are a
file that the user names: torchvision's state dict of vgg19, or one of its names with other widths.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from srdist.machine.errors import UserError
from srdist.machine.statedict import read_state_dict

_BLOCKS = (2, 2, 4, 4, 4)
"""Convolutions of each block; between two blocks the image is halved."""
_NAMES = tuple(
    f"conv{block}_{i}" for block, count in enumerate(_BLOCKS, start=1) for i in range(1, count + 1)
)
# A convolution and its ReLU are two places in torchvision's list, the halving after a block is one more.
_PLACES = {name: 2 * i + int(name[4]) - 1 for i, name in enumerate(_NAMES)}
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's RGB in [0, 1], as torchvision's weights were trained."""
HOW_TO_GET = (
    "srdist downloads none: take torchvision's (curl -LO https://download.pytorch.org/models/vgg19-dcbb9e9d.pth, 548 MB, "
    "sha256 dcbb9e9d...) and name the file"
)


class Perceptual(nn.Module):
    """The weighted sum over layers of the mean absolute distance of SR's and HR's features.

    Args:
        tensors: of the file.
        layers: weight of each, by names such as conv5_4.
        source: stands in errors.

    Raises:
        UserError: a tensor is missing, misshapen or not finite.
    """

    mean: Tensor
    deviation: Tensor
    note: str | None = None
    """What the user should know of the file, in a line."""

    def __init__(self, tensors: Mapping[str, Tensor], layers: Mapping[str, float], *, source: str) -> None:
        super().__init__()
        self.weights = dict(layers)
        last = max(_NAMES.index(name) for name in layers)
        self.convolutions = nn.ModuleDict()
        channels = 3
        for name in _NAMES[: last + 1]:
            convolution = _convolution(tensors, _PLACES[name], channels=channels, source=source)
            self.convolutions[name] = convolution
            channels = convolution.out_channels
        self.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(1, 3, 1, 1))

    def forward(self, sr: Float[Tensor, "n 3 h w"], hr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        """Of each image, in float32."""
        with torch.autocast(sr.device.type, enabled=False):
            with torch.no_grad():
                of_hr = self.features(hr.float())
            of_sr = self.features(sr.float())
            distances = [
                weight * (of_sr[name] - of_hr[name]).abs().flatten(1).mean(1)
                for name, weight in self.weights.items()
            ]
            return torch.stack(distances).sum(0)

    def features(self, images: Float[Tensor, "n 3 h w"]) -> dict[str, Tensor]:
        """What the layers make of RGB in [0, 1], by name, before ReLU."""
        found: dict[str, Tensor] = {}
        x = (images - self.mean) / self.deviation
        for name, convolution in self.convolutions.items():
            if found and name.endswith("_1"):
                x = F.max_pool2d(x, 2)
            found[name] = convolution(x)
            x = F.relu(found[name])
        return found


def read_checked(path: Path, sha256: str | None) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file, and its hash.

    Args:
        sha256: the hash that is expected, or its beginning; None: any.

    Raises:
        UserError: there is no such file, it is another one, or no state dict.
    """
    if not path.is_file():
        state = "is no file" if path.exists() else "no such file"
        raise UserError(f"train.losses: perceptual: {path}: {state}; {HOW_TO_GET}")
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"train.losses: perceptual: {path}: {error.strerror}") from error
    if sha256 is not None and not found.startswith(sha256):
        raise UserError(f"train.losses: perceptual: {path}: its sha256 is {found}, expected {sha256}")
    return read_state_dict(path), found


def _convolution(tensors: Mapping[str, Tensor], place: int, *, channels: int, source: str) -> nn.Conv2d:
    names = [f"features.{place}.{part}" for part in ("weight", "bias")]
    for name in names:
        if name not in tensors:
            raise UserError(
                f"{source}: tensor {name} is missing, expected the state dict of torchvision's vgg19"
            )
        if not tensors[name].isfinite().all():
            raise UserError(f"{source}: tensor {name} holds NaN or infinity: the file is damaged")
    weight, bias = (tensors[name] for name in names)
    expected = (len(weight) if weight.dim() else 0, channels, 3, 3)
    if weight.shape != expected or bias.shape != expected[:1] or 0 in expected:
        raise UserError(
            f"{source}: tensors {names[0]} and {names[1]} are of {tuple(weight.shape)} and {tuple(bias.shape)}, expected "
            f"(n, {channels}, 3, 3) and (n,), as in the state dict of torchvision's vgg19"
        )
    with torch.device("meta"):
        convolution = nn.Conv2d(channels, len(weight), 3, padding=1)
    convolution.load_state_dict({"weight": weight, "bias": bias}, assign=True)
    return convolution
