"""Whole files of a remote set, kept on this machine: fetched once however many processes ask, within a bound.

A file is named by the manifest's id and its own name, and takes that name when all of it fits its sha256. What is on its
way is `.NAME.BYTES.part` beside it, and goes on from there when its process was killed. SRDIST_CACHE names the cache's
folder (default ~/.cache/srdist); SRDIST_CACHE_GB bounds the tars of a set, those on their way counted whole. Room is
made before a tar is fetched: the one that was touched longest ago goes first, and a prefetcher touches what is needed
soon (stream/prefetch.py).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, TypeVar

from srdist.machine import locks
from srdist.machine.errors import UserError
from srdist.machine.files import sync
from srdist.machine.redaction import redacted
from srdist.machine.waiting import wait_for
from srdist.shards.download import download
from srdist.shards.manifest import IndexEntry, ShardEntry

if TYPE_CHECKING:
    from filelock import BaseFileLock

T = TypeVar("T")

_ROOM = ".room.lock"


@dataclass(frozen=True, slots=True)
class Cache:
    """The files of one set."""

    folder: Path
    bound: int | None
    """Bytes of tars at most; None: as many as the disk holds."""

    @classmethod
    def of_manifest(cls, manifest_id: str) -> Cache:
        """The cache of a set: one that is packed anew gets another.

        Raises:
            UserError: SRDIST_CACHE_GB is no number above 0.
        """
        home = os.environ.get("SRDIST_CACHE") or Path.home() / ".cache" / "srdist"
        return cls(Path(home) / manifest_id, _bound())

    def path(self, entry: ShardEntry | IndexEntry) -> Path:
        """Where a file is, when it is there."""
        return self.folder / entry.file

    def open(self, entry: ShardEntry | IndexEntry, *, url: str) -> int:
        """A descriptor of a file, read-only, fetched first where it is not there; it stays whole when it is dropped.

        Raises:
            UserError, WorkError: it cannot be fetched; the message names the URL.
            StopRequested: this process was asked to stop.
        """
        path = self.path(entry)
        if (file := _open_whole(path, entry.bytes)) is not None:
            return file
        path.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(path):
            # By another process, while this one waited.
            if (file := _open_whole(path, entry.bytes)) is not None:
                return file
            part = path.with_name(f".{path.name}.{entry.bytes}.part")
            if self.bound is not None and isinstance(entry, ShardEntry):
                self._make_room(part, entry.bytes)
            waited_for(
                url,
                lambda given_up: download(
                    url, part, size=entry.bytes, sha256=entry.sha256, given_up=given_up
                ),
            )
            # Opened before it has its name: with that another process may drop it.
            file = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
            sync(part)
            part.replace(path)
            sync(path.parent)
            return file

    def touch(self, entries: list[ShardEntry]) -> None:
        """Have the files that are there dropped after all others, and the last of them first."""
        now = time.time()
        for i, entry in enumerate(entries):
            with suppress(FileNotFoundError):
                os.utime(self.path(entry), (now, now - i * 1e-4))

    def _make_room(self, part: Path, size: int) -> None:
        assert self.bound is not None
        if size > self.bound:
            raise UserError(
                f"SRDIST_CACHE_GB: found {self.bound / 1e9:g}, but a tar of the set has {size / 1e9:g} GB: {part.name}"
            )
        wait_for(
            lambda timeout_s: self._has_room(part, size, timeout_s),
            waits=lambda: f"process {os.getpid()} waits for room in {self.folder}, where others are fetching",
        )

    def _has_room(self, part: Path, size: int, timeout_s: float) -> bool:
        """Drop what has to go, and hold the room by making `part`; False where others are on their way into it."""
        assert self.bound is not None
        lock = locks.take(self.folder / _ROOM, patience_s=timeout_s)
        if lock is None:
            return False
        try:
            coming = {other: int(other.name.split(".")[-2]) for other in self.folder.rglob(".*.part")}
            coming.pop(part, None)
            kept = sorted(self._tars())
            used = sum(coming.values()) + sum(bytes_ for _, bytes_, _ in kept)
            for other, bytes_ in coming.items():
                if used + size > self.bound and _remove_left_behind(other):
                    used -= bytes_
            for _, bytes_, path in kept:
                if used + size > self.bound:
                    path.unlink(missing_ok=True)
                    used -= bytes_
            fits = used + size <= self.bound
            if fits:
                part.touch()
        finally:
            lock.release()
        if not fits:
            time.sleep(timeout_s)
        return fits

    def _tars(self) -> Iterator[tuple[int, int, Path]]:
        """When each was touched, how large it is, where it is."""
        for path in self.folder.rglob("*.tar"):
            with suppress(FileNotFoundError):
                status = path.stat()
                yield status.st_mtime_ns, status.st_size, path


def waited_for(url: str, work: Callable[[Event], T]) -> T:
    """What `work` gives in a thread of its own; a request to stop ends the wait, whatever the server does.

    Args:
        work: is handed an event that is set when nobody waits any more, and ends then.

    Raises:
        StopRequested: this process was asked to stop.
    """
    result: Future[T] = Future()
    given_up = Event()

    def run() -> None:
        try:
            result.set_result(work(given_up))
        except BaseException as error:  # raised below, in the thread that waits
            result.set_exception(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        wait_for(
            lambda timeout_s: bool(wait([result], timeout_s).done),
            waits=lambda: f"process {os.getpid()} waits for {redacted(url)}",
        )
    finally:
        given_up.set()
        thread.join()
    return result.result()


def _bound() -> int | None:
    text = os.environ.get("SRDIST_CACHE_GB")
    if text is None:
        return None
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = math.nan
    if not 0 < gigabytes < math.inf:
        raise UserError(f"SRDIST_CACHE_GB: found {text!r}, expected a number of gigabytes above 0")
    return int(gigabytes * 1e9)


def _open_whole(path: Path, size: int) -> int | None:
    """A descriptor of a file of that many bytes, which counts as used now; None where there is none."""
    try:
        # O_NONBLOCK: a FIFO opens at once, and then cannot be read. Regular files do not know it.
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    if os.fstat(file).st_size != size:  # damaged on this disk: fetched again
        os.close(file)
        return None
    with suppress(FileNotFoundError):
        os.utime(path)
    return file


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _remove_left_behind(part: Path) -> bool:
    """Remove what a killed process had begun to fetch; one that lives holds the lock."""
    name = part.name.removeprefix(".").removesuffix(".part").rpartition(".")[0]
    lock = locks.take(_lock_of(part.with_name(name)), patience_s=0)
    if lock is None:
        return False
    part.unlink(missing_ok=True)
    lock.release()
    return True


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Be the only process that fetches `path`."""
    held: list[BaseFileLock] = []

    def taken(timeout_s: float) -> bool:
        lock = locks.take(_lock_of(path), patience_s=timeout_s)
        held.extend([lock] if lock else [])
        return lock is not None

    wait_for(taken, waits=lambda: f"process {os.getpid()} waits for another that fetches {path}")
    try:
        yield
    finally:
        held.pop().release()
