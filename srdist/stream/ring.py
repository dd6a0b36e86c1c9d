"""Batches from worker processes through a ring of shared slots, in order, and each slot reused.

Batch k is made by worker k mod W in slot k mod (W * DEPTH), whichever batch is the first one: workers may be there long
before it is known. A slot is given out again only when the consumer asks for the next batch, so its values hold until then. Nothing but small messages goes through the pipes, and no
shared memory is allocated after the start: allocating a new block for each batch is where a plain DataLoader
spends most of its time with small images.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import signal
import sys
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from srdist.machine.errors import UserError, WorkError
from srdist.machine.forked import how_it_ended, live_for_parent, signals_held
from srdist.machine.memory import usable_memory_mb
from srdist.machine.stopping import StopRequested
from srdist.machine.waiting import signalled, wait_for
from srdist.shards.reader import BadSample
from srdist.stream.batch import Batches, Slot

DEPTH = 2
"""Batches a worker may have finished or in hand before the consumer has taken them."""

_PARENT_CHECK_S = 2.0
_STOP_S = 5.0

Worker = tuple[BaseProcess, Connection]


class Ring:
    """Slots of numbered batches, each made by a worker process that is there from the start.

    Start it in the thread that lives as long as the stream: Linux ends the workers when that thread ends. Start it before
    the process group and CUDA: a fork takes one thread of many along, and whatever lock another one holds.

    Args:
        who: waits for the batches, for the line that says so: "rank 3".
        should_stop: asked twice a second while a batch is waited for.
    """

    def __init__(
        self,
        batches: Batches,
        *,
        slot_bytes: int,
        workers: int,
        who: str,
        should_stop: Callable[[], bool] = signalled,
    ) -> None:
        if workers and "fork" not in multiprocessing.get_all_start_methods():
            raise UserError(f"data.workers: found {workers}, expected 0 on {sys.platform}, which cannot fork")
        self._batches = batches
        self._who, self._should_stop = who, should_stop
        # Anonymous shared memory, not /dev/shm: containers often limit that to 64 MB.
        slots = max(1, workers * DEPTH)
        _refuse_more_than_is_granted(slots, slot_bytes)
        self._map = mmap.mmap(-1, slots * slot_bytes)
        self.memory = np.frombuffer(self._map, np.uint8)
        self._slots = self.memory.reshape(slots, slot_bytes)
        self._workers: list[Worker] = []
        self._under_way = 0
        # Workers ignore the signal that multiprocessing ends them with: stop them before its exit handler waits.
        self.close = weakref.finalize(self, _stop, self._workers)
        for _ in range(workers):
            self._workers.append(self._start())

    def take(self, first: int, stop: int | None = None) -> Iterator[tuple[Slot, tuple[BadSample, ...]]]:
        """Yield the slots, and their damaged samples, of batches `first`, `first + 1`, ... (below `stop`, if given).

        A slot's values hold until the next one is asked for. Once taken to `stop`, batches may be taken again.

        Raises:
            WorkError: a worker died; a UserError or WorkError of a worker is passed on.
            StopRequested: a stop was asked for while a batch was waited for.
            RuntimeError: a defect in our code, with the worker's traceback.
        """
        assert not self._under_way, "what was asked for before has not been taken"
        number = asked = first
        while stop is None or number < stop:
            ahead = number + len(self._slots)
            while self._workers and asked < (ahead if stop is None else min(ahead, stop)):
                self._ask(asked)
                asked += 1
            slot = _views(self._batches, number, self._slots)
            bad = self._receive(number) if self._workers else self._batches.make(number, slot)
            yield slot, bad
            number += 1

    def give_back(self) -> None:
        """Give the slots' memory back to the system until batches are taken again: a set's largest images fill a lot of it."""
        if sys.platform == "linux":
            self._map.madvise(mmap.MADV_REMOVE)

    def _start(self) -> Worker:
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        inherited = [pipe for _, pipe in self._workers] + [ours]
        process = context.Process(
            target=_work, args=(self._batches, self._slots, theirs, inherited, os.getpid()), daemon=True
        )
        with signals_held():
            process.start()
        theirs.close()
        return process, ours

    def _ask(self, number: int) -> None:
        process, pipe = self._workers[number % len(self._workers)]
        try:
            pipe.send(number)
            self._under_way += 1
        except (BrokenPipeError, ConnectionResetError) as error:
            raise _death(process) from error

    def _receive(self, number: int) -> tuple[BadSample, ...]:
        process, pipe = self._workers[number % len(self._workers)]
        if not pipe.poll():
            wait_for(
                lambda timeout_s: bool(wait([pipe, process.sentinel], timeout_s)),
                waits=lambda: (
                    f"{self._who} waits for batch {number} of data worker {number % len(self._workers)} "
                    f"(process {process.pid}{_state_of(process.pid)})"
                ),
                should_stop=self._should_stop,
            )
        if not pipe.poll():
            raise _death(process)
        try:
            result: tuple[BadSample, ...] | UserError | StopRequested | str = pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            raise _death(process) from error
        self._under_way -= 1
        if isinstance(result, UserError | StopRequested):
            raise result
        if isinstance(result, str):
            raise RuntimeError(f"in worker process {process.pid}:\n{result}")
        return result


def _views(batches: Batches, number: int, slots: UInt8[np.ndarray, "slots bytes"]) -> Slot:
    return batches.shape(number).views(slots[number % len(slots)])


def _work(
    batches: Batches,
    slots: UInt8[np.ndarray, "slots bytes"],
    pipe: Connection,
    inherited: list[Connection],
    parent: int,
) -> None:
    """A worker's life: numbers in, filled slots out, until it is told to stop or its parent is gone."""
    live_for_parent()
    for other in inherited:
        other.close()
    torch.set_num_threads(1)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while os.getppid() == parent:
            if not pipe.poll(_PARENT_CHECK_S):
                continue
            number = pipe.recv()
            if number is None:
                return
            try:
                pipe.send(batches.make(number, _views(batches, number, slots)))
            except (UserError, StopRequested) as error:
                pipe.send(error)
            except (BrokenPipeError, ConnectionResetError):
                return
            except Exception:  # a defect of ours: the parent shows it
                pipe.send(traceback.format_exc())


