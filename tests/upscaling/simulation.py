"""Simulated processes of a directory job: the real classes, each process a thread that stops before every file operation.

A `World` lets one of them go a number of file operations further, kills or freezes it, lets time pass and has its
machine remember old sizes and listings as a client of a shared folder does. So a test says in which order the
operations of all processes happen, and what comes of it is the same each time.
"""

from __future__ import annotations

import io
import os
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self
from unittest.mock import patch

from srdist.machine import claims, liveness
from srdist.machine.liveness import LEASE_S
from srdist.upscaling import maker, plan
from srdist.upscaling.receipts import Receipts
from tests.upscaling.simulatedprocess import Process, load

REMEMBERED_S = 30.0
"""What a client of a shared folder remembers of a folder is at most so old."""
STEPS = 40_000
"""File operations after which processes that still work are taken to hang."""

_CALLS = (
    *("open", "utime", "fsync", "mkdir", "rename", "replace", "unlink"),
    *("rmdir", "stat", "listdir", "scandir"),
)


class World:
    """A context manager: images, an output folder, the processes that work on it, and their clock."""

    def __init__(self, folder: Path, *, images: int) -> None:
        self.source, self.destination = folder / "src", folder / "dst"
        self.source.mkdir()
        for number in range(images):
            (self.source / f"{number}.png").write_bytes(f"image {number}".encode())
        self.now = 1_900_000_000.0
        self.processes: list[Process] = []
        self.by_thread: dict[int, Process] = {}
        self.turn = threading.Semaphore(0)
        self._beaten = self.now
        self._synced: dict[str, int] = {}
        self._listed: dict[tuple[int, str], tuple[float, list[str]]] = {}
        self._copies = 0
        self._folder = folder
        self._utime = os.utime
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        put = self._stack.enter_context
        for name in _CALLS:
            put(patch.object(os, name, self._stopping(name, getattr(os, name))))
        put(patch.object(io, "open", self._open(io.open)))
        put(patch.object(time, "time", self._clock(time.time)))
        put(patch.object(time, "monotonic", self._clock(time.monotonic)))
        put(patch.object(time, "sleep", self._sleep(time.sleep)))
        put(patch.object(uuid, "uuid4", self._uuid(uuid.uuid4)))
        for module in (claims, liveness):
            put(patch.object(module, "whereabouts", self._whereabouts))
        put(patch.object(liveness, "_start_time", self._start_time))
        put(patch.object(maker, "load", load))
        put(patch.object(plan, "MAX_UNIT_IMAGES", 2))
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            if process.worker is not None and hasattr(process.worker, "_log"):
                process.worker._stop.set()
                process.worker._log.close()
        self._stack.close()

    def start(self, *, machine: int = 0, skew_s: float = 0.0, remembers: bool = False) -> Process:
        """One more process, which has done nothing yet."""
        process = Process(self, len(self.processes), machine=machine, skew_s=skew_s, remembers=remembers)
        self.processes.append(process)
        return process

    def freeze(self, process: Process) -> None:
        """SIGSTOP."""
        if process.goes:
            process.frozen_at = self.now

    def thaw(self, process: Process) -> None:
        """SIGCONT; its heart beats at once, as its thread was overdue."""
        if process.frozen_at is not None:
            process.slept |= self.now - process.frozen_at >= LEASE_S - claims.HEARTBEAT_S
            process.frozen_at = None
            process.beat()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, in which the hearts of those that are not frozen beat."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + claims.HEARTBEAT_S, end)
            self._beat()

    def finish(self) -> None:
        """Let all that live run to their end; then the same command once more, which must find everything in order."""
        for process in self.processes:
            self.thaw(process)
        left = STEPS
        while going := [process for process in self.processes if process.goes]:
            for process in going:
                process.run(20)
                left -= 20
            assert left > 0, "nothing ends: " + "; ".join(f"{p.number} waits for {p.waits}" for p in going)
        self.pass_time(2 * LEASE_S)
        last = self.start()
        while last.goes:
            last.run(100)
            left -= 100
            assert left > 0, f"the last process does not end: it waits for {last.waits}"

    def listed_by(self, process: Process) -> list[str]:
        """The logs that the process's machine remembers."""
        folder = self.destination / ".srdist" / "receipts"
        return self._listed.get((process.machine, str(folder)), (0.0, []))[1]

    def made(self) -> dict[str, list[Process]]:
        """Of each image the processes that recorded it as done; a receipt that only takes a new date is left out."""
        found: dict[str, list[Process]] = {}
        for process in self.processes:
            if process.worker is None:
                continue
            log = self.destination / ".srdist" / "receipts" / f"{process.worker.name}.jsonl"
            if log.exists():
                one = Receipts(log.parent)
                one._names = lambda name=log.name: [name]  # type: ignore[method-assign, misc]
                for _, receipt in one.refresh():
                    if receipt.status == "done" and receipt.seconds >= 0:
                        found.setdefault(receipt.path, []).append(process)
        return found

    def _beat(self) -> None:
        if self.now - self._beaten >= claims.HEARTBEAT_S:
            self._beaten = self.now
            for process in self.processes:
                process.beat()

    def _here(self) -> Process | None:
        return self.by_thread.get(threading.get_ident())

    def _stopping(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """An os function before which a simulated process stops, if it is about the output folder."""

        def call(*arguments: Any, **named: Any) -> Any:
            process = self._here()
            if process is None:
                return real(*arguments, **named)
            path = arguments[0] if arguments else "."
            inside = isinstance(path, int) or "dir_fd" in named or str(path).startswith(str(self.destination))
            if not inside:
                return real(*arguments, **named)
            process.point()
            match name:
                case "fsync":
                    return self._sync(arguments[0])
                case "utime" if len(arguments) == 1 and not named:
                    return self._utime(path, (self.now, self.now))
                case "listdir" if Path(path).name == "receipts":
                    return self._list(process, str(path), real)
            result = real(*arguments, **named)
            if name == "open" and arguments[1] & os.O_CREAT:
                self._utime(result, (self.now, self.now))
                self._listed.pop((process.machine, str(Path(path).parent)), None)
            if name == "mkdir":
                self._utime(path, (self.now, self.now))
            return result

        return call

    def _open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
            process = self._here()
            if process is None or not str(path).startswith(str(self.destination)):
                return real(path, mode, *arguments, **named)
            process.point()
            if Path(path).suffix == ".jsonl" and "r" in mode:
                del self.by_thread[
                    threading.get_ident()
                ]  # what the machine does is no operation of the process
                seen = self._as_seen_by(process, Path(path))
                self.by_thread[threading.get_ident()] = process
                return real(seen, mode, *arguments, **named)
            file = real(path, mode, *arguments, **named)
            if mode[0] in "wax":
                self._utime(file.fileno(), (self.now, self.now))
                self._listed.pop((process.machine, str(Path(path).parent)), None)
            return file

        return call

    def _as_seen_by(self, process: Process, log: Path) -> Path:
        """The log itself, or a copy of it as long as the process's machine sees it."""
        writer = next(p for p in self.processes if p.worker is not None and p.worker.name == log.stem)
        if not process.remembers or writer.machine == process.machine or writer.over or not log.exists():
            return log
        self._copies += 1
        copy = self._folder / f"seen-{self._copies}.jsonl"
        copy.write_bytes(log.read_bytes()[: self._synced.get(log.name, 0)])
        return copy

    def _list(self, process: Process, folder: str, real: Callable[..., Any]) -> list[str]:
        when, names = self._listed.get((process.machine, folder), (0.0, []))
        if not process.remembers or self.now - when > REMEMBERED_S:
            when, names = self.now, real(folder)
            self._listed[process.machine, folder] = (when, names)
        return list(names)

    def _sync(self, descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 (not through Path, which is watched)
        if path.suffix == ".jsonl":
            self._synced[path.name] = os.fstat(descriptor).st_size

    def _clock(self, real: Callable[[], float]) -> Callable[[], float]:
        def clock() -> float:
            process = self._here()
            return real() if process is None else self.now + process.skew_s

        return clock

    def _sleep(self, real: Callable[[float], None]) -> Callable[[float], None]:
        def sleep(seconds: float) -> None:
            process = self._here()
            if process is None:
                real(seconds)
                return
            self.now += seconds
            self._beat()
            process.point()

        return sleep

    def _uuid(self, real: Callable[[], uuid.UUID]) -> Callable[[], Any]:
        def make() -> Any:
            process = self._here()
            return real() if process is None else SimpleNamespace(hex=f"{process.number:08d}")

        return make

    def _whereabouts(self) -> dict[str, Any]:
        process = self._here()
        number, machine = (process.number, process.machine) if process else (-1, -1)
        return {"boot": f"machine {machine}", "pid_namespace": "", "pid": number, "start_time": number}

    def _start_time(self, pid: int) -> int | None:
        return None if pid < 0 or self.processes[pid].over else pid
