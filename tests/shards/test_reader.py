"""The index of a set, read while training."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from srdist.shards import reader
from tests.packed_sets import Packed


@pytest.mark.skipif(sys.platform != "linux", reason="smaps is Linux's")
def test_of_a_large_index_only_the_pages_of_the_records_asked_for_are_read(
    packed: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_HASHED_INDEX_BYTES", 0)  # as if this one were larger
    index = packed(3)
    assert index.key(0)
    maps = Path("/proc/self/smaps").read_text().split(index.entry.index.file)[1:]
    flags = [next(line for line in text.splitlines() if line.startswith("VmFlags")).split() for text in maps]
    assert any("rr" in each for each in flags)  # "random read"
