"""One file behind an fsspec URL, by ranges, into a file here: resumed, checked, and given up where the server is silent.

A request is abandoned when it has brought nothing for STALL_S, and the next one asks for less; one that fails is made
again after a wait that doubles. What has come stays: the next request begins where the file ends, also in another
process. Nothing of it counts before all of it fits its sha256.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from threading import Event, Thread
from typing import IO, Any, TypeVar

from srdist.machine.errors import UserError, WorkError
from srdist.machine.files import named_in_errors
from srdist.machine.redaction import redacted

T = TypeVar("T")

TRIES = 8
"""Requests in a row that may bring nothing."""
WRONG_TRIES = 4
"""Times that a whole file may be another than the manifest says."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 20.0
"""Between two tries; drawn from half of it to all of it, so that many machines do not come back at one moment."""
STALL_S = 30.0
"""Time that a request may take."""
RANGE_BYTES, LEAST_RANGE_BYTES = 8 << 20, 1 << 16
"""Of a request; after each one that stalls a quarter of it."""
_LOOK_UP_S = 0.1
_CHUNK = 1 << 20


class GivenUpError(Exception):
    """Nobody waits any more for what is read."""


class StalledError(ConnectionError):
    """A server has taken a request and not answered it."""


def download(url: str, part: Path, *, size: int, sha256: str, given_up: Event) -> None:
    """Make `part` the file at `url`, from wherever it ends now.

    Args:
        size: bytes of the whole file.
        given_up: set by whoever does not want it any more.

    Raises:
        UserError: there is no way to read such a URL.
        WorkError: it is not there, is another file each time, or no request went well.
        GivenUpError: `given_up` was set.
        OSError: the file here cannot be written; with its name.
    """
    shown = redacted(url)
    part.touch()
    with named_in_errors(part), part.open("r+b") as out:
        for _ in range(WRONG_TRIES):
            digest = _continued(out, size)
            found = _fetch_rest(url, out, digest, size=size, given_up=given_up)
            if found is None and digest.hexdigest() == sha256:
                return
            out.seek(0)
            out.truncate()
            found = found or f"its sha256 is {digest.hexdigest()}, the manifest says {sha256}"
    raise WorkError(f"{shown}: is not the file that the manifest names, in {WRONG_TRIES} tries: {found}")


def attempted(
    url: str,
    attempt: Callable[[Any, str], T],
    *,
    given_up: Event,
    on_stall: Callable[[], None] = lambda: None,
    what: str = "read",
    patience_s: float | None = None,
) -> T:
    """What `attempt` makes of an fsspec file system and the path of `url` on it, tried up to TRIES times.

    Args:
        on_stall: called after an attempt that had no answer.
        what: is tried, for the message.
        patience_s: time for an attempt; None: STALL_S.

    Raises:
        FileNotFoundError: there is no such file.
        NotImplementedError: such a store cannot do this.
        UserError, WorkError, GivenUpError: as `download`.
    """
    from fsspec.core import url_to_fs

    for tried in range(1, TRIES + 1):
        try:
            return _answered(
                lambda: attempt(*url_to_fs(url)), given_up, STALL_S if patience_s is None else patience_s
            )
        except (FileNotFoundError, NotImplementedError, UserError, GivenUpError):
            raise
        except PermissionError as error:
            raise WorkError(redacted(f"{url}: the store refuses it: {_told(error)}")) from error
        except (ImportError, ValueError) as error:
            raise UserError(redacted(f"{url}: fsspec cannot open it: {_told(error)}")) from error
        except Exception as error:  # each fsspec backend raises errors of its own library
            if tried == TRIES or _is_final(error):
                tries = "1 try" if tried == 1 else f"{tried} tries"
                raise WorkError(redacted(f"{url}: could not be {what} in {tries}: {_told(error)}")) from error
            if isinstance(error, StalledError):
                on_stall()
            if given_up.wait(_pause_s(tried)):
                raise GivenUpError from error
    raise AssertionError("unreachable")


def _fetch_rest(url: str, out: IO[bytes], digest: hashlib._Hash, *, size: int, given_up: Event) -> str | None:
    """Append what is missing; what is wrong with the file at `url`, if it is of another length."""
    ask = RANGE_BYTES

    def ask_for_less() -> None:
        nonlocal ask
        ask = max(ask // 4, LEAST_RANGE_BYTES)

    def request(fs: Any, path: str) -> tuple[bytes, int]:
        end = min(out.tell() + ask, size)
        return fs.cat_file(path, start=out.tell(), end=end), end

    while (start := out.tell()) < size:
        try:
            data, end = attempted(url, request, given_up=given_up, on_stall=ask_for_less)
        except FileNotFoundError as error:
            raise WorkError(
                f"{redacted(url)}: no such file in the store, but the manifest names it"
            ) from error
        if len(data) == size:
            data = data[start:end]  # by a server that knows no ranges
        if len(data) != end - start:
            return f"it ends at {start + len(data)}, the manifest says {size} bytes"
        if given_up.is_set():
            raise GivenUpError
        digest.update(data)
        out.write(data)
    out.flush()
    return None


def _continued(out: IO[bytes], size: int) -> hashlib._Hash:
    """The digest of what is there already, and `out` at its end."""
    digest = hashlib.sha256()
    out.seek(0)
    while chunk := out.read(_CHUNK):
        digest.update(chunk)
    if out.tell() > size:
        out.seek(0)
        out.truncate()
        return hashlib.sha256()
    return digest


def _answered(request: Callable[[], T], given_up: Event, patience_s: float) -> T:
    """What a request gives, in a thread that is left behind where the server is silent: such a read has no end."""
    result: Future[T] = Future()

    def work() -> None:
        try:
            result.set_result(request())
        except BaseException as error:  # raised below, in the thread that waits
            result.set_exception(error)

    Thread(target=work, daemon=True).start()
    waited_s = 0.0
    while not wait([result], _LOOK_UP_S).done:
        waited_s += _LOOK_UP_S
        if given_up.is_set():
            raise GivenUpError
        if waited_s >= patience_s:
            raise StalledError(f"no answer in {patience_s:g} s")
    return result.result()


def _pause_s(failures: int) -> float:
    return min(FIRST_WAIT_S * 2.0 ** (failures - 1), LONGEST_WAIT_S) * random.uniform(0.5, 1)


def _is_final(error: Exception) -> bool:
    """Whether the next try would meet the same."""
    status = getattr(error, "status", None)  # of HTTP, in aiohttp's errors
    refused = (
        isinstance(status, int) and (400 <= status < 500 or status == 501) and status not in (408, 425, 429)
    )
    return refused or type(error).__name__ == "NoCredentialsError"  # botocore's, which may not be installed


def _told(error: Exception) -> str:
    # Not its repr: aiohttp's holds the headers of the request, with its password.
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
