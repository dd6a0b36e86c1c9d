"""Where a set lies: a local folder, or an fsspec URL whose files are kept whole in a local cache.

A file of the cache is named by the manifest and its own name, checked against its sha256 before it takes that
name, and fetched once however many processes ask for it. SRDIST_CACHE names the cache's folder (default
~/.cache/srdist); SRDIST_CACHE_GB bounds the tars of a set that are kept in it, the longest unused being removed, for
sets larger than the disk (window order then; default: no bound).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from threading import Event, Thread
from typing import IO, TYPE_CHECKING, TypeVar

from srdist.images.decode import UnreadableImageError
from srdist.images.folder import open_regular
from srdist.machine import locks
from srdist.machine.errors import UserError, WorkError
from srdist.machine.files import whole_file
from srdist.machine.redaction import HIDDEN, redacted
from srdist.machine.waiting import wait_for

if TYPE_CHECKING:
    from filelock import BaseFileLock

T = TypeVar("T")

TRIES = 5
FIRST_WAIT_S = 0.5
MAX_BYTES = 64 << 20
"""Of a file that is read whole: a manifest of 400,000 shards."""
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """A set's folder or URL; `cache` is where a remote set's files are kept, once its manifest is known."""

    name: str
    cache: Path | None = None

    @property
    def remote(self) -> bool:
        """Whether this is an fsspec URL."""
        return "://" in self.name

    def of_manifest(self, manifest_id: str) -> Place:
        """This place with the cache of one manifest: a set that is packed anew gets another."""
        if not self.remote:
            return self
        home = os.environ.get("SRDIST_CACHE") or Path.home() / ".cache" / "srdist"
        return Place(self.name, Path(home) / manifest_id)

    @property
    def shown(self) -> str:
        """Where the set lies, for messages: without credentials."""
        return redacted(self.name)

    def path_of(self, file: str) -> str:
        """A file of the set, for messages."""
        return redacted(self._url_of(file))

    def _url_of(self, file: str) -> str:
        folder, mark, query = self.name.partition("?") if self.remote else (self.name, "", "")
        return f"{folder.rstrip('/')}/{file}{mark}{query}"

    def read(self, file: str) -> bytes | None:
        """A small file's bytes, fresh; None where there is no such file."""
        if self.remote:
            if HIDDEN in self.name:
                raise UserError(
                    f"{self.name}: {HIDDEN} stands for credentials, which are never saved: give the whole URL again"
                )
            return _waited_for(self._url_of(file), lambda url, _: _read_remote(url))
        try:
            with open_regular(Path(self.name) / file) as opened:
                return _bounded(opened, self.path_of(file))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except UnreadableImageError as error:
            raise UserError(f"{self.path_of(file)}: {error}") from error

    def local(self, file: str, *, sha256: str) -> Path:
        """The local path of a file of the set, fetched first where the set is remote."""
        if not self.remote:
            return Path(self.name) / file
        assert self.cache is not None
        path = self.cache / file
        if path.exists():
            with suppress(FileNotFoundError):
                os.utime(path)  # used now: the last to be removed
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            if not path.exists():
                for left_behind in path.parent.glob(f".{escape(path.stem)}.*.tmp{escape(path.suffix)}"):
                    left_behind.unlink()  # by one that was killed: who fetches holds the lock
                _waited_for(self._url_of(file), lambda url, given_up: _fetch(url, path, sha256, given_up))
                _trim(self.cache, newest=path)
        return path

    def open(self, file: str, *, sha256: str) -> int:
        """A descriptor of a file of the set, read-only; one that is open stays whole when the cache drops it."""
        for tried in range(1, TRIES + 1):
            try:
                # O_NONBLOCK: a FIFO opens at once, and then cannot be read. Regular files do not know it.
                flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
                return os.open(self.local(file, sha256=sha256), flags)
            except FileNotFoundError:  # dropped from the cache by another process just now
                if not self.remote or tried == TRIES:
                    raise
        raise AssertionError("unreachable")


