"""A run as one HTML file that needs nothing else: curves, samples to compare, scores, sessions, config."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from html import escape
from pathlib import Path

from srdist import __version__
from srdist.config import describe
from srdist.machine.clock import clock
from srdist.machine.files import write_named
from srdist.report import charts
from srdist.report import samples as samplesection
from srdist.report.charts import Chart, Series
from srdist.report.document import card_row, document, table
from srdist.report.record import Row, RunRecord, number_of, points_of, read_run


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the report of a run folder, by default as report.html in it; the same log gives the same file.

    Raises:
        UserError: no run folder, or a damaged one.
    """
    record = read_run(run)
    path = out or run / "report.html"
    write_named(path, page(record).encode())
    return path


def page(record: RunRecord) -> str:
    """The whole HTML text."""
    body = [
        f"<h1>{escape(record.name)}</h1><p>{escape(_status(record))}</p>",
        _cards(record),
        "<h2>Quality</h2>",
        _quality(record),
        '<h2>Curves</h2><div class="charts">',
        *(charts.figure(chart) for chart in _charts(record)),
        "</div>",
        *samplesection.section(record.samples, scale=record.config.model.scale),
        *_signs(record),
        "<h2>Sessions</h2>",
        _sessions(record),
        "<h2>Config</h2>",
        _config(record),
        f"<p>srdist {__version__}. PSNR-Y and SSIM-Y: luma of 8-bit images, border of {record.config.model.scale} pixels; "
        "RMSE: RGB in [0, 1]; means over the validation images. The other measures: docs/quality.md.</p>",
    ]
    return document(record.name, body)


def _status(record: RunRecord) -> str:
    steps, last = record.config.train.steps, record.sessions[-1]
    state = last.end or "the log does not say how it ended: it runs, or was killed"
    return f"Step {record.last_step:,} of {steps:,}; {state}."


def _cards(record: RunRecord) -> str:
    cards = []
    if record.best is not None:
        best, bicubic = number_of(record.best, "psnr_y_db"), number_of(record.best, "bicubic_psnr_y_db")
        cards += [
            (f"{best:.2f} dB", f"best PSNR-Y, at step {record.best['step']:,}"),
            (f"{best - bicubic:+.2f} dB", f"over bicubic ({bicubic:.2f} dB)"),
        ]
    rates = _values(record.train, "images_per_s")
    if rates:
        cards += [
            (f"{statistics.median(rates):,.0f}", "images a second, median"),
            (
                f"{statistics.median(_values(record.train, 'data_wait_share')):.1%}",
                "of the time waiting for data",
            ),
            (f"{max(_values(record.train, 'memory_mb')):,.0f} MB", "memory at most, first rank"),
        ]
    if record.train_seconds is not None:
        cards.append((clock(record.train_seconds), "of training"))
    cards.append((str(len(record.sessions) - 1), "resumptions"))
    if record.refused:
        cards.append((str(len(record.refused)), "steps left out, not finite"))
    bad = max([0.0, *_values(record.train, "bad_samples")])
    if bad:
        cards.append((f"{bad:.0f}", "damaged samples left out"))
    return card_row(cards)


def _quality(record: RunRecord) -> str:
    if record.best is None:
        return "<p>No validation yet.</p>" if not record.val else "<p>No validation has a PSNR-Y.</p>"
    rows = [("bicubic", record.best, "bicubic_")]
    rows.append((f"srdist, best (step {record.best['step']:,})", record.best, ""))
    if record.val[-1]["step"] != record.best["step"]:
        rows.append((f"srdist, last (step {record.val[-1]['step']:,})", record.val[-1], ""))
    shown = [*_SCORES, *(score for score in _MORE if score[0] in record.best)]
    cells = [
        (name, *(f"{number_of(row, prefix + key):.{digits}f}" for key, digits, _ in shown))
        for name, row, prefix in rows
    ]
    hr = number_of(record.best, "sharpness_hr")
    return table(["", *(head for _, _, head in shown)], cells) + (
        f"<p>{record.best.get('images', 0):,} images of {escape(record.config.data.shards)}, "
        f"split {escape(record.config.data.val_split)}"
        + (f"; the sharpness of HR is {hr:.4f}" if math.isfinite(hr) else "")
        + ".</p>"
    )


def _signs(record: RunRecord) -> list[str]:
    """What was noticed of the balance between network and critic; nothing where nothing was."""
    rows = [(f"{row['step']:,}", str(row.get("says", ""))) for row in record.signs]
    return ["<h2>Noticed</h2>", table(["step", ""], rows, numbers=False)] if rows else []


