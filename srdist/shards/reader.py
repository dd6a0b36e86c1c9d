"""A packed set for reading: manifest and memory-mapped index in, one sample's checked bytes out.

Apart from packing, because training needs only this: it never parses a tar. A sample is read by one pread at the
place the index gives and must fit its crc32, so a damaged, cut or swapped tar cannot hand over wrong bytes.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64, UInt8

from srdist.images.decode import UnreadableImageError, decode_into
from srdist.machine.errors import UserError, WorkError, system_error
from srdist.shards.download import WRONG_TRIES
from srdist.shards.manifest import MANIFEST, Manifest, SplitEntry, parse_manifest
from srdist.shards.records import index_dtype
from srdist.shards.remote import Place

MAX_SIDE = 65535
MAX_BYTES = (1 << 32) - 1
_HASHED_INDEX_BYTES = 64 << 20
_BEYOND_ANY_FILE = 1 << 62
"""Offsets from here on, which only a damaged index has, are more than the system takes."""
_OPEN_FILES = 128


Member = Literal["hr", "lr"]
"""Which image of a sample."""


@dataclass(frozen=True, slots=True)
class BadSample:
    """A sample that cannot be used: where it lies and why."""

    shard: str
    key: str
    offset: int
    sample_id: int
    reason: str

    def __str__(self) -> str:
        return f"{self.shard}: sample {self.key} at offset {self.offset}: {self.reason}"


class BadSampleError(WorkError):
    """A damaged sample; `bad` says where it lies and why."""

    def __init__(self, bad: BadSample) -> None:
        super().__init__(bad)
        self.bad = bad


class ShardIndex:
    """One split of a packed set. Cheap to open, to fork and to pickle: the index stays on disk, memory-mapped."""

    def __init__(self, place: Place, split: str, manifest: Manifest) -> None:
        """Use `ShardIndex.open`."""
        self.place = place
        self.folder = place.shown
        self.split = split
        self.manifest_id = manifest.manifest_id
        self.entry = manifest.splits[split]
        self.lr_scale = manifest.lr_scale
        """Factor between HR and LR where each sample has both; None: samples are HR images alone."""
        self._rows = _map_index(place, self.entry, pairs=self.lr_scale is not None)
        self._files: OrderedDict[int, int] = OrderedDict()

    @classmethod
    def open(cls, folder: str, split: str) -> ShardIndex:
        """Open a split of the set in a folder (or at an fsspec URL).

        Raises:
            UserError: not packed (the message says what to type), no such split, a damaged manifest or index.
        """
        place = Place(folder)
        manifest = read_manifest(place)
        if split not in manifest.splits:
            held = ", ".join(f"{name} ({entry.samples})" for name, entry in manifest.splits.items())
            raise UserError(f"{place.shown}: no split {split!r}: the set has {held or 'no samples'}")
        return cls(place.of_manifest(manifest.manifest_id), split, manifest)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.place.name, self.split, self.manifest_id)

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) in pixels if all images are of one size."""
        (low_h, high_h), (low_w, high_w) = self.entry.heights, self.entry.widths
        return (low_h, low_w) if (low_h, low_w) == (high_h, high_w) else None

    @property
    def smallest(self) -> tuple[int, int]:
        """The smallest (height, width) of the split, each on its own."""
        return self.entry.heights[0], self.entry.widths[0]

    @property
    def ids_hash(self) -> str:
        """The order-free hash of all ids, as the manifest states it."""
        return self.entry.ids_hash

    @property
    def shard_samples(self) -> list[int]:
        """Samples of each shard."""
        return [shard.samples for shard in self.entry.shards]

    def __len__(self) -> int:
        return self.entry.samples

    def key(self, sample_id: int) -> str:
        """The key under which the tar holds a sample; bytes that are no UTF-8, of a damaged index, are escaped."""
        key: bytes = self._rows[sample_id]["key"]
        return key.decode(errors="backslashreplace")

    def sizes(self, ids: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, "n 2"]:
        """(height, width) of samples, of their HR, in pixels."""
        rows = self._rows[ids]
        return np.stack([rows["height"], rows["width"]], axis=1).astype(np.int64)

    def data_sizes(self, ids: Int64[np.ndarray, " n"], *, member: Member = "hr") -> Int64[np.ndarray, " n"]:
        """Bytes of samples."""
        field = "size" if member == "hr" else "lr_size"
        sizes: np.ndarray[Any, np.dtype[np.int64]] = self._rows[field][ids].astype(np.int64)
        return sizes

    @property
    def members(self) -> tuple[Member, ...]:
        """The images that a sample has."""
        return ("hr",) if self.lr_scale is None else ("hr", "lr")

    def read(self, sample_id: int, *, member: Member = "hr") -> bytes:
        """A sample's bytes, as they were packed.

        Raises:
            BadSampleError: the index has it in no shard of the set, the shard ends before the sample does, or the bytes do
                not fit the crc32.
            WorkError: the shard cannot be opened or read.
        """
        row = self._rows[sample_id].tolist()
        shard, (offset, size, crc32) = row[0], row[1:4] if member == "hr" else row[6:9]
        if shard >= len(self.entry.shards):
            reason = f"its index has it in shard {shard}, and the last one is {len(self.entry.shards) - 1}"
            raise BadSampleError(self.bad(sample_id, reason, member=member))
        file = self._file(shard)
        try:
            data = os.pread(file, size, min(offset, _BEYOND_ANY_FILE))
            while 0 < len(data) < size and (more := os.pread(file, size - len(data), offset + len(data))):
                data += more
            end = os.fstat(file).st_size if len(data) != size else 0
        except OSError as error:
            raise WorkError(
                f"{self.shard_path(shard)}: cannot be read at offset {offset}: {error.strerror}"
            ) from error
        finally:
            if self.place.bounded:
                os.close(file)
        if len(data) != size:
            raise BadSampleError(
                self.bad(
                    sample_id, f"the shard ends at {end}, {offset + size - end} bytes short", member=member
                )
            )
        if zlib.crc32(data) != crc32:
            raise BadSampleError(
                self.bad(
                    sample_id,
                    f"its {size} bytes have crc32 {zlib.crc32(data):08x}, not {crc32:08x}",
                    member=member,
                )
            )
        return data

    def bad(self, sample_id: int, reason: str, *, member: Member = "hr") -> BadSample:
        """A record of a sample that cannot be used."""
        row = self._rows[sample_id]
        number = int(row["shard"])
        known = number < len(self.entry.shards)
        shard = self.shard_path(number) if known else self.place.path_of(self.entry.index.file)
        offset = int(row["offset" if member == "hr" else "lr_offset"])
        if member == "lr":
            reason = f"its LR: {reason}"
        return BadSample(shard, self.key(sample_id), offset, int(sample_id), reason)

    def shard_path(self, shard: int) -> str:
        """Where a shard lies, for messages."""
        return self.place.path_of(self.entry.shards[shard].file)

    def close(self) -> None:
        """Close the shards that are open; they open again when they are read."""
        while self._files:
            os.close(self._files.popitem()[1])

    def __del__(self) -> None:
        if hasattr(self, "_files"):
            self.close()

    def _file(self, shard: int) -> int:
        # pread has no file position, so a descriptor opened before a fork serves parent and children alike.
        if shard in self._files:
            self._files.move_to_end(shard)
            return self._files[shard]
        entry = self.entry.shards[shard]
        try:
            file = self.place.open(entry)
        except OSError as error:
            if self.place.remote:  # of the cache's folder
                raise WorkError(system_error(error)) from error
            raise WorkError(
                f"{self.shard_path(shard)}: a shard of the set cannot be opened: {error.strerror}: "
                "pack the set again, or fetch the file"
            ) from error
        if self.place.bounded:
            return file  # closed as soon as it is read
        self._files[shard] = file
        if len(self._files) > _OPEN_FILES:
            os.close(self._files.popitem(last=False)[1])
        return file


