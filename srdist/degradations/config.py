"""Which degradation: the section that `data.degradation` holds, told apart by `kind`, each with its own fields and its own `build`.

Apart from the degradations because a config is read, and a wrong one refused, without torch.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Literal

from pydantic import TypeAdapter

from srdist.images.kernels import Kernel
from srdist.settings.section import Section

if TYPE_CHECKING:
    from srdist.degradations.degradation import Degradation


class DegradationSection(Section):
    """What the section of every degradation has."""

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


class KernelConfig(DegradationSection):
    """Resampled by one kernel, nothing else; `data.kernel` is its short form."""

    kind: Literal["kernel"] = "kernel"
    """Resampled by one kernel, nothing else."""
    kernel: Kernel = "bicubic"
    """Kernel that makes LR from HR; all but nearest are antialiased, as Pillow's are."""

    @property
    def name(self) -> str:
        """The kernel's."""
        return self.kernel

    @property
    def details(self) -> str:
        """Nothing: the name says all."""
        return ""

    def build(self, *, scale: int) -> Degradation:
        """The degradation that makes images smaller by `scale`."""
        from srdist.degradations.kernel import KernelDegradation

        return KernelDegradation(scale, self.kernel)


DegradationConfig = KernelConfig
DEGRADATION: TypeAdapter[DegradationConfig] = TypeAdapter(DegradationConfig)
"""Reads what a weights file says of its degradation."""
