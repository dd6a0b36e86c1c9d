"""Curves as inline SVG: points in, a figure with readable axes out, and its points beside it as JSON for the page's pointer."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 270
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 34
_MOST_POINTS = 1500
_DIGIT = 7.7
"""Width of a tick's digit, in wide fonts."""


@dataclass(frozen=True, slots=True)
class Series:
    """One curve: (step, value) in rising order of steps, finite; `style` is a class of the page's style sheet."""

    name: str
    points: tuple[tuple[float, float], ...]
    style: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over steps that share one axis."""

    title: str
    series: tuple[Series, ...]
    last_step: int
    """Where the axis of the steps ends; it starts at 0."""
    log: bool = False
    marks: tuple[tuple[float, str], ...] = ()
    """Steps with a note, drawn as upright lines: resumptions."""


def figure(chart: Chart) -> str:
    """The chart as an HTML figure; a chart without points says so."""
    drawn = [Series(s.name, thinned(s.points, log=chart.log), s.style) for s in chart.series]
    drawn = [series for series in drawn if series.points]
    head = f"<figcaption>{escape(chart.title)}{_legend(drawn)}</figcaption>"
    if not drawn:
        return f'<figure class="chart">{head}<p class="none">nothing logged yet</p></figure>'
    horizontal = Axis.of(0, max(1, chart.last_step), log=False, start=LEFT, end=WIDTH - RIGHT)
    values = [y for series in drawn for _, y in series.points]
    vertical = Axis.around(values, log=chart.log, start=HEIGHT - BOTTOM, end=TOP)
    parts = [*grid(horizontal, vertical), *_marks(chart.marks, horizontal)]
    data = []
    for series in drawn:
        places = [(round(horizontal.at(x), 1), round(vertical.at(y), 1)) for x, y in series.points]
        path = " ".join(f"{x:g},{y:g}" for x, y in places)
        if len(places) == 1:
            parts.append(f'<circle class="{series.style}" cx="{places[0][0]}" cy="{places[0][1]}" r="3"/>')
        parts.append(f'<polyline class="{series.style}" points="{path}"/>')
        marked = [
            [x, y, f"{step:g}", number(value)]
            for (x, y), (step, value) in zip(places, series.points, strict=True)
        ]
        data.append({"name": series.name, "style": series.style, "points": marked})
    svg = (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)} over steps">'
        f'{"".join(parts)}<g class="pointer"></g></svg>'
    )
    # A name may hold "</script>".
    points = json.dumps(data).replace("<", "\\u003c")
    return (
        f'<figure class="chart">{head}{svg}<output></output>'
        f'<script type="application/json">{points}</script></figure>'
    )


def number(value: float) -> str:
    """Four significant digits, thousands apart."""
    if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
        return f"{value:.3g}"
    digits = max(0, 3 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True, slots=True)
class Axis:
    """Values to places in the picture, with round numbers between the ends."""

    low: float
    high: float
    log: bool
    start: float
    end: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...] = ()
    """Of the ticks; none: their numbers."""

    @classmethod
    def listed(cls, labels: Sequence[str], *, start: float, end: float) -> Axis:
        """An axis of things without a measure: the first at 0, the second at 1, and so on."""
        last = len(labels) - 1
        return cls(-0.5, last + 0.5, False, start, end, tuple(range(last + 1)), tuple(labels))

    @property
    def marks(self) -> list[tuple[float, str]]:
        """Each tick's place and label."""
        labels = self.labels or [number(tick) for tick in self.ticks]
        return [(self.at(tick), label) for tick, label in zip(self.ticks, labels, strict=True)]

    @classmethod
    def of(cls, low: float, high: float, *, log: bool, start: float, end: float) -> Axis:
        """An axis with these ends."""
        ticks = _log_ticks(low, high) if log else _ticks(low, high)
        return cls(low, high, log, start, end, ticks)

    @classmethod
    def around(cls, values: Sequence[float], *, log: bool, start: float, end: float) -> Axis:
        """An axis on which no value lies on its ends."""
        low, high = min(values), max(values)
        if log:
            return cls.of(low / 1.3, high * 1.3, log=True, start=start, end=end)
        room = (high - low) * 0.08 or abs(low) * 0.1 or 1.0
        # What cannot be negative is not drawn over an axis that is.
        return cls.of(
            low - room if low < 0 else max(0.0, low - room), high + room, log=False, start=start, end=end
        )

    def at(self, value: float) -> float:
        """The place of a value."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (self.end - self.start) * (value - low) / ((high - low) or 1)


def _ticks(low: float, high: float) -> tuple[float, ...]:
    """About five round numbers inside the range."""
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(i * step for i in range(first, last + 1))


def _log_ticks(low: float, high: float) -> tuple[float, ...]:
    """Powers of ten inside the range, with 2 and 5 times these where they are few; round numbers in a short range."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= 3 else (1,)
    every = (factor * 10.0**power for power in range(first, last + 1) for factor in factors)
    ticks = tuple(tick for tick in every if low <= tick <= high)
    return ticks if len(ticks) > 2 else _ticks(low, high)


def grid(horizontal: Axis, vertical: Axis, *, label: str = "step") -> list[str]:
    """Lines and labels of both axes.

    Args:
        label: what the horizontal one measures.
    """
    parts = []
    for place, text in vertical.marks:
        y = f"{place:.1f}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(
            f'<text class="tick" x="{LEFT - 8}" y="{y}" dy="0.35em" text-anchor="end">{escape(text)}</text>'
        )
    bottom = HEIGHT - BOTTOM
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    for place, text in horizontal.marks:
        # A picture ends where its box does: the last label would be cut off there.
        x = f"{min(place, WIDTH - len(text) * _DIGIT / 2):.1f}"
        parts.append(
            f'<text class="tick" x="{x}" y="{bottom + 18}" text-anchor="middle">{escape(text)}</text>'
        )
    parts.append(
        f'<text class="tick" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(label)}</text>'
    )
    return parts


def _marks(marks: Sequence[tuple[float, str]], horizontal: Axis) -> list[str]:
    return [
        f'<line class="mark" x1="{horizontal.at(step):.1f}" x2="{horizontal.at(step):.1f}" y1="{TOP}" '
        f'y2="{HEIGHT - BOTTOM}"><title>{escape(note)}</title></line>'
        for step, note in marks
        if horizontal.low <= step <= horizontal.high
    ]


def _legend(series: Sequence[Series]) -> str:
    if len(series) < 2:
        return ""
    return "".join(f'<span class="key {each.style}">{escape(each.name)}</span>' for each in series)


def thinned(
    points: Sequence[tuple[float, float]], *, log: bool, most: int = _MOST_POINTS
) -> tuple[tuple[float, float], ...]:
    """What can be drawn: positive on a log axis, and at most `most`, each the mean of its neighbours."""
    kept = [(x, y) for x, y in points if y > 0 or not log]
    group = -(-len(kept) // most) or 1
    chunks = [kept[i : i + group] for i in range(0, len(kept), group)]
    return tuple((chunk[-1][0], sum(y for _, y in chunk) / len(chunk)) for chunk in chunks)
