"""A sweep's sweep.json: which fields were swept, and what became of each trial; for reports and for scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from srdist.machine.errors import UserError
from srdist.machine.plainjson import parse_json
from srdist.settings.section import Section, problems

FILE = "sweep.json"

OBJECTIVES = {"psnr_y_db": "PSNR-Y, dB", "ssim_y": "SSIM-Y", "rmse": "RMSE"}
"""What heads their columns and axes."""
_TEXTS = {"psnr_y_db": "PSNR-Y {:.2f} dB", "ssim_y": "SSIM-Y {:.4f}", "rmse": "RMSE {:.5f}"}


def score_text(objective: str, value: float | None) -> str:
    """A score with its name and unit."""
    return "no score" if value is None else _TEXTS[objective].format(value)


class TrialRecord(Section):
    """One trial: its values, and what became of it."""

    number: Annotated[int, Field(ge=0)]
    """From 0; its run folder beside sweep.json is `trial-` and this in four digits."""
    values: dict[str, Any]
    """Of the swept fields."""
    state: Literal["open", "done", "pruned", "stopped", "failed"] = "open"
    """open: not ended; done: all its steps; pruned: cut short by the search; stopped: by a STOP file; failed: see `reason`."""
    reason: str = ""
    """Why it did not get to its last step."""
    objective: float | None = None
    """Of its best weights, those in best.safetensors; None where no validation has a score."""
    best_step: int | None = None
    """Step of those weights."""
    step: int = 0
    """Optimizer steps done."""
    steps: int = 0
    """Optimizer steps that it was to do."""
    parameters: int | None = None
    """Of its network."""
    train_seconds: float | None = None
    """Spent in its training loop, over all processes that worked on it."""

    @property
    def name(self) -> str:
        """Of its run folder."""
        return f"trial-{self.number:04d}"


class SweepRecord(Section):
    """A sweep as far as it has got."""

    objective: Literal["psnr_y_db", "ssim_y", "rmse"]
    """What is compared."""
    total: Annotated[int, Field(ge=1)]
    """Trials that it is to have."""
    fields: dict[str, Literal["linear", "log", "list"]]
    """The swept fields, and how their axes are drawn."""
    trials: Annotated[tuple[TrialRecord, ...], Field(strict=False)]
    """Those that have begun, by number."""

    @property
    def sign(self) -> int:
        """What the objective is multiplied by, so that more is better."""
        return -1 if self.objective == "rmse" else 1

    @property
    def ranked(self) -> list[TrialRecord]:
        """The trials, the best that is done first, what has no objective last."""

        def key(trial: TrialRecord) -> tuple[bool, bool, float, int]:
            worth = 0.0 if trial.objective is None else self.sign * trial.objective
            return trial.state == "failed", trial.objective is None, -worth, trial.number

        return sorted(self.trials, key=key)

    @property
    def best(self) -> TrialRecord | None:
        """The best of those that did all their steps."""
        done = [trial for trial in self.ranked if trial.state == "done" and trial.objective is not None]
        return done[0] if done else None


def is_sweep(folder: Path) -> bool:
    """Whether this is the folder of a sweep, not that of a run."""
    return (folder / FILE).is_file()


def read_record(folder: Path) -> SweepRecord:
    """Read a sweep's folder.

    Raises:
        UserError: its sweep.json is damaged.
    """
    path = folder / FILE
    try:
        return SweepRecord.model_validate(parse_json(path.read_bytes()))
    except ValidationError as error:
        raise UserError(f"{path}: " + "; ".join(problems(error, SweepRecord))) from error
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}") from error
