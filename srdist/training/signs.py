"""Signs that the network and its critic have lost their balance, or that SR drifts: told once, until they are gone.

In go the means of a log line; the limits are such that a run in balance stays far from them (docs/losses.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from srdist.losses.contest import AdversarialConfig
from srdist.losses.section import LossTerm
from srdist.runs.log import RunLog

RIGHT = 0.95
"""Share of HR and of SR that the critic judges rightly, above which the network learns little from it."""
SAME = 0.98
"""Share of HR and of SR alike that it takes for real, or for made, above which it tells nothing."""
SHARE = 0.9
"""Part of what is minimized that comes of the critic, above which nothing holds SR to its LR."""
DRIFT = 4.0
"""Levels of 255 by which SR may be brighter or darker than HR in a channel, in the mean of a line."""

FIRST_STEPS = 100
"""Of the critic, which tell nothing: with its first weights it takes everything for real, or for made."""


class Sign(NamedTuple):
    """One thing that was noticed."""

    name: str
    says: str


class Signs:
    """What was noticed in the last line; its method is for every rank, the log writes on the first."""

    def __init__(self, terms: Sequence[LossTerm], log: RunLog) -> None:
        self._terms, self._log = terms, log
        self._starts = min(
            (term.start_step for term in terms if isinstance(term, AdversarialConfig)), default=None
        )
        self._there: frozenset[str] = frozenset()

    def notice(self, means: Mapping[str, float], *, first_step: int, step: int) -> None:
        """Tell what is new in the line of the steps from `first_step` to `step`."""
        if self._starts is None or first_step <= self._starts + FIRST_STEPS:
            return
        found = list(signs(means, self._terms))
        for sign in found:
            if sign.name not in self._there:
                self._log.warn(f"step {step}: {sign.says}")
                self._log.row("sign", step, name=sign.name, says=sign.says)
        self._there = frozenset(sign.name for sign in found)


def signs(means: Mapping[str, float], terms: Sequence[LossTerm]) -> Iterator[Sign]:
    """What the means of a line, by their names in the log, tell of a contest."""
    of_hr, of_sr = means["critic_right_hr"], means["critic_right_sr"]
    if min(of_hr, of_sr) > RIGHT:
        yield Sign(
            "critic too strong",
            f"the critic is right about {of_hr:.0%} of HR and {of_sr:.0%} of SR, so the network learns little from it: "
            "lower its learning_rate or give it an r1_weight",
        )
    for right, wrong, word in ((of_hr, of_sr, "real"), (of_sr, of_hr, "made")):
        if right > SAME and wrong < 1 - SAME:
            yield Sign(
                "critic blind", f"the critic takes HR and SR alike for {word}: it tells nothing any more"
            )
    parts = {term.kind: abs(term.weight * means[f"loss_{term.kind}"]) for term in terms}
    critics = sum(parts.get(kind, 0.0) for kind in ("adversarial", "feature_matching"))
    if critics > SHARE * sum(parts.values()):
        yield Sign(
            "critic alone",
            f"{critics / sum(parts.values()):.0%} of what is minimized comes of the critic, so little holds SR to its LR: "
            "lower the weight of adversarial or feature_matching",
        )
    for channel in ("red", "green", "blue"):
        drift = means[f"drift_{channel}"]
        if abs(drift) > DRIFT:
            yield Sign(
                f"drift of {channel}",
                f"SR is {abs(drift):.1f} levels {'brighter' if drift > 0 else 'darker'} than HR in {channel}: its colours drift",
            )
