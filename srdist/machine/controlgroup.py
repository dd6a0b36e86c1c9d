"""What the control groups around this process grant it, in a container above all: lines of their files, version 1 and 2.

Apart from cores and memory, which both ask: in a container the paths in /proc may be the host's, and a limit may stand in
any group around the process's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def granted(
    controller: str, *, version_2: str, version_1: tuple[str, ...], root: Path
) -> Iterator[list[str]]:
    """What the files of a controller say, for each group around this process that has them; "" for one that is missing.

    Args:
        controller: as in /proc/self/cgroup: cpu, memory.
        version_2: name of the file.
        version_1: names of the files.
        root: where proc and sys lie.
    """
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mounts = root / "sys/fs/cgroup"
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            for folder in _upwards(mounts, path):
                yield [_read(folder / version_2)]
        elif controller in controllers.split(","):
            for name in {controllers, controller}:
                for folder in _upwards(mounts / name, path):
                    yield [_read(folder / file) for file in version_1]


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """The group's folder and those around it, up to the mount: in a container the path may be the host's and not be there."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:depth])


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
