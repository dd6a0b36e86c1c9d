"""Files that appear whole or not at all: written beside their place, synced, then renamed into it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole_file(path: Path, *, scratch: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit it is synced and takes the name `path`.

    On an exception the temporary file is removed and `path` is as it was before. The temporary name starts
    with a dot and ends in the suffix of `path`, so that writers that look at the suffix do the right thing.

    Args:
        scratch: folder for the temporary file instead, on the same file system.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        prefix=f".{path.stem[:80]}.", suffix=f".tmp{path.suffix}", dir=scratch or path.parent
    )
    os.close(handle)
    temporary = Path(name)
    try:
        with named_in_errors(path, instead_of=temporary):
            yield temporary
            # mkstemp makes files of mode 0600: give the mode that open() would have given.
            temporary.chmod(0o666 & ~_umask())
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def named_file(path: Path, *, scratch: Path | None = None) -> Iterator[Path]:
    """As `whole_file`, for an output that a user names: a link is followed, and a device or FIFO is written into."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        with whole_file(Path(os.path.realpath(path)), scratch=scratch) as temporary:
            yield temporary
        return
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / path.name
        yield temporary
        with named_in_errors(path), temporary.open("rb") as made, path.open("wb") as file:
            shutil.copyfileobj(made, file)


def write_named(path: Path, data: bytes) -> None:
    """Write `data` to an output that a user names (see `named_file`)."""
    with named_file(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def named_in_errors(path: Path, *, instead_of: Path | None = None) -> Iterator[None]:
    """Put `path` into an OSError without a file name, as of a write to a full disk, or with that of a temporary file."""
    try:
        yield
    except OSError as error:
        if error.filename is None or str(error.filename) == str(instead_of):
            error.filename = str(path)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` as the whole file `path`."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; NaN and infinity are refused, being no JSON."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def sync(path: Path) -> None:
    """fsync one file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@functools.cache
def _umask() -> int:
    """Read once, and without setting it where the system tells: it is the process's, and other threads make files."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
