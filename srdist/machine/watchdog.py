"""Work in which nothing has moved for a minute says what it waits for, instead of waiting in silence."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

PATIENCE_S = 60.0
"""Time without progress after which it speaks; then after twice as long, and so on."""


class Watchdog:
    """A context manager with a thread of its own: it speaks also where the thread that does the work is stuck."""

    def __init__(
        self,
        tell: Callable[[str], None],
        *,
        progress: Callable[[], object],
        waits: Callable[[], str],
        patience_s: float | None = None,
    ) -> None:
        """Begin to watch on entering.

        Args:
            tell: called from the thread of its own, with one line.
            progress: anything that compares different when something has moved.
            waits: who waits for what.
            patience_s: None = PATIENCE_S.
        """
        self._tell, self._progress, self._waits = tell, progress, waits
        self._patience_s = PATIENCE_S if patience_s is None else patience_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stop.set()  # not joined: what it asks for may itself be stuck, on a disk that does not answer

    def _watch(self) -> None:
        seen, since, next_word_s = self._progress(), time.monotonic(), self._patience_s
        while not self._stop.wait(self._patience_s / 10):
            now = self._progress()
            if now != seen:
                seen, since, next_word_s = now, time.monotonic(), self._patience_s
            elif (waited := time.monotonic() - since) >= next_word_s:
                self._tell(f"nothing has moved for {waited:.0f} s: {self._waits()}")
                next_word_s *= 2
