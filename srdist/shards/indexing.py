"""Tars to an index: of another tool's WebDataset tars, or again of our own.

What becomes a sample: each member whose name ends like an image (or in `member`, where given). Its key is
webdataset's: the path up to the first dot of its last part. Two images under one key are refused, not chosen
from. Members that are no images (.json, .txt, .cls, ...) are skipped.
"""

from __future__ import annotations

import os
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from srdist.images.decode import UnreadableImageError
from srdist.images.formats import IMAGE_SUFFIXES
from srdist.machine import files as wholefile
from srdist.machine.cores import usable_cores
from srdist.machine.errors import UserError, WorkError
from srdist.shards.checking import TooSmallError, check_image
from srdist.shards.manifest import MANIFEST, Manifest, ShardEntry, SplitEntry
from srdist.shards.manifest import Source as ManifestSource
from srdist.shards.packreport import PackReport
from srdist.shards.plan import unprintable
from srdist.shards.reader import read_manifest
from srdist.shards.remote import Place
from srdist.shards.setfiles import shard_entry, write_index, write_left_out
from srdist.shards.tarwalk import DamagedTarError, Member, walk
from srdist.shards.threads import in_threads


@dataclass(slots=True)
class Scan:
    """What one tar holds: records of its images (without the shard's number), and what was left out."""

    file: str
    records: list[tuple[int, int, int, int, int, str]] = field(default_factory=list)
    left_out: list[tuple[str, str, str]] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    entry: ShardEntry | None = None


def index_tars(
    folder: Path, *, split: str | None = None, member: str | None = None, threads: int | None = None
) -> PackReport:
    """Write index and manifest for the tars in a folder (and the folders below it).

    A tar's split is its first folder, or its name without the number at the end (`train-0001.tar`: train;
    `0001.tar`: train), or `split` for all. For a set of our own the index is rebuilt and must come out as the
    manifest says.

    Args:
        member: take only members whose name after the key is this, as in `jpg` or `hr.png`.

    Raises:
        UserError: no tar, compressed tars, two images under one key.
        WorkError: a damaged tar, no usable image, or our own tars changed since they were packed.
    """
    threads = threads or min(16, usable_cores())
    before = _manifest(folder)
    if before is not None and before.made_by == "pack":
        if split is not None or member is not None:
            raise UserError(f"{folder}: packed by srdist: --split and --member are for tars of other tools")
        return _rebuild(folder, before, threads)
    by_split = _tars(folder, split)
    (folder / MANIFEST).unlink(missing_ok=True)
    splits: dict[str, SplitEntry] = {}
    left_out: list[tuple[str, str, str]] = []
    others: Counter[str] = Counter()
    for name, files in by_split.items():
        scans = list(in_threads(lambda file: _scan(folder, file, member), files, threads, f"indexing {name}"))
        left_out += [entry for scan in scans for entry in scan.left_out]
        for scan in scans:
            others += scan.others
        if any(scan.records for scan in scans):
            splits[name] = _write(folder, name, scans)
    if not splits:
        raise WorkError(f"{folder}: no image that can be used in its tars" + _first(left_out))
    manifest = Manifest(
        made_by="index",
        source=ManifestSource(
            name=folder.resolve().name,
            images=sum(entry.samples for entry in splits.values()) + len(left_out),
        ),
        pack_seed=None,
        left_out=dict(sorted(Counter(kind for _, kind, _ in left_out).items())),
        splits=splits,
    )
    write_left_out(folder, sorted(left_out))
    wholefile.write_bytes(folder / MANIFEST, manifest.to_json())
    return PackReport.of(manifest, others)


def _manifest(folder: Path) -> Manifest | None:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    if not (folder / MANIFEST).exists():
        return None
    try:
        return read_manifest(Place(str(folder)))
    except UserError as error:
        raise UserError(f"{error} (or remove it, and index what the tars hold now)") from error


