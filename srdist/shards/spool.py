"""Bytes laid aside on disk until they are packed: tiles are cut photo by photo, and packed in a shuffled order."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

from srdist.machine.files import named_in_errors


class Spool:
    """A file without a name, for any thread: nothing is left of it, however the process ends."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (closed by __exit__)
        self._folder, self._size = folder, 0
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, data: bytes) -> int:
        """Keep some bytes; where they lie.

        Raises:
            OSError: the disk is full, say.
        """
        with self._lock:
            place = self._size
            self._size += len(data)
        written = 0
        with named_in_errors(self._folder):
            while written < len(data):
                written += os.pwrite(self._file.fileno(), data[written:], place + written)
        return place

    def read(self, place: int, size: int) -> bytes:
        """`size` bytes from `place` on; fewer where the disk gives no more."""
        data = b""
        while len(data) < size and (
            more := os.pread(self._file.fileno(), size - len(data), place + len(data))
        ):
            data += more
        return data
