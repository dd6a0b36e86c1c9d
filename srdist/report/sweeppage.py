"""A sweep as one HTML file that needs nothing else: what mattered, the curves of all trials, and what became of each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from srdist import __version__
from srdist.machine.clock import clock
from srdist.machine.errors import UserError
from srdist.machine.files import write_named
from srdist.report import sweepcharts
from srdist.report.charts import number
from srdist.report.document import card_row, document, table
from srdist.report.record import Row, RunRecord, number_of, read_run
from srdist.report.sweepcharts import Curve, Mark, Scale
from srdist.report.sweeprecord import OBJECTIVES, SweepRecord, TrialRecord, read_record, score_text

_MOST_CURVES = 60
"""Trials whose curves are drawn, the best."""


def write_sweep_report(folder: Path, out: Path | None = None) -> Path:
    """Write the report of a sweep's folder, by default as report.html in it.

    Raises:
        UserError: its sweep.json is damaged.
    """
    path = out or folder / "report.html"
    write_named(path, _page(folder, read_record(folder)).encode())
    return path


def _page(folder: Path, record: SweepRecord) -> str:
    name, objective = folder.resolve().name, OBJECTIVES[record.objective]
    marks = _marks(record)
    body = [f"<h1>{escape(name)}</h1><p>{escape(_status(record))}</p>", _cards(record)]
    if marks:
        scales = [
            Scale.of(field, kind, [mark.values[field] for mark in marks])
            for field, kind in record.fields.items()
        ]
        body += ["<h2>What mattered</h2>", _LEGEND, sweepcharts.parallel(scales, marks, objective=objective)]
        body += [
            '<div class="charts">',
            *(sweepcharts.scatter(scale, marks, objective=objective) for scale in scales),
        ]
        body += ["</div>", "<h2>Curves</h2>", *_curves(folder, record, marks)]
    body += ["<h2>Trials</h2>", _table(record)]
    body.append(
        f"<p>srdist {__version__}. Scores: of the weights that each trial keeps as best.safetensors, on the validation "
        f"split. srdist report {escape(str(folder))}/trial-NNNN shows one trial with its samples.</p>"
    )
    return document(name, body)


_LEGEND = (
    '<p><span class="worst">the worst</span> to <span class="best">the best</span> by colour; dashed and hollow: did not do '
    "all its steps. Point at a line, a dot or a row to find the trial everywhere.</p>"
)


def _status(record: SweepRecord) -> str:
    counts = {state: sum(trial.state == state for trial in record.trials) for state in _STATES}
    by_state = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return f"{record.total} trials: {by_state or 'none has begun'}" + (
        f", {missing} not begun." if (missing := record.total - len(record.trials)) else "."
    )


_STATES = ("done", "pruned", "stopped", "failed", "open")


def _cards(record: SweepRecord) -> str:
    cards = []
    if (best := record.best) is not None:
        name, _, score = score_text(record.objective, best.objective).partition(" ")
        cards.append((score, f"best {name}, {best.name} at step {best.best_step:,}"))
        cards += [(_shown(best.values[name]), name) for name in record.fields]
    seconds = [trial.train_seconds for trial in record.trials if trial.train_seconds is not None]
    if seconds:
        cards.append((clock(sum(seconds)), "of training, all trials"))
    return card_row(cards)


def _marks(record: SweepRecord) -> list[Mark]:
    """The trials that have a score, the worst first: the best are drawn over them."""
    scored = [trial for trial in record.ranked if trial.objective is not None][::-1]
    scored.sort(key=lambda trial: record.sign * (trial.objective or 0.0))
    last = max(len(scored) - 1, 1)
    return [
        Mark(trial.name, trial.values, trial.objective, i / last, whole=trial.state == "done")
        for i, trial in enumerate(scored)
        if trial.objective is not None
    ]


def _curves(folder: Path, record: SweepRecord, marks: Sequence[Mark]) -> list[str]:
    shown = marks[-_MOST_CURVES:]
    runs = [(mark, run) for mark in shown if (run := _run(folder / mark.name)) is not None]
    title = f"{OBJECTIVES[record.objective]} of validation"
    figures = [
        sweepcharts.curves(title, [(mark, _points(run.val, record.objective)) for mark, run in runs]),
        sweepcharts.curves("Loss", [(mark, _points(run.train, "loss")) for mark, run in runs], log=True),
    ]
    left_out = f"<p>Of the {_MOST_CURVES} best trials.</p>" if len(marks) > len(shown) else ""
    return [left_out, '<div class="charts">', *figures, "</div>"]


def _run(folder: Path) -> RunRecord | None:
    try:
        return read_run(folder)
    except UserError:  # removed since, to have its room: its score stays
        return None


def _points(rows: Iterable[Row], name: str) -> Curve:
    pairs = ((float(row["step"]), number_of(row, name)) for row in rows)
    return tuple((step, value) for step, value in pairs if math.isfinite(value) and abs(value) < 1e300)


def _table(record: SweepRecord) -> str:
    heads = [
        "trial",
        OBJECTIVES[record.objective],
        *record.fields,
        "parameters",
        "steps",
        "training",
        "state",
        "reason",
    ]
    ranked = record.ranked
    return table(heads, [_row(trial, record) for trial in ranked], marks=[trial.name for trial in ranked])


def _row(trial: TrialRecord, record: SweepRecord) -> list[str]:
    score = score_text(record.objective, trial.objective).split()
    return [
        trial.name,
        "-" if trial.objective is None else score[1],
        *(_shown(trial.values[name]) for name in record.fields),
        "-" if trial.parameters is None else f"{trial.parameters:,}",
        f"{trial.step:,} of {trial.steps:,}" if trial.steps else "-",
        "-" if trial.train_seconds is None else clock(trial.train_seconds),
        trial.state,
        trial.reason,
    ]


def _shown(value: object) -> str:
    return number(value) if isinstance(value, float) else str(value)
