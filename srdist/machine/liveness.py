"""Which processes live, on this machine and on others, by the file that each of them touches."""

from __future__ import annotations

import os
import socket
import time
import uuid
from pathlib import Path
from typing import Any

from srdist.machine.plainjson import parse_json

LEASE_S = 60.0
"""A process that has not touched its `alive` file for so long is taken for dead."""


def living(folder: Path) -> list[str]:
    """Names of the processes at work in a folder, for one who only looks: by this machine's clock."""
    workers = folder / "workers"
    now = time.time()
    return sorted(path.name for path in workers.glob("[!.]*") if lives(path, now=now))


def lives(worker: Path, *, now: float, lease_s: float = LEASE_S) -> bool:
    """Whether the process of this `workers/NAME` folder lives, at file system time `now`."""
    try:
        # Opened, then asked: what a client of a shared folder remembers of a file may be a minute old.
        with (worker / "alive").open("rb") as file:
            age = now - os.fstat(file.fileno()).st_mtime
            content = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        alive = parse_json(content or b"{}")
    except ValueError:
        alive = None  # being written, or torn by a power cut: its age tells which
    where = alive if isinstance(alive, dict) else {}
    here = whereabouts()
    same_machine = all(where.get(key) == here[key] for key in ("boot", "pid_namespace"))
    if same_machine and _start_time(where.get("pid", 0)) != where.get("start_time"):
        return False
    return bool(age < lease_s)  # on this machine too: a stopped process must not hold up the others


def whereabouts() -> dict[str, Any]:
    """Which process on which machine: a pid alone may be another's in a container, or a later process's."""
    pid = os.getpid()
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    return {
        "host": socket.gethostname(),
        "boot": boot.read_text().strip() if boot.exists() else "",
        "pid_namespace": str(namespace.readlink()) if namespace.exists() else uuid.uuid4().hex,
        "pid": pid,
        "start_time": _start_time(pid),
    }


def _start_time(pid: int) -> int | None:
    """Clock ticks from boot to the start of a process, None where there is none (proc(5), field 22 of stat)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


def process_began() -> float:
    """When this process started, in seconds since 1970; ranks of one launch start together, whatever they load first."""
    ticks = _start_time(os.getpid())
    if ticks is None:
        return time.time()
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")
