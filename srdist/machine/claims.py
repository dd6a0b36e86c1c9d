"""Work shared by processes that never talk: claims with leases that can be taken over, and a log for each process.

Everything lies in one folder that all processes see (`DST/.srdist`), and nothing in it is needed to use the outputs:

    workers/NAME/     one live process: `alive`, touched every few seconds, and its temporary files
    claims/UNIT.0     who works on a unit; UNIT.1 is whoever took it over when that process had died, and so on
    receipts/NAME.jsonl   what a process has done, only ever appended to (receipts.py)

A receipt is written after its output has its name. So the receipts alone say what is done; claims only keep living
processes from doing the same. A process is dead when the machine knows it no more (where it is this one), or when
`alive` is older than LEASE_S by the clock of the file system. A process that slept through its lease and wakes up repeats work that another
did: the outputs are the same bytes and appear whole, so nothing is harmed.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LEASE_S = 60.0
"""A process that has not touched its `alive` file for so long is taken for dead."""
HEARTBEAT_S = 5.0
"""Time between touches."""


class Worker:
    """This process among those that share a folder: it claims units, and its claims lapse when it dies.

    A context manager: on leaving, the claims and the temporary files are removed; the receipts stay.
    """

    def __init__(self, folder: Path, *, lease_s: float = LEASE_S, heartbeat_s: float = HEARTBEAT_S) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.folder = folder
        self.lease_s = lease_s
        self.heartbeat_s = heartbeat_s
        self.scratch = folder / "workers" / self.name
        self._alive = self.scratch / "alive"
        self._held: dict[str, int] = {}
        self._stop = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Worker:
        for name in ("workers", "claims", "receipts"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        # Renamed into place with its `alive` file in it: a folder without one is a dead process's.
        unborn = self.scratch.with_name(f".{self.name}")
        unborn.mkdir()
        (unborn / self._alive.name).write_text(json.dumps(_whereabouts()))
        unborn.rename(self.scratch)
        self._log = (self.folder / "receipts" / f"{self.name}.jsonl").open("ab", buffering=0)
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._heart.start()
        self._bury()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._heart.join()
        for unit in list(self._held):
            self.release(unit)
        self._log.close()
        log = Path(self._log.name)
        if log.stat().st_size == 0:
            log.unlink()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def record(self, line: bytes) -> None:
        """Append a receipt, a line with its end (from any thread)."""
        with self._lock:
            self._log.write(line)

    def claim(self, unit: str) -> bool:
        """Try to become the one process that works on `unit`; takes it over from a dead one."""
        assert unit not in self._held, f"unit {unit} is this process's own already"
        generation = 0
        while True:
            path = self._claim_file(unit, generation)
            try:
                descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                if self._is_live_claim(path):
                    return False
                # Generations, not renaming: of several that find the owner dead only one can make the next file.
                generation += 1
                continue
            with os.fdopen(descriptor, "w") as file:
                file.write(self.name)
            self._held[unit] = generation
            return True

    def release(self, unit: str) -> None:
        """Give a unit back; what was recorded before is on the disk first."""
        os.fsync(self._log.fileno())
        generation = self._held.pop(unit)
        if not self._claim_file(
            unit, generation + 1
        ).exists():  # else it was taken over while this process slept
            for older in range(generation, -1, -1):
                self._claim_file(unit, older).unlink(missing_ok=True)

    def owner(self, unit: str) -> str | None:
        """Name of the process that holds a unit, or did; None where nobody does."""
        generations = (self._claim_file(unit, n) for n in itertools.count())
        newest = None
        for path in generations:
            try:
                newest = path.read_text()
            except FileNotFoundError:
                return newest
        return None

    def _claim_file(self, unit: str, generation: int) -> Path:
        return self.folder / "claims" / f"{unit}.{generation}"

    def _is_live_claim(self, path: Path) -> bool:
        try:
            owner = path.read_text()
            # A claim without a name was made a moment ago, or its process died in that moment.
            return self._lives(owner) if owner else self._now() - path.stat().st_mtime < self.lease_s
        except FileNotFoundError:
            return True  # just released: whoever looks again will see

    def _lives(self, name: str) -> bool:
        return lives(self.folder / "workers" / name, now=self._now(), lease_s=self.lease_s)

    def _now(self) -> float:
        """The file system's time: clocks of machines differ, and leases are compared by its stamps."""
        os.utime(self._alive)
        return self._alive.stat().st_mtime

    def _beat(self) -> None:
        while not self._stop.wait(self.heartbeat_s):
            os.utime(self._alive)

    def _bury(self) -> None:
        """Remove what dead processes have left: their temporary files and their empty logs."""
        for path in (self.folder / "workers").iterdir():
            if path.name.startswith("."):
                try:
                    dead = self._now() - path.stat().st_mtime > self.lease_s
                except FileNotFoundError:
                    dead = False  # just renamed
            else:
                dead = not self._lives(path.name)
            if dead:
                shutil.rmtree(path, ignore_errors=True)


def living(folder: Path) -> list[str]:
    """Names of the processes at work in a folder, for one who only looks: by this machine's clock."""
    workers = folder / "workers"
    now = time.time()
    return sorted(path.name for path in workers.glob("[!.]*") if lives(path, now=now))


def lives(worker: Path, *, now: float, lease_s: float = LEASE_S) -> bool:
    """Whether the process of this `workers/NAME` folder lives, at file system time `now`."""
    try:
        where = json.loads((worker / "alive").read_bytes() or b"{}")
        age = now - (worker / "alive").stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return False
    except ValueError:
        return True  # being written
    here = _whereabouts()
    same_machine = all(where.get(key) == here[key] for key in ("boot", "pid_namespace"))
    if same_machine and _start_time(where["pid"]) != where["start_time"]:
        return False
    return bool(age < lease_s)  # on this machine too: a stopped process must not hold up the others


def _whereabouts() -> dict[str, Any]:
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


def share_of(environment: Mapping[str, str], *, shard: tuple[int, int] | None = None) -> float:
    """Where in the work this process begins, 0 to below 1, by what its launcher put into the environment.

    The rank of torchrun, accelerate or srun comes inside `shard` (I, N) or the index of a Slurm array or a Kubernetes
    Indexed Job. It only spreads the starting points: whoever is done goes on with what the others have not begun.
    """

    def number(name: str, default: int) -> int:
        value = environment.get(name, "")
        return int(value) if value.isdigit() else default

    world = max(number("WORLD_SIZE", number("SLURM_NTASKS", 1)), 1)
    rank = number("RANK", number("SLURM_PROCID", 0))
    index, members = shard or (0, 1)
    if shard is None and "SLURM_ARRAY_TASK_ID" in environment:
        step = max(number("SLURM_ARRAY_TASK_STEP", 1), 1)
        index = (number("SLURM_ARRAY_TASK_ID", 0) - number("SLURM_ARRAY_TASK_MIN", 0)) // step
        members = number("SLURM_ARRAY_TASK_COUNT", index + 1)
    elif shard is None and "JOB_COMPLETION_INDEX" in environment:
        index, members = number("JOB_COMPLETION_INDEX", 0), number("JOB_COMPLETIONS", 0)
        if not members:
            # Kubernetes does not say how many there are: multiples of the golden ratio spread evenly without.
            return (index * 0.6180339887498949 + rank / world) % 1.0
    return ((index * world + rank) / max(members * world, 1)) % 1.0
