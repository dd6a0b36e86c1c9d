"""Waits that may have no end: a request to stop is heard in them, and after a minute they say who waits for what."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from srdist.machine import stopping
from srdist.machine.stopping import StopRequested

LOOK_UP_S = 0.5
"""How long a wait is deaf."""
SAID_AFTER_S = 60.0
"""A wait of this length is said on stderr; then again whenever it has doubled."""


def signalled() -> bool:
    """Whether this process was sent a signal to stop."""
    return stopping.requested() is not None


def wait_for(
    ready: Callable[[float], bool],
    *,
    waits: Callable[[], str],
    should_stop: Callable[[], bool] = signalled,
) -> None:
    """Wait until `ready` says so.

    Args:
        ready: waits itself for at most the given seconds; whether the wait is over.
        waits: who waits for what, as a sentence: said by any rank, since the others may be well.

    Raises:
        StopRequested: a stop was asked for meanwhile.
    """
    begin = time.monotonic()
    said_at = SAID_AFTER_S
    while not ready(LOOK_UP_S):
        if should_stop():
            raise StopRequested
        waited_s = time.monotonic() - begin
        if waited_s >= said_at:
            print(f"srdist: warning: {waits()} ({waited_s:.0f} s so far)", file=sys.stderr, flush=True)
            said_at = 2 * waited_s
