"""Which losses: the members of `train.losses`, told apart by `kind`, each with its own fields and its own `build`.

Apart from the losses because a config is read, and a wrong one refused, without torch.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from srdist.settings.section import Section

if TYPE_CHECKING:
    from srdist.losses.loss import Loss


class LossSection(Section):
    """What the section of every loss has."""

    kind: str
    """Which loss: what the other fields mean depends on it. Its values are logged as loss_KIND where there are several."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Factor in the sum that is minimized."""

    @abstractmethod
    def build(self) -> Loss:
        """The loss, without its weight."""


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


LossConfig = Annotated[MSEConfig | L1Config | CharbonnierConfig, Field(discriminator="kind")]
