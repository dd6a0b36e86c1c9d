"""A disk that loses power: the system calls of a program, and what the disk may hold after any of them.

`record` runs a program under strace and returns what it did below one folder. `Disk` replays that: it knows which
bytes and which names had been synced, and `crash` gives a state in which what was not synced is there, lost, or
partly there, in any combination, as POSIX allows (fsync(2): a file's data are safe after its own fsync, its name
after that of its folder). The few assumptions: a rename is never half done, and a synced name keeps its file.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

TRACED = (
    "open,openat,creat,close,dup,dup2,dup3,fcntl,lseek,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,"
    "fallocate,sendfile,copy_file_range,splice,mmap,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,"
    "rmdir,mkdir,mkdirat,fsync,fdatasync,sync,syncfs,io_uring_setup"
)
MARK = "/powercut-mark/"
"""A program says that something has been promised by unlinking MARK + TEXT, which fails and leaves a trace."""

_LINE = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+)")
_UNFINISHED = re.compile(r"^(\d+) +(.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$")
_HEX = re.compile(r"\\x([0-9a-f]{2})")
_LONGEST = 1 << 26
_LONG_AGO_S = 1_700_000_000.0


@dataclass(frozen=True, slots=True)
class Call:
    """One system call that succeeded, or a mark."""

    name: str
    arguments: tuple[str, ...]
    result: int


def record(program: str, *arguments: str | Path, folder: Path, timeout_s: float = 120) -> list[Call]:
    """Run a Python program under strace; returns its calls that concern `folder`, and its marks, in their order.

    Raises:
        RuntimeError: the program failed; the message is what it printed.
    """
    log = folder.parent / f"{folder.name}.strace"
    traced = ["strace", "-f", "-y", "-xx", "-s", str(_LONGEST), "-e", f"trace={TRACED}", "-e", "signal=none"]
    done = subprocess.run(
        [*traced, "-o", str(log), sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"exit code {done.returncode}: {done.stdout}{done.stderr}")
    calls = list(_parse(log))
    log.unlink()
    place = str(folder.resolve())
    return [call for call in calls if any(place in text or MARK in text for text in call.arguments)]


def _parse(log: Path) -> list[Call]:
    calls: list[Call] = []
    begun: dict[str, str] = {}
    with log.open(errors="surrogateescape") as file:
        for line in map(str.rstrip, file):
            if unfinished := _UNFINISHED.match(line):
                begun[unfinished[1]] = unfinished[2]
                continue
            if resumed := _RESUMED.match(line):
                # A call counts where it ends: what another thread did meanwhile came first or beside it.
                line = f"{resumed[1]} {begun.pop(resumed[1])}{resumed[2]}"
            if not (found := _LINE.match(line)):
                continue
            _, name, arguments, result = found.groups()
            parts = tuple(_decoded(part) for part in arguments.split(", "))
            if int(result) >= 0 or any(MARK in part for part in parts):
                calls.append(Call(name, parts, int(result)))
    return calls


def _decoded(text: str) -> str:
    return _HEX.sub(lambda found: chr(int(found[1], 16)), text)


@dataclass(slots=True)
class _File:
    """An inode: what it holds, and what of it is certain to survive."""

    folder: bool = False
    held: bytearray = field(default_factory=bytearray)
    safe: bytes = b""
    writes: list[tuple[int, bytes]] = field(default_factory=list)
    """Since the last sync: (place, bytes); a place of -1 cuts the file to so many bytes as the number says."""


@dataclass(frozen=True, slots=True)
class _Naming:
    """A change of names that is not certain to survive: `remove` goes, `add` comes, at once."""

    remove: str | None
    add: tuple[str, int] | None

    def folders(self) -> set[str]:
        names = [self.remove, self.add[0] if self.add else None]
        return {str(PurePosixPath(name).parent) for name in names if name is not None}


class Disk:
    """What a folder's file system has been told so far, and what of it would outlive a power cut."""

    def __init__(self, folder: Path) -> None:
        """`folder` as it is now counts as safe."""
        self.place = str(folder.resolve())
        self.files: list[_File] = [_File(folder=True)]
        self.names: dict[str, int] = {self.place: 0}
        for path in sorted(Path(self.place).rglob("*")):
            self.names[str(path)] = len(self.files)
            data = b"" if path.is_dir() else path.read_bytes()
            self.files.append(_File(path.is_dir(), bytearray(data), data))
        self.safe_names = dict(self.names)
        self.namings: list[_Naming] = []
        self.marks: list[str] = []
        self._at: dict[str, tuple[int, bool]] = {}  # descriptor with its path -> offset, append

    def apply(self, call: Call) -> bool:
        """Take one more call; whether the disk may hold something else after it."""
        a = call.arguments
        match call.name:
            case "unlink" | "unlinkat" if any(MARK in text for text in a):
                self.marks.append(next(text for text in a if MARK in text).strip('"').partition(MARK)[2])
                return False
            case "openat" | "open" | "creat":
                return self._open(call)
            case "write":
                return self._write(a[0], _text(a[1]), None)
            case "pwrite64":
                return self._write(a[0], _text(a[1]), int(a[3]))
            case "lseek":
                self._at[a[0]] = (call.result, self._at.get(a[0], (0, False))[1])
                return False
            case "ftruncate":
                return self._cut(self._inode(a[0]), int(a[1]))
            case "fsync" | "fdatasync":
                return self._sync(_of(a[0]))
            case "mkdir" | "mkdirat":
                return self._name(self._path(a[-2] if call.name == "mkdir" else a[1], a), _File(folder=True))
            case "rename":
                return self._rename(self._path(a[0], a), self._path(a[1], a))
            case "renameat" | "renameat2":
                return self._rename(self._path(a[1], a[:1]), self._path(a[3], a[2:3]))
            case "unlink" | "rmdir":
                return self._forget(self._path(a[0], a))
            case "unlinkat":
                return self._forget(self._path(a[1], a[:1]))
            case "link" | "linkat":
                old, new = (a[0], a[1]) if call.name == "link" else (a[1], a[3])
                return self._link(self._path(old, a), self._path(new, a))
            case "close" | "dup" | "dup2" | "dup3" | "fcntl" | "fallocate":
                return False
            case "mmap":
                assert "MAP_SHARED" not in a[3] or "PROT_WRITE" not in a[2], call
                return False
            case _:
                raise AssertionError(f"not modelled: {call}")

    def crash(self, *, names: float, data: float, draw: random.Random, target: Path) -> None:
        """Write into the empty folder `target` what may be left after a power cut.

        Args:
            names: chance of each change of names that was not synced to have reached the disk, 0 to 1.
            data: the same of each file's writes that were not synced; between 0 and 1 a file may end anywhere in them.
        """
        left = dict(self.safe_names)
        for naming in self.namings:
            if draw.random() < names:
                _apply_naming(left, naming)
        for name, inode in sorted(left.items()):
            path = target / PurePosixPath(name).relative_to(self.place)
            file = self.files[inode]
            if not _parents_are(left, name, self.place, self.files):
                continue  # its folder never came to be
            if file.folder:
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.write_bytes(_surviving(file, data, draw))
                os.utime(path, (_LONG_AGO_S, _LONG_AGO_S))  # starting again takes longer than any lease

    def _open(self, call: Call) -> bool:
        flags = next((text for text in call.arguments if "O_" in text), "O_RDONLY")
        if call.name == "creat":
            flags = "O_WRONLY|O_CREAT|O_TRUNC"
        path = self._path(
            call.arguments[1] if call.name == "openat" else call.arguments[0], call.arguments[:1]
        )
        if not self._inside(path):
            return False
        self._at = {key: value for key, value in self._at.items() if not key.startswith(f"{call.result}<")}
        self._at[f"{call.result}<{path}>"] = (0, "O_APPEND" in flags)
        changed = False
        if path not in self.names and "O_CREAT" in flags:
            changed = self._name(path, _File())
        if "O_TRUNC" in flags and path in self.names:
            changed |= self._cut(self.names[path], 0)
        return changed

    def _write(self, descriptor: str, data: bytes, place: int | None) -> bool:
        inode = self._inode(descriptor)
        if inode is None:
            return False
        file = self.files[inode]
        offset, append = self._at.get(descriptor, (0, False))
        start = place if place is not None else len(file.held) if append else offset
        file.held.extend(bytes(max(0, start - len(file.held))))
        file.held[start : start + len(data)] = data
        file.writes.append((start, data))
        if place is None:
            self._at[descriptor] = (start + len(data), append)
        return True

    def _cut(self, inode: int | None, length: int) -> bool:
        if inode is None:
            return False
        file = self.files[inode]
        if len(file.held) == length:
            return False
        file.held = bytearray(file.held[:length].ljust(length, b"\0"))
        file.writes.append((-1, length.to_bytes(8, "big")))
        return True

    def _sync(self, path: str) -> bool:
        inode = self.names.get(path)
        if inode is None:
            return False
        file = self.files[inode]
        if file.folder:
            for naming in self.namings:
                if path in naming.folders():
                    _apply_naming(self.safe_names, naming)
            self.namings = [naming for naming in self.namings if path not in naming.folders()]
        else:
            file.safe, file.writes = bytes(file.held), []
        return True

    def _name(self, path: str, file: _File) -> bool:
        if not self._inside(path):
            return False
        self.files.append(file)
        return self._change(_Naming(None, (path, len(self.files) - 1)))

    def _link(self, old: str, new: str) -> bool:
        return self._inside(new) and self._change(_Naming(None, (new, self.names[old])))

    def _rename(self, old: str, new: str) -> bool:
        if not self._inside(new):
            return self._forget(old)
        for key in [key for key in self._at if f"<{old}>" in key]:
            self._at[key.replace(f"<{old}>", f"<{new}>")] = self._at.pop(key)
        return self._change(_Naming(old, (new, self.names[old])))

    def _forget(self, path: str) -> bool:
        return path in self.names and self._change(_Naming(path, None))

    def _change(self, naming: _Naming) -> bool:
        _apply_naming(self.names, naming)
        self.namings.append(naming)
        return True

    def _inode(self, descriptor: str) -> int | None:
        return self.names.get(_of(descriptor))

    def _inside(self, path: str) -> bool:
        return path == self.place or path.startswith(self.place + "/")

    def _path(self, text: str, before: Sequence[str]) -> str:
        name = text.strip('"')
        if not name.startswith("/") and before and "<" in before[0]:
            name = f"{_of(before[0])}/{name}"
        assert name.startswith("/"), f"relative to a folder that strace does not tell: {name}"
        return os.path.normpath(name)


