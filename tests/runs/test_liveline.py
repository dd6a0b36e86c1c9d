"""The live line of a training: on a terminal alone, out of the way of what is printed."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from srdist.runs import liveline
from srdist.runs.log import RunLog

CLEAR = "\r\x1b[2K"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard output from here on; no fixture, as pytest sets its own between a fixture and its test."""
    found = Terminal()
    monkeypatch.setattr(sys, "stdout", found)
    monkeypatch.setenv("COLUMNS", "60")
    return found


def test_a_printed_line_takes_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    terminal = a_terminal(monkeypatch)
    log = RunLog(tmp_path, main=True, quiet=False)
    assert log.live.due
    log.live.show("training", 50, 200, "100.0 images/s, 0:03 left")
    assert not log.live.due  # four times a second at most
    log.say("step 50/200")
    log.say("step 100/200")
    log.close()
    bar = "━" * 6 + "─" * 18
    live = f"training {bar} 50/200 100.0 images/s, 0:03 left"[:59]
    assert terminal.getvalue() == f"{CLEAR}{live}{CLEAR}step 50/200\nstep 100/200\n"


def test_the_end_of_a_run_leaves_no_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    terminal = a_terminal(monkeypatch)
    log = RunLog(tmp_path, main=True, quiet=False)
    log.live.show("training", 200, 200, "")
    log.close()
    assert terminal.getvalue().endswith(CLEAR)


@pytest.mark.parametrize(("main", "quiet"), [(False, False), (True, True)])
def test_other_ranks_and_quiet_runs_have_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, main: bool, quiet: bool
) -> None:
    terminal = a_terminal(monkeypatch)
    assert not RunLog(tmp_path, main=main, quiet=quiet).live.due
    assert terminal.getvalue() == ""


def test_without_a_terminal_there_is_none() -> None:
    assert not liveline.LiveLine(visible=True).due
