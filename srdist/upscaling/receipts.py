"""What became of each image: a line of JSON in the log of the process that saw to it, read by all as the logs grow."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

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
    """Seconds since 1970."""

    def line(self) -> bytes:
        """As it stands in a log: of this moment, without the fields that say nothing."""
        values = ((name, getattr(self, name)) for name in _FIELDS)  # asdict takes seven times as long
        known = {name: value for name, value in values if value not in ("", 0, ())}
        return json.dumps(known | {"time": time.time()}).encode() + b"\n"


_FIELDS = tuple(field.name for field in fields(Receipt))


class Receipts:
    """All processes' receipts, read as they grow, and never held: of a million images, only where each one's receipt lies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._logs: list[str] = []
        self._read: dict[str, int] = {}

    def refresh(self) -> Iterator[tuple[int, Receipt]]:
        """What was appended since the last call: each receipt with its place (see `at`)."""
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.glob("*.jsonl")):
            if path.name not in self._read:
                self._read[path.name] = 0
                self._logs.append(path.name)
            offset = self._read[path.name]
            try:
                if path.stat().st_size <= offset:
                    continue
            except FileNotFoundError:  # its process has left, and had nothing to say
                continue
            log = self._logs.index(path.name) + 1
            with path.open("rb") as file:
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        # Still being written, or its writer was killed: it does not count.
                        break
                    if receipt := _parse(line):
                        yield log << _OFFSET_BITS | offset, receipt
                    offset += len(line)
                    self._read[path.name] = offset

    def at(self, place: int) -> Receipt | None:
        """Read a receipt again, from where `refresh` found it; None where it has gone."""
        log, offset = self._logs[(place >> _OFFSET_BITS) - 1], place & ((1 << _OFFSET_BITS) - 1)
        try:
            with (self.folder / log).open("rb") as file:
                file.seek(offset)
                return _parse(file.readline())
        except FileNotFoundError:
            return None


def _parse(line: bytes) -> Receipt | None:
    try:
        known = json.loads(line)
        known["notes"] = tuple(known.get("notes", ()))
        return Receipt(**known)
    except (ValueError, TypeError):
        return None  # damaged by the disk: its image is made again
