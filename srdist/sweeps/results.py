"""What a sweep has found so far: a table for the screen, sweep.json and sweep.csv, and the best config as a file."""

from __future__ import annotations

import csv
import io
from typing import Any

from srdist.config import dump
from srdist.machine.files import write_bytes, write_json
from srdist.report.sweeprecord import FILE, OBJECTIVES, SweepRecord, TrialRecord, score_text
from srdist.sweeps.folder import SweepFolder
from srdist.sweeps.space import Choices, Space, label
from srdist.sweeps.sweepfile import Sweep

_DIGITS = {"psnr_y_db": 2, "ssim_y": 4, "rmse": 5}
_LONGEST = 48
"""Letters of a value in the table on the screen."""


def record_of(sweep: Sweep, folder: SweepFolder) -> SweepRecord:
    """The sweep as its folder tells it."""
    return SweepRecord(
        objective=sweep.section.objective,
        total=sweep.total,
        fields={name: _axis(space) for name, space in sweep.spaces.items()},
        trials=tuple(folder.trials()),
    )


def write_results(sweep: Sweep, folder: SweepFolder) -> None:
    """Write sweep.json, sweep.csv and, where a trial is done, best.yaml. For whoever holds the sweep's lock."""
    record = record_of(sweep, folder)
    write_json(folder.path / FILE, record.model_dump(mode="json"))
    write_bytes(folder.path / "sweep.csv", as_csv(record).encode())
    if (best := record.best) is not None:
        done = sum(trial.state == "done" for trial in record.trials)
        score = score_text(record.objective, best.objective)
        head = f"# {best.name}, the best of {done} trials that are done: {score} at step {best.best_step}.\n"
        write_bytes(folder.path / "best.yaml", (head + dump(sweep.config(best.values))).encode())


def as_csv(record: SweepRecord) -> str:
    """A line for each trial, by number; lists and sections as YAML in one line."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    more = ("best_step", "step", "steps", "parameters", "train_seconds", "reason")
    writer.writerow(["trial", "state", record.objective, *record.fields, *more])
    for trial in record.trials:
        values = [_plain(trial.values[name]) for name in record.fields]
        writer.writerow(
            [trial.number, trial.state, trial.objective, *values, *(getattr(trial, name) for name in more)]
        )
    return out.getvalue()


def as_text(record: SweepRecord) -> str:
    """The table for the screen, the best trial first, and why the failed ones failed below it."""
    heads = ["trial", OBJECTIVES[record.objective], *record.fields, "parameters", "steps", "state"]
    rows = [heads, *(_row(trial, record) for trial in record.ranked)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines += [f"{trial.name} failed: {trial.reason}" for trial in record.trials if trial.state == "failed"]
    return "\n".join(lines)


def _row(trial: TrialRecord, record: SweepRecord) -> list[str]:
    objective = "-" if trial.objective is None else f"{trial.objective:.{_DIGITS[record.objective]}f}"
    values = [_short(trial.values[name]) for name in record.fields]
    parameters = "-" if trial.parameters is None else f"{trial.parameters:,}"
    steps = f"{trial.step} of {trial.steps}" if trial.steps else "-"
    return [f"{trial.number:04d}", objective, *values, parameters, steps, trial.state]


def _axis(space: Space) -> Any:
    if isinstance(space, Choices):
        return "list"
    return "log" if space.log else "linear"


def _plain(value: Any) -> Any:
    return label(value) if isinstance(value, (list, dict)) else value


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else label(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
