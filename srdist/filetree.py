"""The inputs of a directory job: a folder (or one file) in, a plan out that every process agrees on.

The plan lists each image once, in sorted order, with its size in pixels and the path of its output, and cuts the
list into units of work of about equal pixels. It is a pure function of the folder's content, so that processes
that never talk to each other share out the same units.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from srdist.errors import UserError
from srdist.imaging import IMAGE_SUFFIXES
from srdist.photo import WRITABLE, OutputFormat, probe_size
from srdist.wholefile import whole_file

UNITS = 256
"""Units that a large job is cut into, if their size stays between the two bounds below."""
MIN_UNIT_PIXELS = 1 << 16
"""LR pixels of a unit, at least: below, claiming costs more than it balances."""
MAX_UNIT_PIXELS = 1 << 23
"""LR pixels of a unit, at most (a single larger image is a unit): what a killed process may leave half done."""
MAX_UNIT_IMAGES = 256
"""Images of a unit, at most."""
PROBED_AT_A_TIME = 1024
"""Headers that are handed to the threads in one go."""


@dataclass(frozen=True, slots=True)
class Item:
    """One input image and where its output goes."""

    path: str
    """Relative to SRC, with slashes."""
    output: str
    """Relative to DST, with slashes."""
    size: int
    """Bytes of the input file."""
    mtime_ns: int
    """Modification time of the input file."""
    pixels: int
    """Width times height from the header; 0 where it cannot be read."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All inputs, and their cut into units."""

    digest: str
    """Of the listing: names, sizes, times and output names."""
    items: tuple[Item, ...]
    units: tuple[range, ...]
    """Positions in `items`; together each position once, in order."""
    skipped_links: tuple[str, ...]
    """Symbolic links to folders that lead back to a folder above them, not followed."""
    unreadable: tuple[tuple[str, str], ...]
    """What could not be listed, and why (see Listing)."""


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


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies in a folder and all below it. Paths are relative to it, sorted."""

    files: list[tuple[str, int, int]]
    """The images: path, bytes, modification time in ns."""
    links_not_followed: list[str]
    """Symbolic links that lead back to a folder above them."""
    unreadable: list[tuple[str, str]]
    """Folders below that could not be listed, other entries that could not be looked at, and why."""


def list_inputs(source: Path) -> Listing:
    """The image files of a folder and all below it (or the one file).

    Files are taken by their suffix (imaging.IMAGE_SUFFIXES); hidden files and folders (a leading dot) are left out.

    Raises:
        UserError: there is none.
    """
    if source.is_file():
        return Listing([_file(source.name, source.stat())], [], [])
    found: list[tuple[str, int, int]] = []
    loops: list[str] = []
    unreadable: list[tuple[str, str]] = []
    others = 0
    folders = [(source, "", frozenset({_identity(source.stat())}))]
    while folders:
        folder, prefix, above = folders.pop()
        try:
            with os.scandir(folder) as entries:
                inside = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            if not prefix:
                raise
            unreadable.append((prefix, f"the folder cannot be listed: {error.strerror}"))
            continue
        for entry in inside:
            name = prefix + entry.name
            try:
                status = _status(entry)
            except FileNotFoundError:  # removed just now
                continue
            except OSError as error:
                unreadable.append((name, f"cannot be looked at: {error.strerror}"))
                continue
            if entry.is_dir():
                identity = _identity(status)
                if identity in above:
                    loops.append(name)
                else:
                    folders.append((Path(entry.path), f"{name}/", above | {identity}))
            elif PurePosixPath(entry.name).suffix.lower() in IMAGE_SUFFIXES:
                found.append(_file(name, status))
            else:
                others += 1
    if not found:
        what = f"{others} other files" if others else "an empty folder"
        what += "".join(f"; {path}: {reason}" for path, reason in sorted(unreadable))
        raise UserError(f"{source}: no image in it ({what}); looked for {' '.join(sorted(IMAGE_SUFFIXES))}")
    return Listing(sorted(found), sorted(loops), sorted(unreadable))


def output_names(paths: Sequence[str], *, output_format: OutputFormat | None) -> list[str]:
    """Where each input's output goes, relative to DST: the same path, with the suffix of the output's format.

    Where several inputs would meet in one output (`a.jpg` and `a.png` with --format png), the one that has that
    very name keeps it; the others keep their whole name before the new suffix: `a.jpg.png`.
    """
    wanted = [_with_suffix(path, output_format) for path in paths]
    folders = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    count = Counter(wanted)
    taken = set(folders) | {path for path, want in zip(paths, wanted, strict=True) if path == want}
    outputs = []
    for path, want in zip(paths, wanted, strict=True):
        name = want
        if path != want and (count[want] > 1 or want in folders):
            name = path + PurePosixPath(want).suffix
            while name in taken or count[name]:
                name = str(PurePosixPath(name).with_suffix("")) + "_" + PurePosixPath(want).suffix
            taken.add(name)
        outputs.append(name)
    return outputs


def make_plan(
    source: Path, listing: Listing, *, output_format: OutputFormat | None, cache: Path, scratch: Path
) -> Plan:
    """Read the inputs' sizes in pixels and cut them into units.

    Args:
        listing: of list_inputs.
        cache: folder where the sizes are kept, under the digest of the listing: reading a million headers takes minutes.
        scratch: folder for the temporary file of that.
    """
    files = listing.files
    paths = [path for path, _, _ in files]
    outputs = output_names(paths, output_format=output_format)
    hashed = hashlib.sha256()
    for file, output in zip(files, outputs, strict=True):
        hashed.update(json.dumps([*file, output]).encode() + b"\n")
    digest = hashed.hexdigest()
    pixels = _cached_sizes(cache / f"{digest}.json", source, paths, scratch=scratch)
    items = tuple(
        Item(path, output, size, mtime_ns, count)
        for (path, size, mtime_ns), output, count in zip(files, outputs, pixels, strict=True)
    )
    units = tuple(cut_units([item.pixels for item in items]))
    return Plan(digest, items, units, tuple(listing.links_not_followed), tuple(listing.unreadable))


def cut_units(pixels: Sequence[int]) -> Iterator[range]:
    """Runs of positions of about equal pixels."""
    limit = min(max(sum(pixels) // UNITS, MIN_UNIT_PIXELS), MAX_UNIT_PIXELS)
    start, total = 0, 0
    for i, count in enumerate(pixels):
        if i > start and (total + count > limit or i - start == MAX_UNIT_IMAGES):
            yield range(start, i)
            start, total = i, 0
        total += count
    yield range(start, len(pixels))


def _cached_sizes(cache: Path, source: Path, paths: Sequence[str], *, scratch: Path) -> list[int]:
    try:
        kept: list[int] = json.loads(cache.read_bytes())
        if len(kept) == len(paths):
            return kept
    except (ValueError, OSError):
        pass  # not there yet, or damaged: read the headers
    folder = source.parent if source.is_file() else source

    def count(path: str) -> int:
        width, height = probe_size(folder / path)
        return width * height

    pixels: list[int] = []
    with ThreadPoolExecutor(8) as pool:
        for first in range(0, len(paths), PROBED_AT_A_TIME):  # each that waits for its turn takes 2 kB
            pixels += pool.map(count, paths[first : first + PROBED_AT_A_TIME])
    with whole_file(cache, scratch=scratch) as temporary:
        temporary.write_text(json.dumps(pixels))
    for old in cache.parent.glob("*.json"):
        if old.name != cache.name:
            old.unlink(missing_ok=True)
    return pixels


def _with_suffix(path: str, output_format: OutputFormat | None) -> str:
    pure = PurePosixPath(path)
    suffix = pure.suffix.lower()
    if output_format is None:
        return path if suffix in WRITABLE else str(pure.with_suffix(".png"))
    if WRITABLE.get(suffix) == WRITABLE[f".{output_format}"]:
        return path
    return str(pure.with_suffix(f".{output_format}"))


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    """Of the file or folder; of the link itself where it leads nowhere, so that reading it fails by name."""
    try:
        return entry.stat()
    except OSError:
        return entry.stat(follow_symlinks=False)


def _file(name: str, status: os.stat_result) -> tuple[str, int, int]:
    return name, status.st_size, status.st_mtime_ns


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
