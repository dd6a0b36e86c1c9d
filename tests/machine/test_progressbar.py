"""How far a long command is, and spans of time in figures."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from srdist.machine import progressbar
from srdist.machine.clock import clock
from srdist.machine.progressbar import ProgressBar


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (0.6, "0:01"), (62, "1:02"), (3599.7, "1:00:00"), (90061, "25:01:01")]
)
def test_a_span_of_time_reads_the_same_wherever_it_is_told(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def shown(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100, color_system=None)
    monkeypatch.setattr(progressbar, "Console", lambda **_: console)
    with ProgressBar("counting", total=4) as bar:
        bar.advance(3)
        bar.say("waits for [x]")
        bar.show(4, 4, rate="as fast as can be")
    return text.getvalue()


def test_a_terminal_shows_what_is_done_how_fast_and_how_long_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, terminal=True)
    assert "counting" in text
    assert "4/4" in text
    assert "as fast as can be" in text
    assert "srdist: waits for [x]\n" in text


def test_without_a_terminal_only_what_is_said_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, terminal=False) == "srdist: waits for [x]\n"
