"""Images to shards: a folder and a recipe in; tars with the original bytes, index and manifest out.

Deterministic: the same images and recipe give the same bytes. Every image is decoded once, strictly, so that
what is damaged is found now and not in the middle of a training. The new set takes the place of an older one
only when all of it is written: see `publish`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
import tempfile
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from webdataset.writer import TarWriter

from srdist.images.decode import UnreadableImageError, decode_into, image_size
from srdist.images.folder import read_regular
from srdist.machine import files as wholefile
from srdist.machine.cores import usable_cores
from srdist.machine.errors import UserError, WorkError
from srdist.shards.manifest import (
    LEFT_OUT,
    MANIFEST,
    IndexEntry,
    Manifest,
    ShardEntry,
    SplitEntry,
    ids_hash,
    parse_manifest,
)
from srdist.shards.manifest import Source as ManifestSource
from srdist.shards.permutation import PACKING, permute, stream_keys
from srdist.shards.reader import MAX_BYTES, MAX_SIDE, build_index, sha256_of
from srdist.shards.recipe import Recipe, Source, plan
from srdist.shards.remote import Place

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Checked:
    """An image that was read and decoded: what the index says of it."""

    source: Source
    size: int
    crc32: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class PackReport:
    """What came of packing: samples by split, and images left out by kind of reason."""

    manifest_id: str
    samples: dict[str, int]
    shards: int
    left_out: dict[str, int]
    other_files: dict[str, int]

    @classmethod
    def of(cls, manifest: Manifest, other_files: Counter[str]) -> PackReport:
        """The report of a manifest; `other_files` counts what was passed over by its ending."""
        return cls(
            manifest.manifest_id,
            {split: entry.samples for split, entry in manifest.splits.items()},
            sum(len(entry.shards) for entry in manifest.splits.values()),
            manifest.left_out,
            dict(other_files.most_common()),
        )


def pack(
    recipe: Recipe, images: Path, *, out: Path, split_file: Path | None = None, threads: int | None = None
) -> PackReport:
    """Pack the images below a folder into `out`, in place of what was packed there before.

    Args:
        threads: that read, decode and write; None = as many as cores, up to 16.

    Raises:
        UserError: see `recipe.plan`.
        WorkError: no image was usable, or one changed while it was packed.
    """
    threads = threads or min(16, usable_cores())
    planned = plan(recipe, images, split_file=split_file)
    checked, unusable = _check_all(planned.sources, min_side=recipe.min_side, threads=threads)
    left_out = sorted([*planned.left_out, *unusable])
    if not checked:
        raise WorkError(f"{images}: none of its images can be used: {left_out[0][0]}: {left_out[0][2]}")
    with new_set(out) as folder:
        splits = {
            split: _write_split(folder, split, members, recipe, threads)
            for split, members in _by_split(checked).items()
        }
        write_left_out(folder, left_out)
        reasons = dict(sorted(Counter(kind for _, kind, _ in left_out).items()))
        manifest = Manifest(
            made_by="pack",
            source=ManifestSource(
                name=recipe.name,
                images=len(checked) + len(left_out),
                split_file_sha256=planned.split_file_sha256,
            ),
            pack_seed=recipe.seed,
            left_out=reasons,
            splits=splits,
        )
        (folder / MANIFEST).write_bytes(manifest.to_json())
        publish(folder, out)
    return PackReport.of(manifest, planned.other_files)


def _check_all(
    sources: Sequence[Source], *, min_side: int, threads: int
) -> tuple[list[Checked], list[tuple[str, str, str]]]:
    checked: list[Checked] = []
    unusable: list[tuple[str, str, str]] = []
    for result in in_threads(lambda source: _check(source, min_side), sources, threads, "checking images"):
        if isinstance(result, Checked):
            checked.append(result)
        else:
            unusable.append(result)
    return checked, unusable


def _check(source: Source, min_side: int) -> Checked | tuple[str, str, str]:
    try:
        data = read_regular(source.file)
        height, width = check_image(data, min_side=min_side)
    except OSError as error:
        return source.relative, "unreadable", error.strerror or str(error)
    except UnreadableImageError as error:
        return source.relative, "unreadable", str(error)
    except TooSmallError as error:
        return source.relative, "too small", str(error)
    return Checked(source, len(data), zlib.crc32(data), height, width)


class TooSmallError(ValueError):
    """An image with a side below the recipe's."""


