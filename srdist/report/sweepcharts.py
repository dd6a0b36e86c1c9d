"""The trials of a sweep as inline SVG: their values beside their scores, and their curves laid over one another.

Each mark carries its trial's name (`data-trial`), by which the page's script lights up all that belongs to one; the
colour says how good a trial is among those of the sweep, `--worth` from 0 to 1.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from typing import Any

from srdist.report import charts
from srdist.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis

_WIDE, _TALL = 1120, 330
_HEAD, _FOOT = 34, 14
_LONGEST = 18
"""Letters of a tick's label."""
_MOST_POINTS = 300
"""Points of one curve among many."""

Curve = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """A trial, as it is drawn."""

    name: str
    values: dict[str, Any]
    score: float
    worth: float
    """0 the worst, 1 the best."""
    whole: bool
    """Whether it did all its steps; else its lines are dashed and its dots hollow."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How a swept field is drawn: a list's values one after the other, a range as an axis."""

    name: str
    kind: str
    """list, linear or log."""
    values: tuple[Any, ...]
    """Those that occur, in their order."""

    @classmethod
    def of(cls, name: str, kind: str, values: Sequence[Any]) -> Scale:
        """The scale of a field whose trials have these values."""
        different = list({json.dumps(value): value for value in values}.values())
        with suppress(TypeError):  # sections, and what else has no order, stay as they came
            different.sort()
        return cls(name, kind, tuple(different))

    def axis(self, start: float, end: float) -> Axis:
        """The axis from `start` to `end`."""
        if self.kind == "list":
            return Axis.listed([_short(value) for value in self.values], start=start, end=end)
        log = self.kind == "log" and min(self.values) > 0
        return Axis.around(self.values, log=log, start=start, end=end)

    def place(self, value: Any, axis: Axis) -> float:
        """Where a value lies on it."""
        return axis.at(self.values.index(value) if self.kind == "list" else value)


def parallel(scales: Sequence[Scale], marks: Sequence[Mark], *, objective: str) -> str:
    """A line for each trial through its values, to its score."""
    bottom = _TALL - _FOOT
    axes = [scale.axis(bottom, _HEAD) for scale in scales]
    score_axis = Axis.around([mark.score for mark in marks], log=False, start=bottom, end=_HEAD)
    columns = [LEFT + 40 + i * (_WIDE - LEFT - 150) / len(scales) for i in range(len(scales) + 1)]
    parts = []
    for x, name in zip(columns, [*(scale.name for scale in scales), objective], strict=True):
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{_HEAD}" y2="{bottom}"/>')
        parts.append(f'<text class="head" x="{x:.1f}" y="14" text-anchor="middle">{escape(name)}</text>')
    for mark in marks:
        heights = [
            scale.place(mark.values[scale.name], axis) for scale, axis in zip(scales, axes, strict=True)
        ]
        heights.append(score_axis.at(mark.score))
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(columns, heights, strict=True))
        parts.append(f'<polyline {_drawn(mark)} points="{path}">{_title(mark)}</polyline>')
    # Above the lines, since they cross there.
    for x, axis in zip(columns, [*axes, score_axis], strict=True):
        for y, text in axis.marks:
            parts.append(
                f'<text class="tick over" x="{x - 7:.1f}" y="{y:.1f}" dy="0.35em" text-anchor="end">{escape(text)}</text>'
            )
    return _figure(
        "Every trial, from its values to its score", parts, width=_WIDE, height=_TALL, style="chart whole"
    )


def scatter(scale: Scale, marks: Sequence[Mark], *, objective: str) -> str:
    """The scores over the values of one field."""
    horizontal = scale.axis(LEFT, WIDTH - RIGHT)
    vertical = Axis.around([mark.score for mark in marks], log=False, start=HEIGHT - BOTTOM, end=TOP)
    parts = charts.grid(horizontal, vertical, label="" if scale.kind == "list" else scale.name)
    for mark in marks:
        x, y = scale.place(mark.values[scale.name], horizontal), vertical.at(mark.score)
        parts.append(f'<circle {_drawn(mark)} cx="{x:.1f}" cy="{y:.1f}" r="5">{_title(mark)}</circle>')
    return _figure(f"{objective} over {scale.name}", parts)


def curves(title: str, lines: Sequence[tuple[Mark, Curve]], *, log: bool = False) -> str:
    """Curves over steps, a trial's each."""
    drawn = [(mark, charts.thinned(points, log=log, most=_MOST_POINTS)) for mark, points in lines]
    drawn = [(mark, points) for mark, points in drawn if points]
    if not drawn:
        return ""
    last = max(points[-1][0] for _, points in drawn)
    horizontal = Axis.of(0, max(1, last), log=False, start=LEFT, end=WIDTH - RIGHT)
    heights = [y for _, points in drawn for _, y in points]
    vertical = Axis.around(heights, log=log, start=HEIGHT - BOTTOM, end=TOP)
    parts = charts.grid(horizontal, vertical)
    for mark, points in drawn:
        path = " ".join(f"{horizontal.at(x):.1f},{vertical.at(y):.1f}" for x, y in points)
        parts.append(f'<polyline {_drawn(mark)} points="{path}">{_title(mark)}</polyline>')
        if not mark.whole or len(points) == 1:
            x, y = points[-1]
            parts.append(
                f'<circle {_drawn(mark)} cx="{horizontal.at(x):.1f}" cy="{vertical.at(y):.1f}" r="3"/>'
            )
    return _figure(title, parts)


def _figure(
    title: str, parts: Sequence[str], *, width: int = WIDTH, height: int = HEIGHT, style: str = "chart"
) -> str:
    svg = (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )
    return f'<figure class="{style} trials"><figcaption>{escape(title)}</figcaption>{svg}</figure>'


def _drawn(mark: Mark) -> str:
    style = "trial" if mark.whole else "trial part"
    return f'class="{style}" style="--worth:{mark.worth:.3f}" data-trial="{escape(mark.name)}"'


def _title(mark: Mark) -> str:
    values = ", ".join(f"{name} {_plain(value)}" for name, value in mark.values.items())
    return f"<title>{escape(f'{mark.name}: {charts.number(mark.score)}; {values}')}</title>"


def _short(value: Any) -> str:
    text = _plain(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return charts.number(value)
    return value if isinstance(value, str) else json.dumps(value).replace('"', "")
