"""Which losses: the members of `train.losses`, told apart by `kind`, each with its own fields and its own `build`.

Apart from the losses because a config is read, and a wrong one refused, without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from srdist.losses.contest import AdversarialConfig, FeatureMatchingConfig
from srdist.losses.section import LossSection, LossTerm
from srdist.machine.errors import UserError

if TYPE_CHECKING:
    from srdist.losses.loss import AverageLoss, Loss
    from srdist.losses.perceptual import Perceptual


class MSEConfig(LossSection):
    """Mean squared error (the SRCNN paper's)."""

    kind: Literal["mse"] = "mse"
    """Mean squared error."""

    def build(self) -> Loss:
        """The loss, without its weight."""
        from srdist.losses.pixel import mse

        return mse


class L1Config(LossSection):
    """Mean absolute error."""

    kind: Literal["l1"] = "l1"
    """Mean absolute error."""

    def build(self) -> Loss:
        """The loss, without its weight."""
        from srdist.losses.pixel import l1

        return l1


class CharbonnierConfig(LossSection):
    """Nearly the absolute error, smooth at nought: sqrt(error^2 + 1e-6)."""

    kind: Literal["charbonnier"] = "charbonnier"
    """sqrt(error^2 + 1e-6)."""

    def build(self) -> Loss:
        """The loss, without its weight."""
        from srdist.losses.pixel import charbonnier

        return charbonnier


class FrequencyConfig(LossSection):
    """Of the spectra: the difference at each frequency, whatever the place."""

    kind: Literal["frequency"] = "frequency"
    """Distance of the Fourier transforms of each channel."""
    form: Literal["focal", "l1"] = "focal"
    """focal: squared distances, the largest ones most (Jiang et al., ICCV 2021); l1: mean of the absolute real and imaginary parts of the distance (Cho et al., ICCV 2021)."""
    alpha: Annotated[float, Field(ge=0, le=8)] = 1.0
    """Of focal: power of a frequency's distance that is its weight; 0 = all alike."""

    def build(self) -> Loss:
        """The loss, without its weight."""
        from srdist.losses.frequency import FocalFrequency, fft_l1

        return FocalFrequency(self.alpha) if self.form == "focal" else fft_l1


class GradientConfig(LossSection):
    """Of the edges: the mean absolute error of the slopes across and down."""

    kind: Literal["gradient"] = "gradient"
    """Mean absolute error of Sobel's slopes, in levels a pixel."""

    @property
    def smallest_patch(self) -> int:
        """Least side of the HR images that it can be computed on, in pixels."""
        return 3

    def build(self) -> Loss:
        """The loss, without its weight."""
        from srdist.losses.gradient import sobel

        return sobel


class SSIMConfig(LossSection):
    """1 - SSIM of RGB, or 1 - MS-SSIM."""

    kind: Literal["ssim"] = "ssim"
    """1 - SSIM of RGB (window of 11x11, sigma 1.5), from 0 for equal images."""
    scales: Annotated[int, Field(ge=1, le=5)] = 1
    """1: SSIM; more: MS-SSIM (Wang et al. 2003) over so many scales, each half the one before; patches of 11 x 2^(scales - 1) pixels at least."""

    @property
    def smallest_patch(self) -> int:
        """Least side of the HR images that it can be computed on, in pixels."""
        return int(11 * 2 ** (self.scales - 1))

    def build(self) -> Loss:
        """The loss, without its weight."""
        from srdist.losses.similarity import Dissimilarity

        return Dissimilarity(self.scales)


class LDLConfig(LossTerm):
    """Mean absolute error where SR looks like an artifact, and the running average's SR is better."""

    kind: Literal["ldl"] = "ldl"
    """Absolute error, weighted by how much the errors around a pixel vary; needs train.ema_decay (Liang et al., CVPR 2022)."""

    @property
    def smallest_patch(self) -> int:
        """Least side of the HR images that it can be computed on, in pixels."""
        return 4

    def build(self) -> AverageLoss:
        """The loss, without its weight."""
        from srdist.losses.artifacts import ldl

        return ldl


Layer = Literal[
    "conv1_1",
    "conv1_2",
    "conv2_1",
    "conv2_2",
    "conv3_1",
    "conv3_2",
    "conv3_3",
    "conv3_4",
    "conv4_1",
    "conv4_2",
    "conv4_3",
    "conv4_4",
    "conv5_1",
    "conv5_2",
    "conv5_3",
    "conv5_4",
]


_REAL_ESRGAN: dict[Layer, float] = {
    "conv1_2": 0.1,
    "conv2_2": 0.1,
    "conv3_4": 1.0,
    "conv4_4": 1.0,
    "conv5_4": 1.0,
}


class PerceptualConfig(LossSection):
    """How far SR is from HR in the layers of VGG19."""

    kind: Literal["perceptual"] = "perceptual"
    """Mean absolute distance of SR and HR in layers of VGG19, before ReLU (ESRGAN's)."""
    weights: Annotated[str, Field(min_length=1)]
    """Weights file: torchvision's state dict of vgg19, as .pth or .safetensors. It is never downloaded."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{8,64}$")] | None = None
    """Of the file, in hexadecimal, or its first 8 digits or more; null = any, and the run prints what it has read."""
    layers: Annotated[dict[Layer, Annotated[float, Field(gt=0)]], Field(min_length=1)] = Field(
        default_factory=lambda: dict(_REAL_ESRGAN)
    )
    """Weight of each layer; the default is Real-ESRGAN's, {conv5_4: 1.0} ESRGAN's."""

    @property
    def smallest_patch(self) -> int:
        """Least side of the HR images that it can be computed on, in pixels."""
        return int(2 ** (max(int(name[4]) for name in self.layers) - 1))

    def build(self) -> Perceptual:
        """The loss, without its weight.

        Raises:
            UserError: there is no such file, or another one.
        """
        from srdist.losses.perceptual import Perceptual, read_checked

        path = Path(self.weights)
        tensors, sha256 = read_checked(path, self.sha256)
        layers = {str(name): weight for name, weight in self.layers.items()}
        loss = Perceptual(tensors, layers, source=self.weights)
        loss.note = (
            None if self.sha256 else f"perceptual: {path} has the sha256 {sha256}: say so in the config"
        )
        return loss


LossConfig = Annotated[
    MSEConfig
    | L1Config
    | CharbonnierConfig
    | FrequencyConfig
    | GradientConfig
    | SSIMConfig
    | LDLConfig
    | PerceptualConfig
    | AdversarialConfig
    | FeatureMatchingConfig,
    Field(discriminator="kind"),
]


def check_size(losses: Sequence[LossTerm], height: int, width: int) -> None:
    """Refuse HR images on which one of the losses cannot be computed.

    Raises:
        UserError: it names the loss.
    """
    for term in losses:
        if min(height, width) < term.smallest_patch:
            raise UserError(
                f"train.losses: {term.kind} needs HR patches of at least {term.smallest_patch}x{term.smallest_patch} "
                f"pixels, found {height}x{width} (data.hr_patch, or images as they are where that is null)"
            )
