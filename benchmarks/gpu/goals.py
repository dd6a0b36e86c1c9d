"""The bars of benchmarks.gpu: what its figures must reach on a GPU of the H100's class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.gpu.runs import SEED_ON_FRAMES

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Goal:
    """A bar for one figure of some parts."""

    text: str
    parts: tuple[str, ...]
    """That must have been run for it to be asked."""
    figure: Callable[[Figures], float]
    """KeyError or ZeroDivisionError where a part has failed."""
    least: float | None = None
    most: float | None = None
    form: str = ".0f"
    """How the figure is printed."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal beside its figure."""

    goal: str
    figure: str
    reached: bool

    def row(self) -> dict[str, Any]:
        """For the file."""
        return asdict(self)


def verdicts(figures: Figures) -> Iterator[Verdict]:
    """Every goal whose parts were run; where one of them has failed it is not reached."""
    for goal in GOALS:
        if not all(part in figures for part in goal.parts):
            continue
        try:
            value = goal.figure(figures)
        except (KeyError, ValueError, ZeroDivisionError):
            yield Verdict(goal.text, "no figure", False)
            continue
        reached = (goal.least is None or value >= goal.least) and (goal.most is None or value <= goal.most)
        yield Verdict(goal.text, format(value, goal.form), reached)


def _wrong(figures: Figures, part: str) -> int:
    rows = [row for row in figures[part].values() if isinstance(row, dict) and "right" in row]
    if not rows:
        raise KeyError(part)
    return sum(not row["right"] for row in rows)


def _best_share(figures: Figures, part: str) -> float:
    """The greatest share of its floor that a step of this network has reached, compiled or not."""
    own = figures[part]["rows"]
    rows = [*own, *figures.get("compiled", {}).get("rows", ())]
    return max(
        float(row["share_of_floor"]) for row in rows if row["hr"] == own[0]["hr"] and "share_of_floor" in row
    )


def _times_the_seed(figures: Figures) -> float:
    ours = figures["training"][SEED_ON_FRAMES]["images_per_s"]
    return float(ours / figures["seed"]["images_per_s"])


GOALS = (
    Goal("wrong rows of one step in each precision", ("numbers",), lambda f: _wrong(f, "numbers"), most=0),
    Goal("wrong loss curves", ("curves",), lambda f: _wrong(f, "curves"), most=0),
    Goal("wrong levels of upscaled images", ("levels",), lambda f: _wrong(f, "levels"), most=0),
    Goal(
        "parts in which a killed run differs", ("resume",), lambda f: len(f["resume"]["differences"]), most=0
    ),
    Goal(
        "the seed's network on frames: the best step's share of its floor, at least 60 %",
        ("frames",),
        lambda f: _best_share(f, "frames"),
        least=0.6,
        form=".0%",
    ),
    Goal(
        "the middle-sized network on patches: the best step's share of its floor, at least 60 %",
        ("patches",),
        lambda f: _best_share(f, "patches"),
        least=0.6,
        form=".0%",
    ),
    Goal(
        "training waits for data, at most 1 % of the time (with 16 cores)",
        ("training",),
        lambda f: float(f["training"][SEED_ON_FRAMES]["data_wait_share"]),
        most=0.01,
        form=".1%",
    ),
    Goal(
        "training, times the seed's script, at least 20",
        ("training", "seed"),
        _times_the_seed,
        least=20,
        form=".1f",
    ),
    Goal(
        "faces upscaled, of the slower of codecs and network, at least 80 %",
        ("faces",),
        lambda f: float(f["faces"]["share_of_floor"]),
        least=0.8,
        form=".0%",
    ),
    Goal(
        "photos upscaled, of the slower of codecs and network, at least 80 %",
        ("photos",),
        lambda f: float(f["photos"]["share_of_floor"]),
        least=0.8,
        form=".0%",
    ),
    Goal(
        "seconds from the command to the first step, below 15",
        ("beginning",),
        lambda f: float(f["beginning"]["first_step_s"]),
        most=15,
        form=".1f",
    ),
)
