"""Where each image's output goes: inputs of a walk in, paths below DST out, and what SRC and DST may be to each other."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from weakref import WeakKeyDictionary

from srdist.images.folder import Folder, InputFile, suffix_of
from srdist.images.photo import WRITABLE, OutputFormat
from srdist.machine.errors import UserError


class Outputs:
    """Output names of the files of a walk: the usual one, or another where that one is taken in its folder."""

    def __init__(self, output_format: OutputFormat | None) -> None:
        self._format = output_format
        # Of the folders that are being walked: the walk lets go of each when it has left it.
        self._unusual: WeakKeyDictionary[Folder, dict[str, str]] = WeakKeyDictionary()

    def of(self, file: InputFile) -> str:
        """Where a file's output goes, relative to DST."""
        unusual = self._unusual.get(file.folder)
        if unusual is None:
            unusual = self._unusual[file.folder] = self._unusual_in(file.folder)
        if unusual and (name := unusual.get(file.path.removeprefix(file.folder.prefix))):
            return file.folder.prefix + name
        return usual_output(file.path, output_format=self._format)

    def _unusual_in(self, folder: Folder) -> dict[str, str]:
        return unusual_outputs(
            [os.fsdecode(name) for name in folder.entries if not name.endswith(b"/")],
            {os.fsdecode(name[:-1]) for name in folder.entries if name.endswith(b"/")},
            output_format=self._format,
        )


def refuse_overlap(source: Path, destination: Path) -> None:
    """Refuse a source that is missing and a destination that is, holds or lies in the source folder."""
    if not source.exists():
        raise UserError(f"{source}: no such file or folder")
    if source.is_file():
        return
    try:
        src, dst = source.resolve(), destination.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a loop
        raise UserError(f"{destination}: no place for outputs: {error}") from error
    if src == dst:
        raise UserError(f"{destination}: DST is SRC itself, choose another folder for the outputs")
    if dst.is_relative_to(src):
        raise UserError(f"{destination}: DST lies inside SRC {source}, its outputs would become inputs")
    if src.is_relative_to(dst):
        raise UserError(f"{source}: SRC lies inside DST {destination}, outputs could fall among the inputs")


def leads_into(path: Path, destination: Path) -> bool:
    """Whether a link leads to a file in DST: an output would become an input."""
    return path.resolve().is_relative_to(destination.resolve())


def refuse_overlap_below(source: Path, folder: Path, paths: Iterable[str], destination: Path) -> None:
    """Refuse where links to folders inside SRC or DST bring the two together: an input would be overwritten, or an output read.

    Args:
        folder: what the paths are relative to.
        paths: of all inputs' outputs if SRC is one file, else of all inputs.
    """
    if source.is_file():
        for path in paths:
            if (destination / path).resolve() == source.resolve():
                raise UserError(f"{destination}: the output would replace its input {source}")
        return
    prefixes = dict.fromkeys(path.rpartition("/")[0] for path in paths)
    real_source, real_destination = source.resolve(), destination.resolve()
    places = {prefix: (folder / prefix).resolve() for prefix in prefixes}
    where = {place: prefix for prefix, place in places.items()}
    above = {os.fspath(parent) for prefix in prefixes for parent in Path(prefix).parents if prefix}
    for prefix in sorted(above | prefixes.keys()):
        if prefix not in ("", ".") and real_destination.is_relative_to((folder / prefix).resolve()):
            raise UserError(
                f"{folder / prefix}: leads to a folder that holds DST {destination}, outputs would become inputs"
            )
    for prefix, place in places.items():
        if place.is_relative_to(real_destination):
            raise UserError(f"{folder / prefix}: leads into DST {destination}, outputs would become inputs")
    for prefix in prefixes:
        target = (destination / prefix).resolve()
        if target in where or target.is_relative_to(real_source):
            raise UserError(f"{destination / prefix}: leads into SRC {source}, outputs could replace inputs")


def usual_output(path: str, *, output_format: OutputFormat | None) -> str:
    """Where an input's output goes, relative to DST: the same path, with the suffix of the output's format."""
    suffix = suffix_of(path)
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
        output = usual_output(name, output_format=output_format)
        if output == name or output not in shared:
            continue
        suffix = suffix_of(output)
        other = name + suffix
        while other in taken or _is_in(usual, other):
            other = f"{other.removesuffix(suffix)}_{suffix}"
        taken.add(other)
        given[name] = other
    return given


def _is_in(ordered: Sequence[str], name: str) -> bool:
    place = bisect_left(ordered, name)
    return place < len(ordered) and ordered[place] == name
