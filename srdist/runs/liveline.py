"""The line of a terminal that says where a training stands; whatever is printed takes its place, and it follows."""

from __future__ import annotations

import os
import shutil
import sys
import time

EVERY_S = 0.25
_CLEAR = "\r\x1b[2K"
_BAR = 24


class LiveLine:
    """It is there on a terminal only, and says nothing that the log does not say."""

    def __init__(self, *, visible: bool) -> None:
        """Begin without a line.

        Args:
            visible: whether this process is the one that shows it, if standard output is a terminal.
        """
        self._visible = visible and sys.stdout.isatty()
        self._shown, self._next = False, 0.0

    @property
    def due(self) -> bool:
        """Whether it is time to show where the work stands; a step asks each time."""
        return self._visible and time.monotonic() >= self._next

    def show(self, title: str, done: int, total: int, rate: str) -> None:
        """Draw the line anew."""
        full = _BAR * done // max(total, 1)
        text = f"{title} {'━' * full}{'─' * (_BAR - full)} {done}/{total} {rate}"
        self._write(_CLEAR + text[: shutil.get_terminal_size().columns - 1])
        self._shown, self._next = True, time.monotonic() + EVERY_S

    def clear(self) -> None:
        """Make room for a line that stays."""
        if self._shown:
            self._write(_CLEAR)
            self._shown = False

    def _write(self, text: str) -> None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError:
            # A closed ssh window is no reason to end a run.
            self._visible = False
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