def read_into(
    index: ShardIndex, sample_id: int, out_u8: UInt8[np.ndarray, "h w 3"], *, member: Member = "hr"
) -> BadSample | None:
    """Read and decode one image of a sample; what is wrong with it, if it cannot be used."""
    try:
        decode_into(index.read(sample_id, member=member), out_u8)
    except BadSampleError as error:
        return error.bad
    except UnreadableImageError as error:
        return index.bad(sample_id, str(error), member=member)
    return None


def read_manifest(place: Place) -> Manifest:
    """The manifest of a set; where there is none, a UserError that says what to type."""
    for tried in range(WRONG_TRIES):
        data = place.read(MANIFEST)
        if data is None:
            raise UserError(_not_packed(place.shown))
        try:
            return parse_manifest(data, source=place.path_of(MANIFEST))
        except UserError:
            if not place.remote or tried == WRONG_TRIES - 1:  # other bytes may have come on the way
                raise
    raise AssertionError("unreachable")


def _reopen(folder: str, split: str, manifest_id: str) -> ShardIndex:
    index = ShardIndex.open(folder, split)
    if index.manifest_id != manifest_id:
        raise WorkError(f"{index.folder}: the set was packed anew while it was in use")
    return index


def _map_index(place: Place, entry: SplitEntry, *, pairs: bool) -> np.ndarray[Any, np.dtype[Any]]:
    shown = place.path_of(entry.index.file)
    advice = f"`srdist shards index {place.shown}` makes it anew"
    path = place.local(entry.index)
    try:
        size = path.stat().st_size
        if size != entry.index.bytes:
            raise UserError(f"{shown}: {size} bytes, the manifest says {entry.index.bytes}: {advice}")
        if size <= _HASHED_INDEX_BYTES and sha256_of(path) != entry.index.sha256:
            raise UserError(f"{shown}: not the index that the manifest names (sha256 differs): {advice}")
        mapped: np.memmap[Any, np.dtype[Any]] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{shown}: no such file: {advice}") from error
    except (ValueError, EOFError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{shown}: not an index: {error}: {advice}") from error
    rows: np.ndarray[Any, np.dtype[Any]] = mapped
    if size > _HASHED_INDEX_BYTES:
        _read_at_random(mapped)
    names = index_dtype(1, pairs=pairs).names
    if rows.shape != (entry.samples,) or rows.dtype.names != names:
        raise UserError(
            f"{shown}: {rows.shape} records {rows.dtype.names}, expected ({entry.samples},): {advice}"
        )
    # A plain array over the same map: np.memmap's own indexing is several times slower.
    return rows.view(np.ndarray)


def _read_at_random(mapped: np.memmap[Any, np.dtype[Any]]) -> None:
    """Let the kernel read the pages that are asked for alone: by itself it reads a stretch around each record as well."""
    if hasattr(mmap, "MADV_RANDOM"):
        mapped._mmap.madvise(mmap.MADV_RANDOM)  # type: ignore[attr-defined]  # the map has no public name


def sha256_of(path: Path) -> str:
    """A file's sha256, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _not_packed(folder: str) -> str:
    path = Path(folder)
    if "://" in folder:
        return f"{folder}: no {MANIFEST} there"
    if any(path.glob("*.tar")):
        return f"{folder}: has tars but no {MANIFEST}: type `srdist shards index {folder}`"
    match path.name if path.parent.name == "shards" else "":
        case "demo":
            typed = "make shards"
        case ("celeba" | "folder") as name:
            typed = f"make shards SET={name} IMAGES=DIR"
        case "pairs":
            typed = "make shards SET=pairs IMAGES=HR LR=DIR"
        case _:
            typed = f"srdist pack RECIPE --images DIR --out {folder}"
    return f"{folder}: not packed: type `{typed}`"
