"""Stop signals: a flag, nothing lost, nothing overridden."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from srdist.machine import stopping


@pytest.fixture(autouse=True)
def _handlers_and_flag_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in stopping.STOP_SIGNALS}
    monkeypatch.setattr(stopping, "_received", [])
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", stopping.STOP_SIGNALS)
def test_each_stop_signal_is_noted_by_name_and_ends_nothing(number: signal.Signals) -> None:
    stopping.install()
    assert stopping.requested() is None
    os.kill(os.getpid(), number)
    assert stopping.requested() == number.name


def test_the_first_request_is_the_reason_that_is_told() -> None:
    stopping.install()
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGTERM)
    assert stopping.requested() == "SIGHUP"


def test_a_second_interrupt_does_not_wait_for_the_save() -> None:
    stopping.install()
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_under_nohup_a_closed_terminal_stops_nothing() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stopping.install()
    os.kill(os.getpid(), signal.SIGHUP)
    assert stopping.requested() is None


def test_a_file_stop_in_the_run_folder_is_a_request(tmp_path: Path) -> None:
    assert stopping.requested(tmp_path) is None
    (tmp_path / "STOP").touch()
    assert stopping.requested(tmp_path) == "STOP file"
    assert stopping.requested() is None