_SCORES = (("psnr_y_db", 2, "PSNR-Y, dB"), ("ssim_y", 4, "SSIM-Y"), ("rmse", 4, "RMSE"))
_MORE = (
    ("sharpness", 4, "Sharpness"),
    ("spectrum_db", 2, "Distance of spectra, dB"),
    ("consistency_db", 2, "Consistency with LR, dB"),
)
"""Which logs of earlier versions have not."""


def _charts(record: RunRecord) -> list[Chart]:
    marks = tuple(
        (float(session.first_step), f"resumed at step {session.first_step:,}")
        for session in record.sessions[1:]
    )

    def beside_bicubic(title: str, name: str) -> Chart:
        network = Series("srdist", points_of(record.val, name), "network")
        bicubic = Series("bicubic", points_of(record.val, f"bicubic_{name}"), "bicubic")
        return Chart(title, (network, bicubic), record.last_step, marks=marks)

    def alone(title: str, name: str, *, log: bool = False) -> Chart:
        return Chart(
            title, (Series(title, points_of(record.train, name), "plain"),), record.last_step, log, marks
        )

    return [
        beside_bicubic("PSNR-Y of validation, dB", "psnr_y_db"),
        beside_bicubic("SSIM-Y of validation", "ssim_y"),
        *(
            beside_bicubic(
                f"{head.removesuffix(', dB')} of validation" + (", dB" if "dB" in head else ""), name
            )
            for name, _, head in _MORE
            if record.best is not None and name in record.best
        ),
        alone(f"Loss ({' + '.join(each.kind for each in record.config.train.all_losses)})", "loss", log=True),
        *(alone(_of_loss(name, record), name, log=True) for name in record.more_losses),
        alone("Learning rate", "learning_rate"),
        alone("Gradient norm", "grad_norm", log=True),
        *(alone(name.replace("_", " ").capitalize(), name, log=True) for name in record.more_norms),
        *(alone(_CONTEST.get(name, name), name) for name in record.contest),
        alone("Images a second, all ranks", "images_per_s"),
        alone("Share of time waiting for data", "data_wait_share"),
        alone("Memory of the first rank, MB", "memory_mb"),
    ]


_CONTEST = {
    "critic_right_hr": "Share of HR that the critic takes for real",
    "critic_right_sr": "Share of SR that the critic does not take for real",
    "critic_r1": "Squared slope of the judgement of HR (R1)",
    **{f"drift_{name}": f"SR brighter than HR in {name}, levels" for name in ("red", "green", "blue")},
}


def _of_loss(name: str, record: RunRecord) -> str:
    """`loss_ssim` is "Loss ssim, of weight 0.1"."""
    weights = {f"loss_{term.kind}": term.weight for term in record.config.train.all_losses}
    title = name.replace("_", " ").capitalize()
    return f"{title}, of weight {weights[name]:g}" if name in weights else title


def _sessions(record: RunRecord) -> str:
    cells = []
    for session in record.sessions:
        row = session.opened
        changed = ", ".join(f"{name}: {old} to {new}" for name, (old, new) in row.get("changed", {}).items())
        cells.append(
            (
                f"{session.first_step:,} to {session.last_step:,}",
                row["kind"],
                f"{row.get('world')} x {row.get('device_name') or row.get('device')}",
                f"{row.get('rank_batch')} x {row.get('accumulation')}",
                ", ".join(
                    f"{name} {row[name]}"
                    for name in ("srdist", "torch", "accelerate", "python")
                    if name in row
                ),
                str(row.get("system", "")),
                changed or "-",
                session.end or "not noted",
            )
        )
    heads = ["steps", "", "ranks", "batch x accumulation", "versions", "system", "changed", "end"]
    first = record.sessions[0].opened
    facts = [f"{first[name]:,} {label}" for name, label in _FACTS if name in first]
    facts += [f"manifest {first['manifest_id']}"] if "manifest_id" in first else []
    return table(heads, cells, numbers=False) + f"<p>{escape(', '.join(facts))}</p>"


_FACTS = (("parameters", "parameters"), ("train_samples", "training images"))


def _config(record: RunRecord) -> str:
    cells = list(describe(record.config))
    fields = table(["field", "value", "meaning"], cells, numbers=False)
    return f"<details open><summary>{len(cells)} fields</summary>{fields}</details>"


def _values(rows: Iterable[Row], name: str) -> list[float]:
    return [value for _, value in points_of(rows, name)]
