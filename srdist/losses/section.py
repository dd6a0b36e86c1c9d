"""What the section of every member of `train.losses` has."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from srdist.settings.section import Section

if TYPE_CHECKING:
    from srdist.losses.loss import Loss


class LossTerm(Section):
    """What the section of every loss has."""

    kind: str
    """Which loss: what the other fields mean depends on it. Its values are logged as loss_KIND where there are several."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Factor in the sum that is minimized."""

    @property
    def smallest_patch(self) -> int:
        """Least side of the HR images that it can be computed on, in pixels."""
        return 1


class LossSection(LossTerm):
    """A loss that SR and HR decide."""

    @abstractmethod
    def build(self) -> Loss:
        """The loss, without its weight."""
