"""How many cores this process may use: its affinity, and the quota of its control group, in a container above all.

The cores of the host say nothing there: 64 threads on a quota of 2 cores wait for each other most of the time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that this process may use, at least 1.

    Args:
        root: where proc and sys lie.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Rounded down: a thread more than the quota pays for makes all of them wait.
    return max(1, int(min(cores, _quota(root))))


@cache
def _quota(root: Path) -> float:
    """Cores that the control group may use, the least of all groups around it; infinity where there is no bound."""
    return min(_quotas(root), default=float("inf"))


def _quotas(root: Path) -> Iterator[float]:
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            for folder in _upwards(root / "sys/fs/cgroup", path):
                quota, _, period = _read(folder / "cpu.max").partition(" ")
                if quota.isdigit() and period.isdigit():  # else "max"
                    yield int(quota) / int(period)
        elif "cpu" in controllers.split(","):
            for name in {controllers, "cpu"}:
                for folder in _upwards(root / "sys/fs/cgroup" / name, path):
                    quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
                    if quota.isdigit() and period.isdigit():  # else -1
                        yield int(quota) / int(period)


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
