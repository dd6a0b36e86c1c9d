"""The picture of `benchmarks.pareto`: PSNR-Y on Set5 against multiply-adds, and against processor time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

from benchmarks.pareto import Row, best_ms

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

OURS, THEIRS, PLAIN = "#c0392b", "#34495e", "#7f8c8d"


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the rows of one scale as PNG."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.6), sharey=True, constrained_layout=True)
    scale = rows[0].scale
    networks = [row for row in rows if row.parameters]
    bicubic = next(row for row in rows if not row.parameters)
    _scatter(left, networks, lambda row: row.giga_multiply_adds)
    _scatter(right, networks, best_ms)
    left.set_xlabel("multiply-adds for 1280x720, in 10⁹")
    right.set_xlabel("ms of one CPU core a megapixel (bf16 where faster)")
    left.set_ylabel("Set5 PSNR-Y, dB")
    lowest = min(row.set5_db for row in networks)
    left.set_ylim(lowest - 0.35, max(row.set5_db for row in networks) + 0.3)
    left.annotate(
        f"bicubic: {bicubic.set5_db:.2f} dB, {best_ms(bicubic):.0f} ms",
        (0.98, 0.03),
        xycoords="axes fraction",
        ha="right",
        color=PLAIN,
        fontsize=9,
    )
    figure.suptitle(f"x{scale}: bundled weights (red) and published networks (blue)", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    pyplot.close(figure)


def _scatter(axes: Axes, rows: Sequence[Row], place: Callable[[Row], float]) -> None:
    axes.set_xscale("log")
    axes.grid(visible=True, which="major", color="#e5e5e5")
    axes.set_axisbelow(True)
    axes.margins(x=0.2)
    for row in rows:
        colour = THEIRS if row.published else OURS
        axes.scatter(place(row), row.set5_db, color=colour, marker="s" if row.published else "o", s=42)
        axes.annotate(
            row.family,
            (place(row), row.set5_db),
            xytext=(6, 5),
            textcoords="offset points",
            color=colour,
            fontsize=9,
        )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
