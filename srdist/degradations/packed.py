"""LR that is not made: each sample of a packed set has its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class PackedLR:
    """Stands where a degradation would: LR is read, and cut and turned as its HR is."""

    scale: int
    """Factor between LR and HR, in each direction."""
    margin: ClassVar[int] = 0
    """HR pixels around a patch that its LR depends on: none."""
