"""Processes that this one forks beside its work: they leave a launcher's signals to it, and end when it does."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from srdist.machine.memory import usable_memory_mb
from srdist.machine.stopping import STOP_SIGNALS

# A launcher sends these to the whole process group: the rank saves and ends, and needs its workers until then.
_LEFT_TO_THE_PARENT = STOP_SIGNALS
_PR_SET_PDEATHSIG = 1


@contextmanager
def signals_held() -> Iterator[None]:
    """Start the process in here: none of the signals meets it before it ignores them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_TO_THE_PARENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def live_for_parent() -> None:
    """The first thing that the new process does."""
    for number in _LEFT_TO_THE_PARENT:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _LEFT_TO_THE_PARENT)
    # Linux kills it with its parent, even one that was killed with -9; elsewhere it has to look.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def how_it_ended(exit_code: int | None) -> str:
    """What a process's exit code says, as words after its name."""
    if exit_code is None or exit_code >= 0:
        return f"ended with exit code {exit_code}"
    how = f"was killed by {signal.Signals(-exit_code).name}"
    if -exit_code != signal.SIGKILL:
        return how
    usable_mb = usable_memory_mb()
    of = "" if usable_mb is None else f": {usable_mb:,.0f} MB are there for all of this group"
    return f"{how} (out of memory?{of})"
