"""Work shared by processes that never talk: claims with leases that can be taken over, and a log for each process.

Everything lies in one folder that all processes see (`DST/.srdist`), and nothing in it is needed to use the outputs:

    workers/NAME/     one live process: `alive`, touched every few seconds, and its temporary files
    claims/UNIT.0     who works on a unit; UNIT.1 is whoever took it over when that process had died, and so on
    receipts/NAME.jsonl   what a process has done, only ever appended to (receipts.py)
    runs/N                which process began the Nth run, and what for

A receipt is written after its output has its name. So the receipts alone say what is done; claims only keep living
processes from doing the same. A process is dead when the machine knows it no more (where it is this one), or when
`alive` is older than LEASE_S by the clock of the file system. A process that slept through its lease and wakes up repeats
work that another did: the outputs are the same bytes and appear whole, so nothing is harmed. Where a newcomer has
removed its temporary files it makes its folder anew (`births`).
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
from pathlib import Path

from srdist.machine.files import sync, whole_file
from srdist.machine.liveness import LEASE_S, lives, whereabouts
from srdist.machine.plainjson import parse_json

HEARTBEAT_S = 5.0
"""Time between touches."""

BURIAL_S = 1.0
"""Time that removing a dead process's files may take."""


class Worker:
    """This process among those that share a folder: it claims units, and its claims lapse when it dies.

    A context manager: on leaving, the claims and the temporary files are removed; the receipts stay.
    """

    def __init__(
        self, folder: Path, *, purpose: str = "", lease_s: float = LEASE_S, heartbeat_s: float = HEARTBEAT_S
    ) -> None:
        """Nothing is written before entering.

        Args:
            purpose: what this process is here for, if it begins a run: told to those that join it (`run_purpose`).
        """
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.folder = folder
        self.lease_s = lease_s
        self.heartbeat_s = heartbeat_s
        self.scratch = folder / "workers" / self.name
        """Folder of this process's temporary files."""
        self.births = 0
        """How often its scratch folder was made: more than once where it slept, and others took it for dead."""
        self.run = 0
        """Number of the run that this process belongs to: processes that live at the same time are of one run."""
        self.run_purpose = purpose
        """Of the process that began the run."""
        self._purpose = purpose
        self._run_began = (
            0.0  # by the file system's time; kept, because a newcomer removes the files of earlier runs
        )
        self._alive = self.scratch / "alive"
        self._held: dict[str, int] = {}
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._birth = threading.Lock()

    def __enter__(self) -> Worker:
        for name in ("workers", "claims", "receipts", "runs"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._be_born()
        self._log = (self.folder / "receipts" / f"{self.name}.jsonl").open("ab", buffering=0)
        for folder in (self.folder / "receipts", self.folder, self.folder.parent):
            sync(folder)  # a log that is synced is of use only where its name is on the disk too
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._heart.start()
        try:
            self._bury()
            self._join_run()
        except BaseException:
            self.__exit__()
            raise
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

    def record(self, lines: bytes) -> None:
        """Append receipts, lines with their ends (from any thread)."""
        with self._lock:
            self._log.write(lines)

    def ask_for_logs(self) -> None:
        """Have this machine see the logs of all processes when it looks next.

        A client of a shared folder remembers a list of names for up to a minute, but not past a change of its own.
        """
        mark = self.folder / "receipts" / f".{self.name}"
        mark.touch()
        mark.unlink()

    def sync(self) -> None:
        """Return when what was recorded before is on the disk."""
        os.fsync(self._log.fileno())

    def revive(self) -> None:
        """Make the scratch folder anew where others have removed it, taking this process for dead (from any thread)."""
        with self._birth:
            if not self._alive.exists():
                self._be_born()

    def was_buried(self, error: OSError, *, since: int) -> bool:
        """Whether `error` comes of others who have removed the scratch folder since `births` had this value.

        The folder is there again afterwards.
        """
        until = time.monotonic() + BURIAL_S
        while True:
            self.revive()
            if self.births != since:
                return True
            # A burial takes the files one by one, and `alive` perhaps after the one that is missed.
            if not isinstance(error, FileNotFoundError) or time.monotonic() > until:
                return False
            time.sleep(0.02)

    def write(self, path: Path, data: bytes) -> None:
        """Write a whole file by way of the scratch folder, again where others have removed that meanwhile."""
        while True:
            births = self.births
            try:
                with whole_file(path, scratch=self.scratch) as temporary:
                    temporary.write_bytes(data)
                return
            except OSError as error:
                if not self.was_buried(error, since=births):
                    raise

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
        self.sync()
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

    def run_age_s(self) -> float:
        """Seconds since this process's run began."""
        return max(self._now() - self._run_began, 0.0)

    def _be_born(self) -> None:
        # Renamed into place with its `alive` file in it: a folder without one is a dead process's.
        unborn = self.scratch.with_name(f".{self.name}")
        while True:
            shutil.rmtree(unborn, ignore_errors=True)
            unborn.mkdir()
            try:
                (unborn / "run").write_text(str(self.run))
                (unborn / self._alive.name).write_text(json.dumps(whereabouts()))
                shutil.rmtree(self.scratch, ignore_errors=True)  # half removed
                unborn.rename(self.scratch)
            except FileNotFoundError:  # it slept in its birth, and others took it for dead
                continue
            self.births += 1
            return

    def _join_run(self) -> None:
        """Become one of the run whose processes live, or begin the next one."""
        runs = self.folder / "runs"
        while True:
            number = max((int(path.name) for path in runs.iterdir() if path.name.isdigit()), default=0)
            if number and self._is_live_run(number):
                break
            try:
                descriptor = os.open(runs / str(number + 1), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:  # begun by another just now
                continue
            with os.fdopen(descriptor, "w") as file:
                json.dump({"founder": self.name, "purpose": self._purpose}, file)
            number += 1
            break
        self.run, self.run_purpose = number, self._run_file(number).get("purpose", "")
        try:
            (self.scratch / "run").write_text(str(number))
        except FileNotFoundError:  # buried in its start-up
            self.revive()
        try:
            self._run_began = (runs / str(number)).stat().st_mtime
        except FileNotFoundError:  # its processes have left just now, and a newcomer has begun the next
            self._run_began = self._now()
        for path in runs.iterdir():
            if path.name.isdigit() and int(path.name) < number:
                path.unlink(missing_ok=True)

    def _is_live_run(self, number: int) -> bool:
        if self._lives(str(self._run_file(number).get("founder"))):
            return True
        others = [path for path in (self.folder / "workers").glob("[!.]*") if path.name != self.name]
        return any(_number_in(path / "run") == number and self._lives(path.name) for path in others)

    def _run_file(self, number: int) -> dict[str, str]:
        path = self.folder / "runs" / str(number)
        while True:
            try:
                if not path.is_file():  # a FIFO would be waited for
                    return {}
                begun = parse_json(path.read_bytes() or b"null")
                if begun is None and self._now() - path.stat().st_mtime < HEARTBEAT_S:
                    time.sleep(0.05)  # made a moment ago: its process is about to write
                    continue
            except (FileNotFoundError, ValueError):
                begun = None
            return begun if isinstance(begun, dict) else {}

    def _lives(self, name: str) -> bool:
        return lives(self.folder / "workers" / name, now=self._now(), lease_s=self.lease_s)

    def _now(self) -> float:
        """The file system's time: clocks of machines differ, and leases are compared by its stamps."""
        while True:
            try:
                os.utime(self._alive)
                with self._alive.open("rb") as file:
                    return os.fstat(file.fileno()).st_mtime
            except FileNotFoundError:  # buried, perhaps between the two
                self.revive()

    def _beat(self) -> None:
        while not self._stop.wait(self.heartbeat_s):
            try:
                self._now()
            except OSError:
                continue  # a share that does not answer now may do so at the next beat

    def _bury(self) -> None:
        """Remove what dead processes have left: their temporary files."""
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


def _number_in(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
