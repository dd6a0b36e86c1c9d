"""A request to stop: SIGTERM, SIGINT, SIGUSR1, SIGHUP or a file STOP in the run folder.

In training they set a flag, and nothing more: the loop looks at it at step boundaries, agrees on it with the other
ranks and saves. All other commands end at once (`ending`). Both are set up before torch is imported, so that a signal
during start-up is not lost; this module imports no torch.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from srdist.machine.launcher import Launch

_received: list[str] = []
_PR_SET_PDEATHSIG = 1

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
"""SIGHUP is a closed terminal or ssh window."""
STOP_S = 15.0
"""Time between a signal and the end of a command that saves nothing, at most."""


LOOK_EVERY_S = 0.2
"""Time between two looks for the file STOP, in training: on a network file system each is a message."""


class StopRequested(Exception):  # noqa: N818 (no error: somebody asked)
    """Raised by what waits, when a stop is requested meanwhile."""


def install() -> None:
    """Let the stop signals set the flag instead of ending the process; a second SIGINT interrupts at once."""
    signal.set_wakeup_fd(-1)  # what `ending` listens to
    for number in STOP_SIGNALS:
        # What nohup has set to be ignored stays so: the run is meant to outlive its terminal.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _note)
    # Ranks find each other through their launcher: without it they would wait for `peer_timeout_s`, deaf to signals.
    launch = Launch.of(os.environ)
    _when_the_launcher_dies(signal.SIGKILL if launch.joins and launch.world > 1 else signal.SIGTERM)


@contextmanager
def ending(advice: str = "") -> Iterator[None]:
    """Let the stop signals end this process with one line: what is under way is cleared away, as by any exception.

    A stop is a stop, whatever a thread is blocked in: the interpreter's own way out would wait for it.

    Args:
        advice: said after it, as "the same command goes on".
    """
    stopped = 0

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        if stopped:  # on the way out already
            return
        stopped = 128 + number
        if Launch.of(os.environ).rank == 0:
            line = f"srdist: stopped ({signal.Signals(number).name})" + (f": {advice}" if advice else "")
            # No print, and no thread begun: both take locks, which the interrupted code may hold.
            with suppress(OSError):
                os.write(2, f"{line}\n".encode())
        raise SystemExit(stopped)

    # What nohup has set to be ignored stays so.
    numbers = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        with _last_resort(numbers):
            yield
    finally:
        if stopped:
            with suppress(OSError):
                sys.stdout.flush()
            os._exit(stopped)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _last_resort(numbers: Collection[int]) -> Iterator[None]:
    """Where the way out is blocked, in a file system that does not answer, the process ends all the same: STOP_S after the signal."""

    def wait_for_a_signal() -> None:
        while signals := os.read(reading, 1):
            if signals[0] in numbers:
                time.sleep(STOP_S)
                os._exit(128 + signals[0])

    # The interpreter writes a signal's number there at once, whatever its main thread is in.
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=wait_for_a_signal, name="last resort", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)


def begin_training() -> None:
    """From here on there is something to save when the launcher is killed."""
    _when_the_launcher_dies(signal.SIGTERM)


def leave() -> None:
    """What has saved ends well, however often it is told to: from here on no stop signal but SIGINT does anything.

    On its way out the interpreter gives the signals that have handlers back to the system, which ends the process by them.
    """
    for number in STOP_SIGNALS:
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_IGN)


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


class Requests:
    """What asks a run to stop: as `requested`, but that the file STOP is looked for five times a second, and no more.

    Args:
        run: the run's folder; None on ranks that do not look for the file.
    """

    def __init__(self, run: Path | None) -> None:
        self._run = run
        self._look_at = -math.inf
        self._reason: str | None = None

    def __call__(self) -> str | None:
        """Why to stop, from the first time on that there is a reason."""
        if self._reason is None:
            looks = time.monotonic() >= self._look_at
            if looks:
                self._look_at = time.monotonic() + LOOK_EVERY_S
            self._reason = requested(self._run if looks else None)
        return self._reason


def _note(number: int, _frame: FrameType | None) -> None:
    if number == signal.SIGINT and signal.Signals(number).name in _received:
        # Pressed twice: the user does not want to wait for the save.
        raise KeyboardInterrupt
    _received.append(signal.Signals(number).name)
