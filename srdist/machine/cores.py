"""How many cores this process may use: its affinity, and the quota of its control group, in a container above all.

The cores of the host say nothing there: 64 threads on a quota of 2 cores wait for each other most of the time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from srdist.machine.controlgroup import granted


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
    for said in granted(
        "cpu", version_2="cpu.max", version_1=("cpu.cfs_quota_us", "cpu.cfs_period_us"), root=root
    ):
        quota, _, period = " ".join(said).partition(" ")
        if quota.isdigit() and period.isdigit() and int(period):  # else "max" or -1
            yield int(quota) / int(period)
