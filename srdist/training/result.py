"""How a training ended, as its caller learns of it."""

from __future__ import annotations

from dataclasses import dataclass

from srdist.quality.scores import Scores


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a training ended."""

    step: int
    """Optimizer steps done."""
    stopped: str | None
    """Who or what asked for a stop; None where the last step was reached."""
    scores: Scores | None
    """Of the last validation of this call; None where there was none."""
    best_psnr_y_db: float | None
    """Of the whole run, and the step that it was reached at."""
    best_step: int | None
