"""Locks on files: held by one process of any machine that shares the folder, until it lets go or ends, however it ends.

By filelock, which knows of forks: workers that outlive their process hold nothing. A file system without locks is an
error with the file's name, never a marker file in a lock's place: that would outlive a process that is killed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from srdist.machine.files import named_in_errors

if TYPE_CHECKING:
    from filelock import BaseFileLock

_LOOK_EACH_S = 0.1


def take(path: Path, *, patience_s: float) -> BaseFileLock | None:
    """Lock `path`, which is made if need be; None where another still holds it after `patience_s`.

    Raises:
        OSError: the file cannot be opened, or its file system has no locks; with its name.
    """
    # Here, since most commands lock nothing: it takes 45 ms to import.
    from filelock import FileLock, Timeout

    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    with named_in_errors(path):
        try:
            lock.acquire(timeout=patience_s, poll_interval=_LOOK_EACH_S)
        except Timeout:
            return None
    return lock
