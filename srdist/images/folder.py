"""A folder of images and all below it, in an order that every process agrees on: the one walker of srdist.

The walk holds the names of one folder and of those above it, however many images there are in all. Only regular files
are images, and only they are opened: a FIFO would be waited for, a link to /dev/zero never ends.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from srdist.images.decode import UnreadableImageError
from srdist.images.formats import FOREIGN_SUFFIXES, IMAGE_SUFFIXES
from srdist.machine.errors import UserError


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Folder:
    """What lies in one folder, as far as it is walked: its images and the folders below it."""

    prefix: str
    """Its path, with a slash at the end; "" at the top."""
    entries: list[bytes]
    """Names; of folders with a slash at the end, which sorts them among the files as their content will be."""
    links: frozenset[bytes]
    """Those of files that are symbolic links."""


class InputFile(NamedTuple):
    """One image as the file system shows it."""

    path: str
    """Relative to the folder of the walk, with slashes."""
    size: int
    """Bytes."""
    mtime_ns: int
    """Modification time."""
    folder: Folder
    """What lies beside it."""
    identity: tuple[int, int]
    """Device and inode: equal where links lead to one file by two paths."""
    is_link: bool
    """Whether the path itself is a symbolic link."""

    @classmethod
    def of(cls, path: str, status: os.stat_result, folder: Folder) -> InputFile:
        """A file by its status."""
        is_link = bool(folder.links) and os.fsencode(path.rpartition("/")[2]) in folder.links
        return cls(path, status.st_size, status.st_mtime_ns, folder, _identity(status), is_link)


@dataclass(slots=True)
class _Level:
    """A folder that is being walked: what is still to be visited in it, in order."""

    folder: Folder
    entries: Iterator[bytes]
    above: frozenset[tuple[int, int]]
    """Device and inode of the folder and of those above it."""


HIDDEN = "hidden"
"""Under this name skipped files and folders with a leading dot are counted."""


class Walk:
    """The image files of a folder and all below it (or one file), by path as bytes from the least to the greatest.

    Files are taken by their suffix (formats.IMAGE_SUFFIXES); hidden files and folders (a leading dot) are left out.
    Iterating raises a UserError where there is no image at all.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self.folder = source.parent if source.is_file() else source
        """What the paths are relative to."""
        self.links_not_followed: list[str] = []
        """Symbolic links that lead back to a folder above them, as far as they have been met."""
        self.unreadable: list[tuple[str, str]] = []
        """Images that could not be looked at or are no regular files, and folders (a slash at the end) that could not be listed; why."""
        self.others: Counter[str] = Counter()
        """Files that were skipped for their suffix, by this suffix in lower case; hidden files and folders under HIDDEN."""

    def __iter__(self) -> Iterator[InputFile]:
        if self.source.is_file():
            name = os.fsencode(self.source.name)
            folder = Folder("", [name], frozenset({name} if self.source.is_symlink() else ()))
            yield InputFile.of(self.source.name, self.source.stat(), folder)
            return
        if not self.source.is_dir():
            kind = kind_of(self.source.stat())
            raise UserError(f"{self.source}: is {kind}, expected a folder or an image file")
        empty = True
        for file in self._below():
            empty = False
            yield file
        if empty:
            what = f"{self.others.total()} other files" if self.others else "an empty folder"
            what += "".join(f"; {path}: {reason}" for path, reason in self.unreadable)
            raise UserError(
                f"{self.source}: no image in it ({what}); looked for .jpg, .png, .tif, .webp and so on"
            )

    def _below(self) -> Iterator[InputFile]:
        levels = [self._level("", frozenset({_identity(self.source.stat())}))]
        while levels:
            level = levels[-1]
            entry = next(level.entries, None)
            if entry is None:
                levels.pop()
                continue
            path = level.folder.prefix + os.fsdecode(entry)
            status = self._status(path)
            if status is None:
                continue
            if not entry.endswith(b"/"):
                if stat.S_ISREG(status.st_mode):
                    yield InputFile.of(path, status, level.folder)
                else:
                    self.unreadable.append((path, f"{kind_of(status)}, not a regular file"))
            elif (identity := _identity(status)) in level.above:
                self.links_not_followed.append(path.removesuffix("/"))
            else:
                try:
                    levels.append(self._level(path, level.above | {identity}))
                except OSError as error:
                    self.unreadable.append((path, f"the folder cannot be listed: {error.strerror}"))

    def _level(self, prefix: str, above: frozenset[tuple[int, int]]) -> _Level:
        names: list[bytes] = []
        links: set[bytes] = set()
        with os.scandir(os.fsencode(self.source / prefix)) as entries:
            for entry in entries:
                if entry.name.startswith(b"."):
                    self.others[HIDDEN] += 1
                    continue
                if _is_folder(entry):
                    names.append(entry.name + b"/")
                elif (suffix := suffix_of(os.fsdecode(entry.name)).lower()) in IMAGE_SUFFIXES:
                    names.append(entry.name)
                    if entry.is_symlink():
                        links.add(entry.name)
                elif suffix in FOREIGN_SUFFIXES:
                    reason = f"an image of a kind that is not read here ({suffix})"
                    self.unreadable.append((prefix + os.fsdecode(entry.name), reason))
                else:
                    self.others[suffix] += 1
        names.sort()
        return _Level(Folder(prefix, names, frozenset(links)), iter(names), above)

    def _status(self, path: str) -> os.stat_result | None:
        """Of the file or folder, or of a link that leads nowhere; None where there is none."""
        place = self.source / path
        try:
            try:
                return place.stat()
            except OSError:
                return place.lstat()
        except FileNotFoundError:  # removed just now
            return None
        except OSError as error:
            self.unreadable.append((path, f"cannot be looked at: {error.strerror}"))
            return None


def describe_others(others: Mapping[str, int]) -> str:
    """Which files were skipped, in words: `.txt 3, without an extension 1`; the ten most frequent."""
    named = [f"{suffix or 'without an extension'} {n:,}" for suffix, n in Counter(others).most_common(10)]
    return ", ".join(named) + (f" and {len(others) - 10} more kinds" if len(others) > 10 else "")


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading, and wait for nothing.

    Raises:
        UnreadableImageError: a FIFO, a device or a folder, perhaps put there since it was listed.
    """
    # O_NONBLOCK: a FIFO opens at once, and is then seen to be one. Regular files do not know it.
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(file)
    if stat.S_ISREG(status.st_mode):
        return os.fdopen(file, "rb")
    os.close(file)
    raise UnreadableImageError(f"{kind_of(status)}, not a regular file")


def read_regular(path: Path) -> bytes:
    """All bytes of a regular file; raises as `open_regular` does."""
    with open_regular(path) as file:
        return file.read()


def kind_of(status: os.stat_result) -> str:
    """What a path that should be a regular file is, with its article."""
    kinds = {
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFDIR: "a folder",
        stat.S_IFLNK: "a link that leads nowhere",
    }
    return kinds.get(stat.S_IFMT(status.st_mode), "a file")


def suffix_of(path: str) -> str:
    """From the last dot of a path's name on, "" where it has none (PurePath's takes ten times as long)."""
    dot = path.rfind(".")
    return path[dot:] if dot > path.rfind("/") + 1 else ""


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that cannot be followed
        return False


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
