"""A folder of images and all below it, in an order that every process agrees on, and where each image's output goes.

The walk holds the names of one folder and of those above it, however many images there are in all.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from srdist.errors import UserError
from srdist.imaging import IMAGE_SUFFIXES
from srdist.photo import WRITABLE, OutputFormat


class InputFile(NamedTuple):
    """One image as the file system shows it."""

    path: str
    """Relative to the folder, with slashes."""
    size: int
    """Bytes."""
    mtime_ns: int
    """Modification time."""
    output: str
    """Where its output goes, relative to DST."""


@dataclass(slots=True)
class _Level:
    """A folder that is being walked: what is still to be visited in it, in order."""

    prefix: str
    """Its path, with a slash at the end; "" at the top."""
    entries: Iterator[bytes]
    """Names; of folders with a slash at the end, which sorts them among the files as their content will be."""
    unusual: dict[str, str]
    """Output names of the files whose usual one is taken."""
    above: frozenset[tuple[int, int]]
    """Device and inode of the folder and of those above it."""


class Walk:
    """The image files of a folder and all below it (or one file), by path as bytes from the least to the greatest.

    Files are taken by their suffix (imaging.IMAGE_SUFFIXES); hidden files and folders (a leading dot) are left out.
    Iterating raises a UserError where there is no image at all.
    """

    def __init__(self, source: Path, *, output_format: OutputFormat | None = None) -> None:
        self.source = source
        self.folder = source.parent if source.is_file() else source
        """What the paths are relative to."""
        self.links_not_followed: list[str] = []
        """Symbolic links that lead back to a folder above them, as far as they have been met."""
        self.unreadable: list[tuple[str, str]] = []
        """Folders below that could not be listed, images that could not be looked at, and why."""
        self._format = output_format
        self._others = 0

    def __iter__(self) -> Iterator[InputFile]:
        if self.source.is_file():
            yield self._file(self.source.name, self.source.stat())
            return
        empty = True
        for file in self._below():
            empty = False
            yield file
        if empty:
            what = f"{self._others} other files" if self._others else "an empty folder"
            what += "".join(f"; {path}: {reason}" for path, reason in self.unreadable)
            suffixes = " ".join(sorted(IMAGE_SUFFIXES))
            raise UserError(f"{self.source}: no image in it ({what}); looked for {suffixes}")

    def _below(self) -> Iterator[InputFile]:
        levels = [self._level("", frozenset({_identity(self.source.stat())}))]
        while levels:
            level = levels[-1]
            entry = next(level.entries, None)
            if entry is None:
                levels.pop()
                continue
            path = level.prefix + os.fsdecode(entry)
            status = self._status(path.removesuffix("/"))
            if status is None:
                continue
            if not entry.endswith(b"/"):
                yield self._file(path, status, level.unusual.get(os.fsdecode(entry)))
            elif (identity := _identity(status)) in level.above:
                self.links_not_followed.append(path.removesuffix("/"))
            else:
                try:
                    levels.append(self._level(path, level.above | {identity}))
                except OSError as error:
                    self.unreadable.append((path, f"the folder cannot be listed: {error.strerror}"))

    def _level(self, prefix: str, above: frozenset[tuple[int, int]]) -> _Level:
        files: list[bytes] = []
        folders: list[bytes] = []
        with os.scandir(os.fsencode(self.source / prefix)) as entries:
            for entry in entries:
                if entry.name.startswith(b"."):
                    continue
                if _is_folder(entry):
                    folders.append(entry.name + b"/")
                elif _suffix(os.fsdecode(entry.name)).lower() in IMAGE_SUFFIXES:
                    files.append(entry.name)
                else:
                    self._others += 1
        files.sort()
        unusual = unusual_outputs(
            [os.fsdecode(name) for name in files],
            {os.fsdecode(name[:-1]) for name in folders},
            output_format=self._format,
        )
        files += folders
        files.sort()
        return _Level(prefix, iter(files), unusual, above)

    def _status(self, path: str) -> os.stat_result | None:
        """Of the file or folder, or of a link that leads nowhere: reading it will fail by name; None where there is none."""
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

    def _file(self, path: str, status: os.stat_result, name: str | None = None) -> InputFile:
        folder, _, _ = path.rpartition("/")
        usual = usual_output(path, output_format=self._format)
        output = usual if name is None else f"{folder}/{name}" if folder else name
        return InputFile(path, status.st_size, status.st_mtime_ns, output)


def refuse_overlap(source: Path, destination: Path) -> None:
    """Refuse a source that is missing and a destination that is, holds or lies in the source folder."""
    if not source.exists():
        raise UserError(f"{source}: no such file or folder")
    if source.is_file():
        return
    src, dst = source.resolve(), destination.resolve()
    if src == dst:
        raise UserError(f"{destination}: DST is SRC itself, choose another folder for the outputs")
    if dst.is_relative_to(src):
        raise UserError(f"{destination}: DST lies inside SRC {source}, its outputs would become inputs")
    if src.is_relative_to(dst):
        raise UserError(f"{source}: SRC lies inside DST {destination}, outputs could fall among the inputs")


def usual_output(path: str, *, output_format: OutputFormat | None) -> str:
    """Where an input's output goes, relative to DST: the same path, with the suffix of the output's format."""
    suffix = _suffix(path)
    stem, kind = path.removesuffix(suffix), WRITABLE.get(suffix.lower())
    if output_format is None:
        return path if kind else f"{stem}.png"
    return path if kind == WRITABLE[f".{output_format}"] else f"{stem}.{output_format}"


def unusual_outputs(
    names: Sequence[str], folders: set[str], *, output_format: OutputFormat | None
) -> dict[str, str]:
    """Output names of the files of one folder that cannot have their usual one.

    Where several inputs would meet in one output (`a.jpg` and `a.png` with --format png), the one that has that
    very name keeps it; the others keep their whole name before the new suffix: `a.jpg.png`.

    Args:
        names: of the files, without their folder.
        folders: names of the folders beside them.
    """
    usual = sorted(usual_output(name, output_format=output_format) for name in names)
    shared = {one for one, other in pairwise(usual) if one == other} | folders
    given: dict[str, str] = {}
    taken = set(folders)
    for name in names if shared else ():
        wanted = usual_output(name, output_format=output_format)
        if wanted == name or wanted not in shared:
            continue
        suffix = _suffix(wanted)
        other = name + suffix
        while other in taken or _is_in(usual, other):
            other = f"{other.removesuffix(suffix)}_{suffix}"
        taken.add(other)
        given[name] = other
    return given


def _suffix(path: str) -> str:
    """From the last dot on: of an image's path, its suffix (PurePath's takes ten times as long)."""
    _, dot, suffix = path.rpartition(".")
    return dot + suffix


def _is_in(ordered: Sequence[str], wanted: str) -> bool:
    place = bisect_left(ordered, wanted)
    return place < len(ordered) and ordered[place] == wanted


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that cannot be followed
        return False


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