def _read_remote(url: str) -> bytes | None:
    import fsspec

    try:
        with fsspec.open(url, "rb") as file:
            return _bounded(file, redacted(url))
    except FileNotFoundError:
        return None


def _bounded(file: IO[bytes], shown: str) -> bytes:
    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UserError(f"{shown}: more than {MAX_BYTES >> 20} MB, expected a manifest")
    return data


def _fetch(url: str, path: Path, sha256: str, given_up: Event) -> None:
    import fsspec

    digest = hashlib.sha256()
    with whole_file(path) as temporary, temporary.open("wb") as out:
        with fsspec.open(url, "rb") as file:
            while chunk := file.read(_CHUNK):
                if given_up.is_set():
                    raise _GivenUpError
                digest.update(chunk)
                out.write(chunk)
        if digest.hexdigest() != sha256:
            raise ConnectionError(f"sha256 is {digest.hexdigest()}, the manifest says {sha256}")


def _trim(cache: Path, *, newest: Path) -> None:
    limit_gb = os.environ.get("SRDIST_CACHE_GB")
    if limit_gb is None:
        return
    try:
        left = float(limit_gb) * 1e9 - newest.stat().st_size
    except ValueError as error:
        raise UserError(f"SRDIST_CACHE_GB: found {limit_gb!r}, expected a number of gigabytes") from error
    kept = []
    for path in cache.rglob("*.tar"):
        if path != newest and not path.name.startswith("."):
            with suppress(FileNotFoundError):  # another process trims as well
                status = path.stat()
                kept.append((status.st_mtime_ns, status.st_size, path))
    for _, size, path in sorted(kept, reverse=True):
        left -= size
        if left < 0:
            path.unlink(missing_ok=True)


class _GivenUpError(Exception):
    """Nobody waits any more for what is read."""


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Be the only process that fetches `path`."""
    held: list[BaseFileLock] = []

    def taken(timeout_s: float) -> bool:
        lock = locks.take(path.parent / f".{path.name}.lock", patience_s=timeout_s)
        held.extend([lock] if lock else [])
        return lock is not None

    wait_for(taken, waits=lambda: f"process {os.getpid()} waits for another that fetches {path}")
    try:
        yield
    finally:
        held.pop().release()


def _waited_for(url: str, attempt: Callable[[str, Event], T]) -> T:
    """What `attempt` gives, tried several times; a request to stop ends the wait, whatever the server does.

    The attempts are made in a thread that is left behind then: a read of a server that is silent has no end.

    Raises:
        UserError: there is no way to read such a URL.
        WorkError: no attempt went well.
        StopRequested: this process was asked to stop.
    """
    result: Future[T] = Future()
    given_up = Event()

    def work() -> None:
        try:
            result.set_result(_retried(url, attempt, given_up))
        except BaseException as error:  # raised below, in the thread that waits
            result.set_exception(error)

    Thread(target=work, daemon=True).start()
    try:
        wait_for(
            lambda timeout_s: bool(wait([result], timeout_s).done),
            waits=lambda: f"process {os.getpid()} waits for {redacted(url)}",
        )
    finally:
        given_up.set()
    return result.result()


def _retried(url: str, attempt: Callable[[str, Event], T], given_up: Event) -> T:
    for tried in range(1, TRIES + 1):
        try:
            return attempt(url, given_up)
        except UserError:
            raise
        except (ImportError, ValueError) as error:
            raise UserError(redacted(f"{url}: fsspec cannot open it: {error}")) from error
        except Exception as error:  # each fsspec backend raises errors of its own library
            if tried == TRIES or given_up.is_set():
                raise WorkError(redacted(f"{url}: could not be read in {tried} tries: {error!r}")) from error
            given_up.wait(FIRST_WAIT_S * 2 ** (tried - 1))
    raise AssertionError("unreachable")