def check_image(data: bytes, *, min_side: int) -> tuple[int, int]:
    """(height, width) of an image that decodes strictly and fits the index.

    Raises:
        UnreadableImageError: damaged, or larger than the index can say.
        TooSmallError: a side below `min_side` pixels.
    """
    height, width = image_size(data)
    if max(height, width) > MAX_SIDE or len(data) > MAX_BYTES:
        raise UnreadableImageError(f"of {height}x{width} and {len(data)} bytes is larger than an index holds")
    if min(height, width) < min_side:
        raise TooSmallError(f"is {height}x{width} (height x width), below min_side {min_side}")
    decode_into(data, np.empty((height, width, 3), np.uint8))
    return height, width


def _by_split(checked: Iterable[Checked]) -> dict[str, list[Checked]]:
    splits: dict[str, list[Checked]] = {}
    for one in checked:
        splits.setdefault(one.source.split, []).append(one)
    common = ("train", "val", "test")
    names = sorted(splits, key=lambda name: (common.index(name) if name in common else len(common), name))
    return {name: sorted(splits[name], key=lambda one: one.source.key) for name in names}


def _write_split(
    folder: Path, split: str, members: list[Checked], recipe: Recipe, threads: int
) -> SplitEntry:
    places = np.arange(len(members), dtype=np.uint64)
    key = stream_keys(recipe.seed, PACKING, np.zeros(1, np.int64))
    shuffled = [members[place] for place in permute(places, size=len(members), keys=key)]
    total_bytes = sum(one.size for one in members)
    num_shards = max(-(-len(members) // recipe.shard_samples), -(-total_bytes // recipe.shard_bytes), 1)
    num_shards = min(num_shards, len(members))
    bounds = [len(members) * shard // num_shards for shard in range(num_shards + 1)]
    jobs = [
        (folder / f"{split}-{shard:05d}.tar", shuffled[bounds[shard] : bounds[shard + 1]])
        for shard in range(num_shards)
    ]
    shards: list[ShardEntry] = []
    records: list[tuple[int, int, int, int, int, int, str]] = []
    for shard, offsets in enumerate(in_threads(_write_tar, jobs, threads, f"writing {split}")):
        path, samples = jobs[shard]
        shards.append(shard_entry(path, len(samples), name=path.name))
        records.extend(
            (shard, offset, one.size, one.crc32, one.height, one.width, one.source.key)
            for offset, one in zip(offsets, samples, strict=True)
        )
    return write_index(folder, split, records, shards)


def _write_tar(job: tuple[Path, list[Checked]]) -> list[int]:
    path, samples = job
    offsets = []
    with path.open("wb") as file:
        with TarWriter(file, encoder=False, mtime=0, user="srdist", group="srdist") as writer:
            # webdataset 1.0.2 drops its own format argument: without this, long or non-ASCII names become pax.
            writer.tarstream.format = tarfile.USTAR_FORMAT
            for one in samples:
                data = read_regular(one.source.file)
                if zlib.crc32(data) != one.crc32:
                    raise WorkError(f"{one.source.file}: changed while it was packed")
                offsets.append(writer.tarstream.offset + tarfile.BLOCKSIZE)
                writer.write({"__key__": one.source.key, one.source.suffix: data})
        file.flush()
        os.fsync(file.fileno())
    return offsets


def shard_entry(path: Path, samples: int, *, name: str) -> ShardEntry:
    """What the manifest says of a tar."""
    return ShardEntry(file=name, samples=samples, bytes=path.stat().st_size, sha256=sha256_of(path))


def write_index(
    folder: Path,
    split: str,
    records: Sequence[tuple[int, int, int, int, int, int, str]],
    shards: Sequence[ShardEntry],
) -> SplitEntry:
    """Write index/SPLIT.npy and give what the manifest says of the split."""
    path = folder / "index" / f"{split}.npy"
    path.parent.mkdir(exist_ok=True)
    rows = build_index(records)
    np.save(path, rows, allow_pickle=False)
    wholefile.sync(path)
    return SplitEntry(
        samples=len(rows),
        heights=(int(rows["height"].min()), int(rows["height"].max())),
        widths=(int(rows["width"].min()), int(rows["width"].max())),
        ids_hash=ids_hash(len(rows)),
        index=IndexEntry(file=f"index/{split}.npy", bytes=path.stat().st_size, sha256=sha256_of(path)),
        shards=tuple(shards),
    )


def write_left_out(folder: Path, left_out: Sequence[tuple[str, str, str]]) -> None:
    """Write the list of what was left out, one JSON object a line."""
    lines = (json.dumps({"image": name, "kind": kind, "reason": reason}) for name, kind, reason in left_out)
    (folder / LEFT_OUT).write_text("".join(line + "\n" for line in lines), encoding="utf-8")


@contextmanager
def new_set(out: Path) -> Iterator[Path]:
    """A new folder inside `out` to build a set in; gone afterwards, with what a killed run left of its own.

    Raises:
        UserError: `out` holds tars of another tool, which the new set would remove.
    """
    out.mkdir(parents=True, exist_ok=True)
    killed = list(out.glob(".pack-*"))
    if any(out.glob("*.tar")) and not killed and not _packed_before(out):
        raise UserError(f"{out}: holds tars that `srdist pack` did not write: give another folder with --out")
    for stale in killed:
        shutil.rmtree(stale)
    folder = Path(tempfile.mkdtemp(prefix=".pack-", dir=out))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _packed_before(out: Path) -> bool:
    data = Place(str(out)).read(MANIFEST)
    if data is None:
        return False
    try:
        return parse_manifest(data, source=str(out / MANIFEST)).made_by == "pack"
    except UserError:
        return b'"made_by": "pack"' in data  # ours, though damaged: packing anew is the cure


def publish(folder: Path, out: Path) -> None:
    """Put a finished set in the place of the one in `out`: its manifest goes first and the new one comes last.

    Killed in the middle, `out` has no manifest: nothing there is usable until it is packed again. A process that
    opened the old set before finds its own open tars, or bytes that do not fit the crc32 of its index.
    """
    for file in sorted(folder.rglob("*")):
        wholefile.sync(file)
    manifest = out / MANIFEST
    manifest.unlink(missing_ok=True)
    wholefile.sync(out)
    for old in [*out.glob("*.tar"), out / LEFT_OUT]:
        old.unlink(missing_ok=True)
    if (out / "index").exists():
        shutil.rmtree(out / "index")
    for new in folder.iterdir():
        if new.name != MANIFEST:
            new.rename(out / new.name)
    wholefile.sync(out)
    (folder / MANIFEST).rename(manifest)
    wholefile.sync(out)


AHEAD = 16
"""Items that wait for each thread, at most: one that waits takes 2 kB, and ten million of them took 20 GB."""


def in_threads(work: Callable[[T], R], items: Sequence[T], threads: int, title: str) -> Iterator[R]:
    """The results of `work` in the order of `items`, with progress on a terminal.

    Threads, because reading, decoding and hashing let go of the interpreter's lock.
    """
    columns: tuple[Any, ...] = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        Progress(
            *columns,
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        ) as progress,
        ThreadPoolExecutor(threads) as pool,
    ):
        task = progress.add_task(title, total=len(items))
        try:
            waiting: deque[Future[R]] = deque()
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= AHEAD * threads:
                    yield waiting.popleft().result()
                    progress.advance(task)
            while waiting:
                yield waiting.popleft().result()
                progress.advance(task)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
