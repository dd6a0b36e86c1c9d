"""A packed set in, everything that is wrong with it out: every byte is read, every image decoded."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from srdist.machine.cores import usable_cores
from srdist.machine.errors import WorkError
from srdist.shards.manifest import Manifest
from srdist.shards.reader import BadSample, ShardIndex, read_into, read_manifest, sha256_of
from srdist.shards.remote import Place
from srdist.shards.tarwalk import DamagedTarError, walk
from srdist.shards.threads import in_threads


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was looked at, and one line for each thing that is wrong."""

    samples: int
    shards: int
    manifest_id: str
    problems: tuple[str, ...]


def verify(folder: str, *, threads: int | None = None) -> VerifyReport:
    """Check a set whole: manifest, index, sha256 of each tar, its members, crc32 and pixels of each sample.

    Raises:
        UserError: the manifest or an index is missing, damaged, or of another set.
    """
    place = Place(folder)
    manifest = read_manifest(place)
    threads = threads or min(16, usable_cores())
    problems = list(_strangers(place, manifest))
    indexes = [ShardIndex.open(folder, split) for split in manifest.splits]
    jobs = [(index, shard) for index in indexes for shard in range(len(index.entry.shards))]
    for of_shard in in_threads(lambda job: list(_check_shard(*job)), jobs, threads, "verifying shards"):
        problems += of_shard
    samples = sum(map(len, indexes))
    return VerifyReport(samples, len(jobs), manifest.manifest_id, tuple(problems))


def _strangers(place: Place, manifest: Manifest) -> Iterator[str]:
    if place.remote:
        return
    listed = {shard.file for entry in manifest.splits.values() for shard in entry.shards}
    for path in sorted(Path(place.name).glob("*.tar")):
        if path.name not in listed:
            yield f"{path}: a tar that the manifest does not know"


def _check_shard(index: ShardIndex, shard: int) -> Iterator[str]:
    entry = index.entry.shards[shard]
    shown = index.shard_path(shard)
    try:
        opened = index.place.open(entry)
    except OSError as error:
        yield f"{shown}: {error.strerror}: its {entry.samples} samples are missing"
        return
    except WorkError as error:
        yield str(error)
        return
    # Through what is open: a bounded cache may drop the file meanwhile.
    path = Path(f"/dev/fd/{opened}")
    try:
        size = path.stat().st_size
        if size != entry.bytes or sha256_of(path) != entry.sha256:
            yield f"{shown}: {size} bytes, not the {entry.bytes} bytes (or not the sha256) that were packed"
            yield from _check_members(index, shard, path)
            misplaced: dict[int, str] = {}
        else:
            misplaced = _misplaced(index, shard, path)
    finally:
        os.close(opened)
    yield from misplaced.values()
    for sample_id in _ids(index, shard):
        if sample_id in misplaced:
            continue
        height, width = index.sizes(np.array([sample_id]))[0]
        for member in index.members:
            smaller = index.lr_scale or 1 if member == "lr" else 1
            into = np.empty((height // smaller, width // smaller, 3), np.uint8)
            bad = read_into(index, sample_id, into, member=member)
            if bad is not None:
                yield str(bad)


def _ids(index: ShardIndex, shard: int) -> range:
    first = sum(index.shard_samples[:shard])
    return range(first, first + index.shard_samples[shard])


def _misplaced(index: ShardIndex, shard: int, path: Path) -> dict[int, str]:
    """What the index says wrongly of samples in a tar that is as it was packed: their shard, offset or key."""
    shown = index.shard_path(shard)
    held = {member.offset: member for member in walk(path)}
    wrong: dict[int, str] = {}
    for sample_id in _ids(index, shard):
        for which in index.members:
            record = index.bad(sample_id, "", member=which)
            found = held.get(record.offset)
            place = f"{shown}: sample {record.key} at offset {record.offset}"
            if record.shard != shown:
                wrong[sample_id] = f"{place}: the index has it in another shard than it counts it in"
            elif found is None:
                wrong[sample_id] = f"{place}: no such member there"
            elif found.key != record.key:
                wrong[sample_id] = f"{place}: the tar calls it {found.key}"
    return wrong


def _check_members(index: ShardIndex, shard: int, path: Path) -> Iterator[str]:
    """Compare the tar's members with the index: which is missing, moved, of another size, or twice."""
    shown = index.shard_path(shard)
    ids = _ids(index, shard)
    expected: dict[int, BadSample] = {}
    size_at: dict[int, int] = {}
    for member in index.members:
        sizes = index.data_sizes(np.array(ids), member=member).tolist()
        of_member = {record.offset: record for record in (index.bad(i, "", member=member) for i in ids)}
        expected |= of_member
        size_at |= dict(zip(of_member, sizes, strict=True))
    awaited = Counter(record.key for record in expected.values())
    seen: dict[str, int] = {}
    try:
        for found in walk(path):
            place = f"{shown}: member {found.name} at offset {found.offset}"
            if found.name in seen:
                yield f"{place}: a second time, first at {seen[found.name]}"
            elif awaited[found.key]:
                record = expected.pop(found.offset, None)
                awaited[found.key] -= record is not None and record.key == found.key
                if record is None or record.key != found.key:
                    yield f"{place}: not where the index has it"
                elif size_at[found.offset] != found.size:
                    yield f"{place}: its header says {found.size} bytes, the index {size_at[found.offset]}"
            seen.setdefault(found.name, found.offset)
    except DamagedTarError as error:
        after = min((offset for offset in expected if offset >= error.offset), default=None)
        key = f"before sample {expected[after].key} " if after is not None else ""
        yield f"{shown}: {error.reason}, {key}at offset {error.offset}"
    for record in expected.values():
        yield f"{shown}: sample {record.key} at offset {record.offset}: no such member there"
