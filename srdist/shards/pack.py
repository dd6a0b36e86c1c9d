"""Images to shards: a folder (or two, HR and LR) and a recipe in; tars of original bytes or tiles, index, manifest out.

Deterministic: the same images and recipe give the same bytes. The new set takes the place of an older one only when
all of it is written: see `newset`.
"""

from __future__ import annotations

import os
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from webdataset.writer import TarWriter

from srdist.images.folder import read_regular
from srdist.machine.cores import usable_cores
from srdist.machine.errors import UserError, WorkError
from srdist.shards.checking import Checked, check_all
from srdist.shards.manifest import MANIFEST, Manifest, ShardEntry, SplitEntry
from srdist.shards.manifest import Source as ManifestSource
from srdist.shards.newset import new_set, publish
from srdist.shards.packreport import PackReport
from srdist.shards.pairing import misfit, one_scale, pair_up
from srdist.shards.permutation import PACKING, permute, stream_keys
from srdist.shards.plan import Plan, plan
from srdist.shards.recipe import Recipe
from srdist.shards.records import Record
from srdist.shards.setfiles import shard_entry, write_index, write_left_out
from srdist.shards.spool import Spool
from srdist.shards.threads import in_threads


def pack(
    recipe: Recipe,
    images: Path,
    *,
    out: Path,
    lr: Path | None = None,
    split_file: Path | None = None,
    threads: int | None = None,
) -> PackReport:
    """Pack the images below a folder into `out`, in place of what was packed there before.

    Args:
        lr: folder of their LR images, which are packed beside them; None: HR images alone.
        threads: that read, decode and write; None = as many as cores, up to 16.

    Raises:
        UserError: see `plan.plan` and `pairing.pair_up`; pairs of several scales.
        WorkError: no image was usable, or one changed while it was packed.
    """
    threads = threads or min(16, usable_cores())
    planned = _planned(recipe, images, lr, split_file)
    with new_set(out) as folder, Spool(folder) as spool:
        checked, unusable = check_all(planned.sources, recipe, spool, threads=threads)
        lr_scale = None
        if lr is not None:
            lr_scale, checked, misfits = _of_one_scale(checked, recipe, source=str(lr))
            unusable += misfits
        left_out = sorted([*planned.left_out, *unusable])
        if not checked:
            raise WorkError(f"{images}: none of its images can be used: {left_out[0][0]}: {left_out[0][2]}")
        splits = {
            split: _write_split(folder, split, members, recipe, spool, threads)
            for split, members in _by_split(checked).items()
        }
        write_left_out(folder, left_out)
        reasons = dict(sorted(Counter(kind for _, kind, _ in left_out).items()))
        manifest = Manifest(
            made_by="pack",
            source=ManifestSource(
                name=recipe.name,
                images=len({one.source.relative for one in checked}) + len(left_out),
                split_file_sha256=planned.split_file_sha256,
            ),
            pack_seed=recipe.seed,
            lr_scale=lr_scale,
            left_out=reasons,
            splits=splits,
        )
        (folder / MANIFEST).write_bytes(manifest.to_json())
        publish(folder, out)
    return PackReport.of(manifest, planned.other_files)


def _planned(recipe: Recipe, images: Path, lr: Path | None, split_file: Path | None) -> Plan:
    if lr is None and recipe.scale is not None:
        raise UserError(
            f"the recipe {recipe.name} has scale: {recipe.scale}, which is that of pairs: "
            "give the folder of their LR images with --lr DIR"
        )
    if lr is not None and recipe.tiles is not None:
        raise UserError(f"--lr: the recipe {recipe.name} cuts tiles, and pairs are packed whole")
    planned = plan(recipe, images, split_file=split_file)
    if lr is not None:
        pair_up(planned, recipe, images=images, lr=lr)
    return planned


def _of_one_scale(
    checked: Sequence[Checked], recipe: Recipe, *, source: str
) -> tuple[int | None, list[Checked], list[tuple[str, str, str]]]:
    """The scale of some pairs, those that have it, and (path, kind, reason) of those that have not."""
    sides = [
        ((one.height, one.width), (one.lr.height, one.lr.width)) for one in checked if one.lr is not None
    ]
    scale = one_scale(sides, asked=recipe.scale, source=source, how="`scale` in the recipe")
    wrong = [misfit(hr, lr, scale=scale) for hr, lr in sides]
    fitting = [one for one, reason in zip(checked, wrong, strict=True) if reason is None]
    misfits = [
        (one.source.relative, "size", reason)
        for one, reason in zip(checked, wrong, strict=True)
        if reason is not None
    ]
    return scale, fitting, misfits


def _by_split(checked: Iterable[Checked]) -> dict[str, list[Checked]]:
    splits: dict[str, list[Checked]] = {}
    for one in checked:
        splits.setdefault(one.source.split, []).append(one)
    common = ("train", "val", "test")
    names = sorted(splits, key=lambda name: (common.index(name) if name in common else len(common), name))
    return {name: sorted(splits[name], key=lambda one: one.source.key) for name in names}


def _write_split(
    folder: Path, split: str, members: list[Checked], recipe: Recipe, spool: Spool, threads: int
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
    records: list[Record] = []
    written = in_threads(lambda job: _write_tar(*job, spool), jobs, threads, f"writing {split}")
    for shard, offsets in enumerate(written):
        path, samples = jobs[shard]
        shards.append(shard_entry(path, len(samples), name=path.name))
        records.extend(_record(shard, offset, one) for offset, one in zip(offsets, samples, strict=True))
    return write_index(folder, split, records, shards, pairs=members[0].lr is not None)


def _record(shard: int, offsets: tuple[int, ...], one: Checked) -> Record:
    hr = Record(shard, offsets[0], one.size, one.crc32, one.height, one.width, one.source.key)
    if one.lr is None:
        return hr
    return hr._replace(lr_offset=offsets[1], lr_size=one.lr.size, lr_crc32=one.lr.crc32)


def _write_tar(path: Path, samples: list[Checked], spool: Spool) -> list[tuple[int, ...]]:
    """Write a shard; where the data of each sample's members begin."""
    offsets: list[tuple[int, ...]] = []
    with path.open("wb") as file:
        with TarWriter(file, encoder=False, mtime=0, user="srdist", group="srdist") as writer:
            # webdataset 1.0.2 drops its own format argument: without this, long or non-ASCII names become pax.
            writer.tarstream.format = tarfile.USTAR_FORMAT
            for one in samples:
                places = []
                for ending, data in zip(one.source.endings, _unchanged(one, spool), strict=True):
                    places.append(writer.tarstream.offset + tarfile.BLOCKSIZE)
                    writer.write({"__key__": one.source.key, ending: data})
                offsets.append(tuple(places))
        file.flush()
        os.fsync(file.fileno())
    return offsets


def _unchanged(one: Checked, spool: Spool) -> Iterator[bytes]:
    """The bytes of a sample's members, as they were checked."""
    if one.spooled is not None:
        data = spool.read(one.spooled, one.size)
        if zlib.crc32(data) != one.crc32:
            raise WorkError(
                f"{one.source.file}: its tile {one.source.key} changed on this disk while it was packed"
            )
        yield data
        return
    files = [(one.source.file, one.crc32)]
    if one.source.lr is not None and one.lr is not None:
        files.append((one.source.lr.file, one.lr.crc32))
    for file, crc32 in files:
        data = read_regular(file)
        if zlib.crc32(data) != crc32:
            raise WorkError(f"{file}: changed while it was packed")
        yield data
