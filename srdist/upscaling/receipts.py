"""What became of each image: a line of JSON in the log of the process that saw to it, read by all as the logs grow."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from srdist.images.decode import UnreadableImageError
from srdist.images.folder import open_regular
from srdist.machine.errors import WorkError
from srdist.machine.plainjson import parse_json

_OFFSET_BITS = 40
"""Of a receipt's place: bytes into a log; the bits above are the log's number, from 1 on."""

Status = Literal["begun", "done", "failed"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one input: enough to prove that its output need not be made again."""

    path: str
    """Of the input, relative to SRC."""
    status: Status
    """begun: the output may appear at any moment; done; failed: see reason."""
    output: str
    """Path relative to DST."""
    settings: str
    """Digest of the weights and the output options."""
    input_bytes: int = 0
    input_mtime_ns: int = 0
    input_sha256: str = ""
    output_bytes: int = 0
    pixels: int = 0
    """Width times height of the input as decoded."""
    seconds: float = 0.0
    """From the start of reading to the end of writing, waiting included."""
    notes: tuple[str, ...] = ()
    """What the output does not hold of the input."""
    reason: str = ""
    """Why it failed."""
    time: float = 0.0
    """Seconds since 1970, by the clock of its writer: told, and never compared between machines."""
    turn: int = 0
    """Greater than in all receipts of this image that its writer had read: the order of receipts of different logs."""
    run: int = 0
    """Number of the run that its writer belonged to (see claims.Worker)."""

    def line(self) -> bytes:
        """As it stands in a log: of this moment, without the fields that say nothing, and with a checksum of the rest."""
        values = ((name, getattr(self, name)) for name in _FIELDS)  # asdict takes seven times as long
        fields_set = {name: value for name, value in values if value not in ("", 0, ())}
        text = json.dumps(fields_set | {"time": time.time()}).encode()[:-1]
        return text + _CHECKSUM + str(zlib.crc32(text)).encode() + b"}\n"


_CHECKSUM = b', "crc32": '
_FIELDS = tuple(field.name for field in fields(Receipt))
_KINDS: dict[str, type | tuple[type, ...]] = {
    field.name: type(field.default) if field.default is not MISSING else str for field in fields(Receipt)
} | {"time": (int, float), "seconds": (int, float)}


class Receipts:
    """All processes' receipts, read as they grow, and never held: of a million images, only where each one's receipt lies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._logs: list[str] = []
        self._read: dict[str, int] = {}

    def refresh(self) -> Iterator[tuple[int, Receipt]]:
        """What was appended since the last call: each receipt with its place (see `at`)."""
        for name in self._names():
            if name not in self._read:
                self._read[name] = 0
                self._logs.append(name)
            offset = self._read[name]
            log = self._logs.index(name) + 1
            try:
                file = open_regular(self.folder / name)
            except FileNotFoundError:  # its process has left, and had nothing to say
                continue
            except UnreadableImageError as error:
                raise WorkError(f"{self.folder / name}: {error}") from error
            with file:
                # Asked when it is open: what a client of a shared folder remembers of a file may be a minute old.
                if os.fstat(file.fileno()).st_size <= offset:
                    continue
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        # Still being written, or its writer was killed: it does not count.
                        break
                    if receipt := parse_receipt(line):
                        yield log << _OFFSET_BITS | offset, receipt
                    offset += len(line)
                    self._read[name] = offset

    def _names(self) -> list[str]:
        try:
            return sorted(path.name for path in self.folder.iterdir() if path.suffix == ".jsonl")
        except FileNotFoundError:
            return []

    def writer(self, place: int) -> str:
        """Name of the process that wrote the receipt at a place."""
        return self._logs[(place >> _OFFSET_BITS) - 1].removesuffix(".jsonl")

    def at(self, place: int) -> Receipt | None:
        """Read a receipt again, from where `refresh` found it; None where it has gone."""
        log, offset = self._logs[(place >> _OFFSET_BITS) - 1], place & ((1 << _OFFSET_BITS) - 1)
        try:
            with (self.folder / log).open("rb") as file:
                file.seek(offset)
                return parse_receipt(file.readline())
        except FileNotFoundError:
            return None


def same_log(place: int, other: int) -> bool:
    """Whether two places are in one log: there the later one is the greater."""
    return place >> _OFFSET_BITS == other >> _OFFSET_BITS


def parse_receipt(line: bytes) -> Receipt | None:
    """A receipt; None where the line is none: damaged by the disk, its image is made again."""
    text, mark, checksum = line.rpartition(_CHECKSUM)
    if mark and checksum != str(zlib.crc32(text)).encode() + b"}\n":
        return None
    try:
        values = parse_json(line)
        values["notes"] = tuple(values.get("notes", ()))
        receipt = Receipt(**{name: values[name] for name in _FIELDS if name in values})
        os.fsencode(receipt.path + receipt.output)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    typed = ((getattr(receipt, name), kind) for name, kind in _KINDS.items())
    if not all(isinstance(value, kind) and not isinstance(value, bool) for value, kind in typed):
        return None
    return receipt if receipt.status in get_args(Status) and 0 <= receipt.turn < 1 << 31 else None