def _tars(folder: Path, split: str | None) -> dict[str, list[str]]:
    files = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.tar")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not files:
        packed = next(iter([*folder.rglob("*.tgz"), *folder.rglob("*.tar.*")]), None)
        advice = f": {packed.name} is compressed, unpack it first" if packed else ""
        raise UserError(f"{folder}: no .tar in it{advice}")
    by_split: dict[str, list[str]] = {}
    for file in files:
        by_split.setdefault(split or split_of(file), []).append(file)
    return by_split


def split_of(file: str) -> str:
    """The split that a tar's path says: its first folder, else its name without its number, else train."""
    first, slash, _ = file.partition("/")
    name = first if slash else re.sub(r"[-_.]?\d+$", "", file.removesuffix(".tar"))
    return re.sub(r"[^A-Za-z0-9_-]", "_", name) or "train"


def _scan(folder: Path, file: str, member: str | None) -> Scan:
    scan = Scan(file)
    path = folder / file
    seen: dict[str, Member] = {}
    with path.open("rb") as tar:
        try:
            for one in walk(path):
                ending = one.name[len(one.key) + 1 :].lower()
                if (
                    ending != member.lower()
                    if member
                    else Path(one.name).suffix.lower() not in IMAGE_SUFFIXES
                ):
                    scan.others[f".{ending}"] += 1
                    continue
                _refuse_second(path, seen.setdefault(one.key, one), one)
                data = os.pread(tar.fileno(), one.size, one.offset)
                _add(scan, one, data)
        except DamagedTarError as error:
            raise WorkError(f"{path}: {error}") from error
    if scan.records:
        scan.entry = shard_entry(path, len(scan.records), name=file)
    return scan


def _add(scan: Scan, member: Member, data: bytes) -> None:
    name = f"{scan.file}:{member.name}"
    if problem := unprintable(member.name):
        scan.left_out.append((ascii(name)[1:-1], "name", problem))
        return
    try:
        height, width = check_image(data, min_side=1)
    except UnreadableImageError as error:
        scan.left_out.append((name, "unreadable", str(error)))
    except TooSmallError as error:
        scan.left_out.append((name, "too small", str(error)))
    else:
        scan.records.append((member.offset, member.size, zlib.crc32(data), height, width, member.key))


def _refuse_second(path: Path, first: Member, later: Member) -> None:
    if first is later:
        return
    if first.name == later.name:
        raise WorkError(f"{path}: member {later.name} twice, at offsets {first.offset} and {later.offset}")
    ending = later.name[len(later.key) + 1 :]
    raise UserError(
        f"{path}: two images under one key {later.key!r}: {first.name} and {later.name}: "
        f"say which with --member {ending}"
    )


def _write(folder: Path, split: str, scans: Sequence[Scan]) -> SplitEntry:
    used = [scan for scan in scans if scan.entry is not None]
    records = [(shard, *record) for shard, scan in enumerate(used) for record in scan.records]
    return write_index(folder, split, records, [scan.entry for scan in used if scan.entry is not None])


def _rebuild(folder: Path, manifest: Manifest, threads: int) -> PackReport:
    for name, entry in manifest.splits.items():
        files = [shard.file for shard in entry.shards]
        for file in files:
            if not (folder / file).is_file():
                raise WorkError(f"{folder / file}: a shard of the set is missing: pack the set again")
        scans = list(in_threads(lambda file: _scan(folder, file, None), files, threads, f"indexing {name}"))
        for scan, shard in zip(scans, entry.shards, strict=True):
            if scan.entry != shard:
                raise WorkError(
                    f"{folder / shard.file}: not the tar that was packed (sha256 or samples differ): "
                    f"pack the set again, or remove {MANIFEST} to index what is there now"
                )
        _write(folder, name, scans)
    return PackReport.of(manifest, Counter())


def _first(left_out: list[tuple[str, str, str]]) -> str:
    return f": {left_out[0][0]}: {left_out[0][2]}" if left_out else ""