def _stop(workers: list[Worker]) -> None:
    for _, pipe in workers:
        with suppress(BrokenPipeError, ConnectionResetError):
            pipe.send(None)
        pipe.close()
    for process, _ in workers:
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, signal.SIGCONT)  # one that was stopped ends by itself as well
    end = time.monotonic() + _STOP_S
    for process, _ in workers:
        process.join(max(0.0, end - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
        process.close()
    workers.clear()


def _state_of(pid: int | None) -> str:
    """Why a process may stand still, as far as Linux tells."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
    match state:
        case "T" | "t":
            return f", stopped by a signal or a debugger: `kill -CONT {pid}` lets it go on"
        case "D":
            return ", in a system call that does not return: a disk or network file system?"
        case _:
            return ""


def _refuse_more_than_is_granted(slots: int, slot_bytes: int) -> None:
    """The kernel gives as much as is asked for, and kills when it is written to."""
    usable_mb, needed_mb = usable_memory_mb(), slots * slot_bytes / 1e6
    if usable_mb is not None and needed_mb > usable_mb:
        raise UserError(
            f"data.workers: {slots} batches of {slot_bytes / 1e6:,.0f} MB are held ready, {needed_mb:,.0f} MB in all, and "
            f"{usable_mb:,.0f} MB are there for this process; take fewer workers or a smaller train.global_batch"
        )


def _death(process: BaseProcess) -> WorkError:
    process.join(_STOP_S)
    how = how_it_ended(process.exitcode)
    return WorkError(f"a data worker (process {process.pid}) {how}: the run cannot go on without it")
