"""What the sections of all degradations have."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from srdist.settings.section import Section

if TYPE_CHECKING:
    from srdist.degradations.degradation import Degradation


class DegradationSection(Section):
    """One member of the union that `data.degradation` is of."""

    kind: str
    """Which degradation: what the other fields mean depends on it."""

    @property
    def name(self) -> str:
        """What it is called in weights files and messages."""
        return self.kind

    @property
    def details(self) -> str:
        """The section as JSON, where its name does not say all of it, else ""."""
        return self.model_dump_json()

    @abstractmethod
    def build(self, *, scale: int) -> Degradation:
        """The degradation that makes images smaller by `scale`."""
