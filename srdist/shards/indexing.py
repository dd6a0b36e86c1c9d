"""Tars to an index: of another tool's WebDataset tars, or again of our own.

What becomes a sample: each member whose name ends like an image (or in `member`, where given). Its key is
webdataset's: the path up to the first dot of its last part. Two images under one key are refused, not chosen
from, but where `lr_member` says which of them is LR. Members that are no images (.json, .txt, .cls, ...) are skipped.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from srdist.machine import files as wholefile
from srdist.machine.cores import usable_cores
from srdist.machine.errors import UserError, WorkError
from srdist.shards.manifest import MANIFEST, Manifest, SplitEntry
from srdist.shards.manifest import Source as ManifestSource
from srdist.shards.packreport import PackReport
from srdist.shards.pairing import one_scale
from srdist.shards.reader import read_manifest
from srdist.shards.remote import Place
from srdist.shards.scanning import PACKED_PAIRS, Members, Scan, leave_misfits_out, scan_tar
from srdist.shards.setfiles import write_index, write_left_out
from srdist.shards.threads import in_threads


def index_tars(
    folder: Path,
    *,
    split: str | None = None,
    member: str | None = None,
    lr_member: str | None = None,
    scale: int | None = None,
    threads: int | None = None,
) -> PackReport:
    """Write index and manifest for the tars in a folder (and the folders below it).

    A tar's split is its first folder, or its name without the number at the end (`train-0001.tar`: train;
    `0001.tar`: train), or `split` for all. For a set of our own the index is rebuilt and must come out as the
    manifest says.

    Args:
        member: take only members whose name after the key is this, as in `jpg` or `hr.png`.
        lr_member: that of the LR image that each sample has beside it, as in `lr.png`; None: HR images alone.
        scale: of the pairs; None: the one that all have.

    Raises:
        UserError: no tar, compressed tars, a split that is no name of a file, two images under one key, pairs of several scales.
        WorkError: a damaged tar, no usable image, or our own tars changed since they were packed.
    """
    threads = threads or min(16, usable_cores())
    before = _manifest(folder)
    if before is not None and before.made_by == "pack":
        if any(option is not None for option in (split, member, lr_member, scale)):
            raise UserError(
                f"{folder}: packed by srdist: --split, --member, --lr-member and --scale are for tars of other tools"
            )
        return _rebuild(folder, before, threads)
    members = _members(member, lr_member, scale)
    if split is not None and not re.fullmatch(r"[A-Za-z0-9_-]+", split):
        raise UserError(f"--split: found {split!r}, expected letters, digits, _ and -")
    by_split = _tars(folder, split)
    (folder / MANIFEST).unlink(missing_ok=True)
    splits: dict[str, SplitEntry] = {}
    left_out: list[tuple[str, str, str]] = []
    others: Counter[str] = Counter()
    scans = {
        name: list(
            in_threads(lambda file: scan_tar(folder, file, members), files, threads, f"indexing {name}")
        )
        for name, files in by_split.items()
    }
    every = list(chain.from_iterable(scans.values()))
    lr_scale = None
    if members.pairs:
        sides = chain.from_iterable(scan.sides for scan in every)
        lr_scale = one_scale(sides, asked=scale, source=str(folder), how="--scale N")
        for scan in every:
            leave_misfits_out(scan, lr_scale)
    for scan in every:
        left_out += scan.left_out
        others += scan.others
    for name, of_split in scans.items():
        if any(scan.records for scan in of_split):
            splits[name] = _write(folder, name, of_split, pairs=members.pairs)
    if not splits:
        raise WorkError(f"{folder}: no image that can be used in its tars" + _first(left_out))
    manifest = Manifest(
        made_by="index",
        source=ManifestSource(
            name=folder.resolve().name,
            images=sum(entry.samples for entry in splits.values()) + len(left_out),
        ),
        pack_seed=None,
        lr_scale=lr_scale,
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


def _members(hr: str | None, lr: str | None, scale: int | None) -> Members:
    """Which members are wanted; both endings of a pair must be given, and differ."""
    if lr is None:
        if scale is not None:
            raise UserError(f"--scale {scale}: is that of pairs: give --lr-member as well")
        return Members(hr)
    if hr is None or hr.lower() == lr.lower():
        raise UserError(f"--lr-member {lr}: give --member as well, the ending of HR, which is another one")
    return Members(hr, lr)


def _write(folder: Path, split: str, scans: Sequence[Scan], *, pairs: bool) -> SplitEntry:
    used = [scan for scan in scans if scan.entry is not None]
    records = [record._replace(shard=shard) for shard, scan in enumerate(used) for record in scan.records]
    entries = [scan.entry for scan in used if scan.entry is not None]
    return write_index(folder, split, records, entries, pairs=pairs)


def _rebuild(folder: Path, manifest: Manifest, threads: int) -> PackReport:
    pairs = manifest.lr_scale is not None
    members = PACKED_PAIRS if pairs else Members()
    for name, entry in manifest.splits.items():
        files = [shard.file for shard in entry.shards]
        for file in files:
            if not (folder / file).is_file():
                raise WorkError(f"{folder / file}: a shard of the set is missing: pack the set again")
        scans = list(
            in_threads(lambda file: scan_tar(folder, file, members), files, threads, f"indexing {name}")
        )
        for scan, shard in zip(scans, entry.shards, strict=True):
            if scan.entry != shard:
                raise WorkError(
                    f"{folder / shard.file}: not the tar that was packed (sha256 or samples differ): "
                    f"pack the set again, or remove {MANIFEST} to index what is there now"
                )
        _write(folder, name, scans, pairs=pairs)
    return PackReport.of(manifest, Counter())


def _first(left_out: list[tuple[str, str, str]]) -> str:
    return f": {left_out[0][0]}: {left_out[0][2]}" if left_out else ""
