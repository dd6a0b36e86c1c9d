"""Several runs as one HTML file: one table, their curves laid over one another, the same samples, what their configs differ in."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from html import escape
from pathlib import Path

from srdist import __version__
from srdist.config import describe
from srdist.machine.clock import clock
from srdist.machine.errors import UserError
from srdist.machine.files import write_named
from srdist.report import charts
from srdist.report import samples as samplesection
from srdist.report.charts import Chart, Series
from srdist.report.document import document, table
from srdist.report.record import RunRecord, number_of, points_of, read_run
from srdist.report.sweeprecord import is_sweep

MOST_RUNS = 8
"""As many as there are colours that are told apart."""
_NONE = "-"


def write_side_by_side(runs: Sequence[Path], out: Path) -> Path:
    """Write the page of these runs, in this order.

    Raises:
        UserError: one is no run's folder, is damaged or is given twice; or there are more than MOST_RUNS.
    """
    if len(runs) > MOST_RUNS:
        raise UserError(
            f"found {len(runs)} runs, expected at most {MOST_RUNS}: their colours could not be told apart"
        )
    for run in runs:
        if is_sweep(run):
            raise UserError(
                f"{run}: is a sweep, expected a run; srdist report {run} alone shows all its trials"
            )
    if len({run.resolve() for run in runs}) < len(runs):
        raise UserError(f"a run is given twice: {', '.join(map(str, runs))}")
    records = [read_run(run) for run in runs]
    names = [record.name for record in records]
    if len(set(names)) < len(names):
        names = [str(run) for run in runs]
    write_named(out, _page(dict(zip(names, records, strict=True))).encode())
    return out


Runs = dict[str, RunRecord]
"""By the names that tell them apart."""


def _page(runs: Runs) -> str:
    body = [
        f"<h1>{len(runs)} runs</h1>",
        *_warning(runs),
        _scores(runs),
        '<h2>Curves</h2><div class="charts">',
        *(charts.figure(chart) for chart in _charts(runs)),
        "</div>",
        *samplesection.side_by_side(
            {name: (record.samples, record.config.model.scale) for name, record in runs.items()}
        ),
        "<h2>Config</h2>",
        _differences(runs),
        f"<p>srdist {__version__}. PSNR-Y and SSIM-Y: luma of 8-bit images, border of `scale` pixels; RMSE: RGB in [0, 1]; "
        "means over the validation images, at each run's best PSNR-Y.</p>",
    ]
    return document(", ".join(runs), body)


def _warning(runs: Runs) -> list[str]:
    """Scores of other images say nothing of each other."""
    validated = {name: _validated_on(record) for name, record in runs.items()}
    if len(set(validated.values())) == 1:
        return []
    said = "; ".join(f"{name}: {what}" for name, what in validated.items())
    return [
        f'<p class="worst">The runs were validated on different images, so their scores are not comparable. {escape(said)}.</p>'
    ]


def _validated_on(record: RunRecord) -> str:
    data, best = record.config.data, record.best or {}
    manifest = next((str(s.opened["manifest_id"]) for s in record.sessions if "manifest_id" in s.opened), "?")
    degradation = json.dumps(data.how_degraded.model_dump(mode="json"))
    return (
        f"set {manifest}, split {data.val_split}, {best.get('images', 0):,} images, "
        f"x{record.config.model.scale}, LR by {degradation}"
    )


def _scores(runs: Runs) -> str:
    heads = [
        "run",
        "PSNR-Y, dB",
        "over bicubic, dB",
        "SSIM-Y",
        "RMSE",
        "best step",
        "steps",
        "parameters",
        "images/s",
        "training",
    ]
    return table(heads, [_row(name, record) for name, record in runs.items()])


def _row(name: str, record: RunRecord) -> list[str]:
    best = record.best or {}
    psnr = number_of(best, "psnr_y_db")
    parameters = record.sessions[0].opened.get("parameters")
    rates = [rate for _, rate in points_of(record.train, "images_per_s")]
    return [
        name,
        _shown(psnr, ".2f"),
        _shown(psnr - number_of(best, "bicubic_psnr_y_db"), "+.2f"),
        _shown(number_of(best, "ssim_y"), ".4f"),
        _shown(number_of(best, "rmse"), ".4f"),
        f"{best['step']:,}" if best else _NONE,
        f"{record.last_step:,} of {record.config.train.steps:,}",
        _NONE if parameters is None else f"{parameters:,}",
        f"{statistics.median(rates):,.0f}" if rates else _NONE,
        _NONE if record.train_seconds is None else clock(record.train_seconds),
    ]


def _shown(value: float, digits: str) -> str:
    return f"{value:{digits}}" if math.isfinite(value) else _NONE


def _charts(runs: Runs) -> list[Chart]:
    last = max(record.last_step for record in runs.values())
    losses = {" + ".join(each.kind for each in record.config.train.all_losses) for record in runs.values()}
    loss = f"Loss ({losses.pop()})" if len(losses) == 1 else "Loss, of other terms in each run"

    def together(title: str, name: str, *, of_training: bool, log: bool = False) -> Chart:
        series = tuple(
            Series(run, points_of(record.train if of_training else record.val, name), f"run{number}")
            for number, (run, record) in enumerate(runs.items())
        )
        return Chart(title, series, last, log)

    return [
        together("PSNR-Y of validation, dB", "psnr_y_db", of_training=False),
        together("SSIM-Y of validation", "ssim_y", of_training=False),
        together(loss, "loss", of_training=True, log=True),
        together("Learning rate", "learning_rate", of_training=True),
        together("Gradient norm", "grad_norm", of_training=True, log=True),
        together("Images a second, all ranks", "images_per_s", of_training=True),
    ]


def _differences(runs: Runs) -> str:
    fields: dict[str, list[str]] = {}
    for number, record in enumerate(runs.values()):
        for name, value, _ in describe(record.config):
            fields.setdefault(name, [_NONE] * len(runs))[number] = value
    different = [[name, *values] for name, values in fields.items() if len(set(values)) > 1]
    if not different:
        return "<p>All fields are equal.</p>"
    equal = f"<p>The other {len(fields) - len(different)} fields are equal.</p>"
    return table(["field", *runs], different, numbers=False) + equal
