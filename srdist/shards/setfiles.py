"""The files of a set beside its tars: the index of a split, the list of what was left out, and what the manifest says of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from srdist.machine import files as wholefile
from srdist.shards.manifest import LEFT_OUT, IndexEntry, ShardEntry, SplitEntry, ids_hash
from srdist.shards.reader import sha256_of
from srdist.shards.records import Record, build_index


def shard_entry(path: Path, samples: int, *, name: str) -> ShardEntry:
    """What the manifest says of a tar."""
    return ShardEntry(file=name, samples=samples, bytes=path.stat().st_size, sha256=sha256_of(path))


def write_index(
    folder: Path,
    split: str,
    records: Sequence[Record],
    shards: Sequence[ShardEntry],
    *,
    pairs: bool,
) -> SplitEntry:
    """Write index/SPLIT.npy and give what the manifest says of the split.

    Args:
        pairs: whether each sample has its own LR.
    """
    path = folder / "index" / f"{split}.npy"
    path.parent.mkdir(exist_ok=True)
    rows = build_index(records, pairs=pairs)
    with wholefile.whole_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, rows, allow_pickle=False)
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
