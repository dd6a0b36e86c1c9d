"""A request to stop: SIGTERM, SIGINT, SIGUSR1, SIGHUP or a file STOP in the run folder set a flag, and nothing more.

The training loop looks at the flag at step boundaries, agrees on it with the other ranks and saves. Installed
before torch is imported, so that a signal during start-up is not lost; this module imports no torch.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from srdist.machine.launcher import Launch

_received: list[str] = []
_PR_SET_PDEATHSIG = 1

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
"""SIGHUP is a closed terminal or ssh window."""


class StopRequested(Exception):  # noqa: N818 (no error: somebody asked)
    """Raised by what waits, when a stop is requested meanwhile."""


def install() -> None:
    """Let the stop signals set the flag instead of ending the process; a second SIGINT interrupts at once."""
    for number in STOP_SIGNALS:
        # What nohup has set to be ignored stays so: the run is meant to outlive its terminal.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _note)
    # Ranks find each other through their launcher: without it they would wait for `peer_timeout_s`, deaf to signals.
    launch = Launch.of(os.environ)
    _when_the_launcher_dies(signal.SIGKILL if launch.joins and launch.world > 1 else signal.SIGTERM)


def begin_training() -> None:
    """From here on there is something to save when the launcher is killed."""
    _when_the_launcher_dies(signal.SIGTERM)


def _when_the_launcher_dies(number: signal.Signals) -> None:
    # A launcher that is killed cannot end its ranks: the kernel does.
    if sys.platform == "linux" and Launch.of(os.environ).has_parent:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def requested(run: Path | None = None) -> str | None:
    """What asked this process to stop ("SIGTERM", "STOP file"), or None."""
    if _received:
        return _received[0]
    if run is not None and (run / "STOP").exists():
        return "STOP file"
    return None


def _note(number: int, _frame: FrameType | None) -> None:
    if number == signal.SIGINT and signal.Signals(number).name in _received:
        # Pressed twice: the user does not want to wait for the save.
        raise KeyboardInterrupt
    _received.append(signal.Signals(number).name)
