"""Waiting: over at once when it is over, ended by a request to stop, and no secret when it lasts."""

from __future__ import annotations

import time

import pytest

from srdist.machine import stopping, waiting
from srdist.machine.stopping import StopRequested
from srdist.machine.waiting import wait_for


def test_a_wait_that_is_over_asks_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    def nobody() -> str:
        raise AssertionError

    wait_for(lambda _: True, waits=nobody, should_stop=lambda: bool(nobody()))
    assert capsys.readouterr() == ("", "")


def test_a_signal_to_this_process_ends_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def never(timeout_s: float) -> bool:
        asked.append(timeout_s)
        if len(asked) == 3:
            monkeypatch.setattr(stopping, "_received", ["SIGTERM"])
        return False

    with pytest.raises(StopRequested):
        wait_for(never, waits=lambda: "who waits for what")
    assert asked == [waiting.LOOK_UP_S] * 3


def test_a_long_wait_is_said_and_then_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def ready(timeout_s: float) -> bool:
        now[0] += timeout_s
        return now[0] > 1000 + 500

    wait_for(ready, waits=lambda: "rank 3 waits for Godot")
    assert capsys.readouterr().err.splitlines() == [
        f"srdist: warning: rank 3 waits for Godot ({seconds} s so far)" for seconds in (60, 120, 240, 480)
    ]
