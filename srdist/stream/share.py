"""Which part of the work is this process's, as two numbers: nothing in this room asks which rank this is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Share:
    """Rank `rank`, from 0, of `world`."""

    rank: int = 0
    world: int = 1
