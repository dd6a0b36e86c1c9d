"""The index of a split: one record a sample, as the file of the index holds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

INDEX_FIELDS = [
    ("shard", "<u4"),
    ("offset", "<u8"),
    ("size", "<u4"),
    ("crc32", "<u4"),
    ("height", "<u2"),
    ("width", "<u2"),
]
PAIR_FIELDS = [("lr_offset", "<u8"), ("lr_size", "<u4"), ("lr_crc32", "<u4")]
"""What stands before the key as well where each sample has its own LR; LR's sides are those of HR by `lr_scale`."""


class Record(NamedTuple):
    """What the index says of one sample."""

    shard: int
    offset: int
    size: int
    crc32: int
    height: int
    width: int
    key: str
    lr_offset: int = 0
    lr_size: int = 0
    lr_crc32: int = 0


def index_dtype(longest_key: int, *, pairs: bool) -> np.dtype[Any]:
    """One sample's record, packed: 24 bytes (40 of pairs) and its key, UTF-8 padded with zero bytes."""
    return np.dtype([*INDEX_FIELDS, *(PAIR_FIELDS if pairs else []), ("key", f"S{max(1, longest_key)}")])


def build_index(records: Sequence[Record], *, pairs: bool) -> np.ndarray[Any, np.dtype[Any]]:
    """The index of a split from records in sample order."""
    keys = [record.key.encode() for record in records]
    rows = np.empty(len(records), index_dtype(max(map(len, keys), default=1), pairs=pairs))
    for name, _ in [*INDEX_FIELDS, *(PAIR_FIELDS if pairs else [])]:
        rows[name] = [getattr(record, name) for record in records]
    rows["key"] = keys
    return rows