def _apply_naming(names: dict[str, int], naming: _Naming) -> None:
    """Change names; of a folder all below it goes along. What names a file that is not there does nothing."""
    below: dict[str, int] = {}
    if naming.remove is not None:
        gone = [name for name in names if name == naming.remove or name.startswith(naming.remove + "/")]
        if naming.add is not None and not gone:
            return  # the file's first name never reached the disk, and so it is nowhere
        below = {name.removeprefix(naming.remove): names.pop(name) for name in gone}
    if naming.add is not None:
        name, inode = naming.add
        names.update({name + rest: their for rest, their in below.items()} or {name: inode})


def _parents_are(names: dict[str, int], name: str, place: str, files: list[_File]) -> bool:
    parents = [str(parent) for parent in PurePosixPath(name).parents]
    inside = [parent for parent in parents if parent == place or parent.startswith(place + "/")]
    return all(parent in names and files[names[parent]].folder for parent in inside)


def _surviving(file: _File, chance: float, draw: random.Random) -> bytes:
    data = bytearray(file.safe)
    kept = len(file.writes) if chance == 1 else 0 if chance == 0 else draw.randint(0, len(file.writes))
    for number, (place, written) in enumerate(file.writes[:kept]):
        if place == -1:
            length = int.from_bytes(written, "big")
            data = bytearray(data[:length].ljust(length, b"\0"))
            continue
        whole = chance == 1 or number < kept - 1
        part = written if whole else written[: draw.randint(0, len(written))]
        data.extend(bytes(max(0, place - len(data))))
        data[place : place + len(part)] = part
    return bytes(data)


def _of(descriptor: str) -> str:
    """The path that strace tells of a descriptor: 3</path>."""
    path = descriptor.partition("<")[2].removesuffix(">")
    return path.removesuffix(" (deleted)").removesuffix("(deleted)")


def _text(quoted: str) -> bytes:
    assert quoted[0] == quoted[-1] == '"', f"longer than {_LONGEST} bytes"
    return quoted[1:-1].encode("latin-1")


def emptied(folder: Path) -> Path:
    """The folder, new and empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
