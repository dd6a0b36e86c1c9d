"""The network against a critic: the sections of `train.losses` that have something to train, or look at what is trained."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from srdist.losses.section import LossTerm
from srdist.settings.section import Section

if TYPE_CHECKING:
    from srdist.losses.critics import Critic


class CriticSection(Section):
    """What the section of every critic has."""

    family: str
    """Which critic."""
    width: Annotated[int, Field(ge=1, le=1024)] = 64
    """Channels of its first layer."""
    spectral_norm: bool = True
    """Convolutions are divided by their largest singular value (Miyato et al., ICLR 2018); not the U-Net's first and last, as published."""

    @property
    @abstractmethod
    def smallest_patch(self) -> int:
        """Least side of the images that it judges, in pixels."""

    @abstractmethod
    def build(self, *, seed: int) -> Critic:
        """The critic, its initial weights made of `seed` alone."""


class UNetCriticConfig(CriticSection):
    """Real-ESRGAN's: a logit for each pixel."""

    family: Literal["unet"] = "unet"
    """Real-ESRGAN's U-Net (Wang et al., ICCVW 2021): judges each pixel, and what surrounds it."""

    @property
    def smallest_patch(self) -> int:
        """Least side of the images that it judges, in pixels."""
        return 8

    def build(self, *, seed: int) -> Critic:
        """The critic, its initial weights made of `seed` alone."""
        from srdist.losses.critics import UNetCritic, seeded

        return seeded(lambda normed: UNetCritic(self.width, normed), seed=seed, normed=self.spectral_norm)


class PatchCriticConfig(CriticSection):
    """pix2pix's: a logit for each patch."""

    family: Literal["patch"] = "patch"
    """pix2pix's patch critic (Isola et al., CVPR 2017): judges overlapping patches, of 70x70 pixels with three layers."""
    layers: Annotated[int, Field(ge=1, le=6)] = 3
    """Layers that halve the image."""

    @property
    def smallest_patch(self) -> int:
        """Least side of the images that it judges, in pixels."""
        return int(3 * 2**self.layers)

    def build(self, *, seed: int) -> Critic:
        """The critic, its initial weights made of `seed` alone."""
        from srdist.losses.critics import PatchCritic, seeded

        return seeded(
            lambda normed: PatchCritic(self.width, self.layers, normed), seed=seed, normed=self.spectral_norm
        )


class AdversarialConfig(LossTerm):
    """How real SR looks to a critic that is trained beside the network to tell SR from HR."""

    kind: Literal["adversarial"] = "adversarial"
    """How real SR looks to a critic that is trained beside the network."""
    critic: Annotated[UNetCriticConfig | PatchCriticConfig, Field(discriminator="family")] = (
        UNetCriticConfig()
    )
    """Which critic."""
    form: Literal["vanilla", "hinge", "relativistic"] = "vanilla"
    """vanilla (Real-ESRGAN's), hinge, or relativistic: each against the mean of the others (ESRGAN's)."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """The critic's peak learning rate; it follows the curve of train.learning_rate. Its Adam has the betas 0.9 and 0.99."""
    start_step: Annotated[int, Field(ge=0)] = 0
    """Step from which the critic is trained and its loss counts; before it the other losses are alone."""
    critic_steps: Annotated[int, Field(ge=1)] = 1
    """Steps of the critic for each step of the network, from start_step on: the network learns in every so many-th step alone."""
    r1_weight: Annotated[float, Field(ge=0)] = 0.0
    """Half of it times the squared gradient of the judgement of HR is added to the critic's loss (Mescheder et al., ICML 2018); 0 = off."""

    @property
    def smallest_patch(self) -> int:
        """Least side of the HR images that it can be computed on, in pixels."""
        return self.critic.smallest_patch


class FeatureMatchingConfig(LossTerm):
    """How far SR is from HR in the layers of the critic: a perceptual loss that needs no file."""

    kind: Literal["feature_matching"] = "feature_matching"
    """Mean absolute distance of SR and HR in the layers of the adversarial loss's critic (pix2pixHD, CVPR 2018)."""
