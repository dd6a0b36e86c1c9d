"""A tar file in, its members with their places out, strictly.

Python's tarfile (and with it webdataset) takes a damaged header in the middle of a file for its end, and says
nothing of what follows. Here the library parses the headers, and what it stopped at is then checked: an archive must
end in two blocks of zeros, and in nothing else.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from srdist.machine.errors import WorkError

_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True, slots=True)
class Member:
    """One regular file of a tar: where its data lie."""

    name: str
    offset: int
    size: int

    @property
    def key(self) -> str:
        """webdataset's key: the path up to the first dot of the last part."""
        folder, slash, base = self.name.rpartition("/")
        return folder + slash + base.partition(".")[0]


class DamagedTarError(WorkError):
    """A tar that cannot be read to its end: `offset` is where it goes wrong."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(f"{reason}, at offset {offset}")
        self.reason = reason
        self.offset = offset


def walk(path: Path) -> Iterator[Member]:
    """Every regular file of a tar (ustar, GNU or pax), in order; other members are skipped.

    Raises:
        DamagedTarError: empty, compressed, cut, or with a damaged header; members before that were yielded.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a FIFO would be waited for
        raise DamagedTarError("not a regular file", 0)
    size = status.st_size
    with path.open("rb") as file:
        head = file.read(6)
        if not head:
            raise DamagedTarError("an empty file, no tar", 0)
        if head[:2] == b"\x1f\x8b" or head[:3] == b"BZh" or head[:6] == b"\xfd7zXZ\0":
            raise DamagedTarError("a compressed tar, which cannot be read at random: unpack it first", 0)
        file.seek(0)
        last = 0
        try:
            archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 (it owns nothing: `file` is closed here)
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # else it keeps all that it has seen
                last = member.offset
                if member.isreg() and not member.issparse():
                    if member.offset_data + member.size > size:
                        raise DamagedTarError(
                            f"cut in the data of {member.name} (file of {size} bytes)", member.offset_data
                        )
                    yield Member(member.name, member.offset_data, member.size)
            end = archive.offset
        except tarfile.TarError as error:
            raise DamagedTarError(f"no tar, or cut: {error}", last) from error
        _check_end(file.fileno(), end, size)


def _check_end(file: int, end: int, size: int) -> None:
    first = os.pread(file, 2 * _BLOCK, end)
    if len(first) < 2 * _BLOCK and not any(first):
        raise DamagedTarError(f"cut between two members: ends after {size} bytes without the end mark", end)
    if any(first[:_BLOCK]):
        raise DamagedTarError("damaged or cut header", end)
    place = end
    while chunk := os.pread(file, 1 << 20, place):
        if any(chunk):
            used = place + next(number for number, byte in enumerate(chunk) if byte)
            raise DamagedTarError(
                f"a zeroed header or early end mark: {size - end} bytes follow it (first used one at {used})",
                end,
            )
        place += len(chunk)
