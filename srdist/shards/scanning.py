"""One tar in; records of its samples out, and what was left out: for the index of a set."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from srdist.images.decode import UnreadableImageError
from srdist.images.folder import open_regular
from srdist.images.formats import IMAGE_SUFFIXES
from srdist.machine.errors import UserError, WorkError
from srdist.shards.checking import TooSmallError, check_image
from srdist.shards.manifest import ShardEntry
from srdist.shards.pairing import Sides, misfit
from srdist.shards.plan import unprintable
from srdist.shards.records import Record
from srdist.shards.setfiles import shard_entry
from srdist.shards.tarwalk import DamagedTarError, Member, walk


@dataclass(frozen=True, slots=True)
class Members:
    """Which members of a tar are images of samples, by what follows the key."""

    hr: str | None = None
    """None: whatever ends like an image."""
    lr: str | None = None
    """None: samples are HR images alone."""

    @property
    def pairs(self) -> bool:
        """Whether a sample has two."""
        return self.lr is not None

    def which(self, ending: str) -> Literal["hr", "lr"] | None:
        """Which image of its sample a member is; None: neither."""
        if _fits(ending, self.hr):
            return "hr"
        return "lr" if self.lr is not None and _fits(ending, self.lr) else None


PACKED_PAIRS = Members("hr.*", "lr.*")
"""Those of `srdist pack --lr`, whose images are of any kind."""


def _fits(ending: str, asked: str | None) -> bool:
    if asked is None or asked.endswith(".*"):
        stem = "" if asked is None else asked.removesuffix("*")
        return ending.startswith(stem) and Path(f"x.{ending}").suffix in IMAGE_SUFFIXES
    return ending == asked.lower()


_LeftOut = tuple[str, str, str]
"""Tar and member, kind of reason, reason."""
_Found = tuple[str, Record | _LeftOut]
"""An image's name in its tar, and what the index says of it or why it is left out."""


@dataclass(slots=True)
class Scan:
    """What one tar holds: records of its samples (with 0 for the shard's number), and what was left out."""

    file: str
    records: list[Record] = field(default_factory=list)
    sides: list[tuple[Sides, Sides]] = field(default_factory=list)
    """Of pairs, those of HR and LR, beside the records."""
    left_out: list[_LeftOut] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    entry: ShardEntry | None = None


def scan_tar(folder: Path, file: str, members: Members) -> Scan:
    """What the tar `file` of a folder holds.

    Raises:
        UserError: two images that could be meant under one key.
        WorkError: a damaged tar.
    """
    scan = Scan(file)
    path = folder / file
    seen: dict[tuple[str, str], Member] = {}
    samples: dict[str, dict[str, _Found]] = {}
    try:
        opened = open_regular(path)
    except UnreadableImageError as error:
        raise WorkError(f"{path}: {error}") from error
    with opened as tar:
        try:
            for one in walk(path):
                ending = one.name[len(one.key) + 1 :].lower()
                which = members.which(ending)
                if which is None:
                    scan.others[f".{ending}"] += 1
                    continue
                _refuse_second(path, seen.setdefault((one.key, which), one), one)
                data = os.pread(tar.fileno(), one.size, one.offset)
                samples.setdefault(one.key, {})[which] = (one.name, _checked(file, one, data))
        except DamagedTarError as error:
            raise WorkError(f"{path}: {error}") from error
    for sample in samples.values():
        if members.pairs:
            _add_pair(scan, sample)
        elif isinstance(record := sample["hr"][1], Record):
            scan.records.append(record)
        else:
            scan.left_out.append(record)
    if scan.records:
        scan.entry = shard_entry(path, len(scan.records), name=file)
    return scan


def _add_pair(scan: Scan, sample: dict[str, _Found]) -> None:
    """Add a pair, or leave it out: once, whatever is wrong with how many of its images."""
    wrong = [found for _, found in sample.values() if not isinstance(found, Record)]
    if wrong:
        scan.left_out.append(wrong[0])
        return
    for which, other in (("hr", "LR"), ("lr", "HR")):
        if other.lower() not in sample:
            reason = f"no {other} image under its key"
            scan.left_out.append((f"{scan.file}:{sample[which][0]}", f"no {other}", reason))
            return
    hr, lr = sample["hr"][1], sample["lr"][1]
    assert isinstance(hr, Record)
    assert isinstance(lr, Record)
    scan.records.append(hr._replace(lr_offset=lr.offset, lr_size=lr.size, lr_crc32=lr.crc32))
    scan.sides.append(((hr.height, hr.width), (lr.height, lr.width)))


def leave_misfits_out(scan: Scan, scale: int | None) -> None:
    """Take the pairs of other sizes out of a scan."""
    fitting = []
    for record, (hr, lr) in zip(scan.records, scan.sides, strict=True):
        reason = misfit(hr, lr, scale=scale)
        if reason is None:
            fitting.append(record)
        else:
            scan.left_out.append((f"{scan.file}:{record.key}", "size", reason))
    scan.records = fitting
    if scan.entry is not None:
        scan.entry = scan.entry.model_copy(update={"samples": len(fitting)}) if fitting else None


def _checked(file: str, member: Member, data: bytes) -> Record | _LeftOut:
    """What the index says of an image, or why it is left out."""
    name = f"{file}:{member.name}"
    if problem := unprintable(member.name):
        return ascii(name)[1:-1], "name", problem
    try:
        height, width = check_image(data, min_side=1)
    except UnreadableImageError as error:
        return name, "unreadable", str(error)
    except TooSmallError as error:
        return name, "too small", str(error)
    return Record(0, member.offset, member.size, zlib.crc32(data), height, width, member.key)


def _refuse_second(path: Path, first: Member, later: Member) -> None:
    if first is later:
        return
    if first.name == later.name:
        raise WorkError(f"{path}: member {later.name} twice, at offsets {first.offset} and {later.offset}")
    ending = later.name[len(later.key) + 1 :]
    raise UserError(
        f"{path}: two images under one key {later.key!r}: {first.name} and {later.name}: "
        f"say which with --member {ending}"
    )
