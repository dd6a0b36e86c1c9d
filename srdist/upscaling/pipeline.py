"""One process's part of a directory job: read ahead, run the network, write behind.

In go the units that are open in the job's tally (units.py); out come whole output files and a receipt for each image.
Threads read and decode, threads run the network (several on a CPU, each on an image of its own; two on a GPU, each on a
batch), threads encode and write. This thread alone decides: an image goes from `Units` to a reader, waits for the network, has it, has a writer,
and is settled; the job's part is over when no claimed unit is left and none is open.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Literal

import torch

from srdist.images.decode import UnreadableImageError
from srdist.machine.watchdog import Watchdog
from srdist.networks.tilednetwork import TiledNetwork
from srdist.networks.tiling import NotFiniteError
from srdist.upscaling.imagefile import Loaded, Store, share_a_batch, stores
from srdist.upscaling.jobstate import LOOKING_THREADS, Tally
from srdist.upscaling.maker import Maker
from srdist.upscaling.units import Assigned, Units

IN_FLIGHT_PIXELS = 1 << 25
"""Output pixels that a process holds decoded or waiting to be written, at most (the last one may go beyond)."""
CPU_LANES = 4
"""Images that go through the network at the same time on a CPU, at most: each lane holds a tile's activations."""
POLL_S = 0.3
"""Time between looks at what the other processes have done."""
GRACE_S = 5.0
"""Time that the threads get to finish what they have begun when the job is stopped or ends in an error."""
NAMED = 3
"""Images and processes that the watchdog names."""

Stage = Literal["is read", "waits for the network", "is with the network", "is written"]


@dataclass(slots=True)
class _Task:
    """An image on its way through this process."""

    assigned: Assigned
    held: int
    """Output pixels that it is taken to hold in memory, by its header."""
    births: int
    """Of the worker when it began."""
    began: float
    stage: Stage = "is read"


class Pipeline:
    """This process's hands: `run` returns when nothing of the units is open, whoever did it."""

    def __init__(self, maker: Maker, units: Units, *, tiled: TiledNetwork, threads: int) -> None:
        self.maker, self.units, self.tiled, self.threads = maker, units, tiled, threads
        self.tally = maker.tally
        self._tasks: dict[int, _Task] = {}  # all that is on its way, by position in the plan
        self._loaded: deque[tuple[_Task, Loaded]] = deque()  # what waits for the network
        self._groups = 0  # that are with the network
        self._settled = 0
        # What threads have ended, and what this thread is to do about it.
        self._finished: SimpleQueue[tuple[Future[Any], Callable[[Future[Any]], None]]] = SimpleQueue()
        self._running: set[Future[Any]] = set()
        self._number = itertools.count()
        # One thread an image, where there are enough of them: an operation shared by all cores waits for the one that
        # is busy with a codec.
        self._cores = torch.get_num_threads()
        self.lanes = min(self._cores, CPU_LANES) if tiled.batch == 1 else tiled.lanes
        # One more where images go one by one, so that no lane is idle while this thread is busy. Where they are batched,
        # what is read while the lane is busy makes the next batch.
        self._submitted = self.lanes + (tiled.batch == 1)
        self._unseen = self.tally.unseen(units.images())
        self._looking: dict[Future[list[int]], list[int]] = {}
        self._lookers = ThreadPoolExecutor(LOOKING_THREADS)
        self._readers = ThreadPoolExecutor(threads)
        self._networks = ThreadPoolExecutor(self.lanes)
        self._writers = ThreadPoolExecutor(threads)

    def run(self, show: Callable[[Tally], None], *, tell: Callable[[str], None] = lambda _line: None) -> None:
        """Work on the units, then on what others leave, until nothing is open.

        Args:
            tell: called with a line about who waits for what, where nothing moves.
        """

        def progress() -> object:
            return self._settled, self.tally.count(Tally.OPEN), [t.stage for t in list(self._tasks.values())]

        try:
            with Watchdog(tell, progress=progress, waits=self._waits):
                self._until_nothing_is_open(show)
        finally:
            self._let_go_of_threads()
            torch.set_num_threads(self._cores)

    def _until_nothing_is_open(self, show: Callable[[Tally], None]) -> None:
        shown = float("-inf")
        while True:
            self._look()
            self._read_ahead()
            self._feed_network()
            # No image is lost: of each claimed unit one is on its way, and for whatever is on its way a thread works.
            assert bool(self._running) == bool(self._tasks) == self.units.held
            if self._running:
                self._await_any()
            if self._running and time.monotonic() - shown <= POLL_S:
                continue
            self.tally.refresh()
            show(self.tally)
            shown = time.monotonic()
            if not self.units.held:
                if self._looking:
                    wait(self._looking, timeout=POLL_S, return_when=FIRST_COMPLETED)
                elif not self.units.any_open():
                    return
                else:
                    time.sleep(POLL_S)
                self.units.look_again()

    def _look(self) -> None:
        """Look whether the outputs of earlier runs are there, beside the work: of a million that takes its time."""
        for done in [future for future in self._looking if future.done()]:
            self.tally.saw(self._looking.pop(done), done.result())
        while len(self._looking) < 2 * LOOKING_THREADS and (portion := next(self._unseen, None)):
            self._looking[self._lookers.submit(self.tally.missing, portion)] = portion

    def _read_ahead(self) -> None:
        """Start reading, as far ahead as the bounds on images and pixels allow."""
        while not self._tasks or self._has_room():
            if (following := self.units.next()) is None:
                return
            item = following.image.item
            pixels = item.pixels * self.tiled.scale**2
            task = _Task(following, pixels, self.maker.worker.births, time.monotonic())
            self._tasks[item.index] = task
            reading = self._readers.submit(self.maker.read, following.image, output_pixels=pixels)
            self._when_done(reading, functools.partial(self._take_read, task))

    def _has_room(self) -> bool:
        # Not ahead of the writers either: where they are slower than the network, all would end up waiting for them.
        batches = self.lanes if self.tiled.batch > 1 else 1
        ahead = 2 * self.threads + self.tiled.batch * batches
        writing = sum(task.stage == "is written" for task in self._tasks.values())
        reading = sum(task.stage in ("is read", "waits for the network") for task in self._tasks.values())
        held = sum(task.held for task in self._tasks.values())
        return reading < ahead and writing < ahead and held < IN_FLIGHT_PIXELS

    def _take_read(self, task: _Task, reading: Future[Loaded | None]) -> None:
        loaded = reading.result()
        if loaded is None:
            self._settle(task)
        else:
            if loaded.in_strips:  # as many of those as there are threads
                task.held = min(task.held, IN_FLIGHT_PIXELS // self.threads)
            task.stage = "waits for the network"
            self._loaded.append((task, loaded))

    def _feed_network(self) -> None:
        while self._groups < self._submitted and self._loaded:
            group = self._next_group()
            for task, _ in group:
                task.stage = "is with the network"
            self._submit(group)

    def _submit(self, group: list[tuple[_Task, Loaded]]) -> None:
        self._groups += 1
        job = self._networks.submit(self._upscale, [loaded for _, loaded in group], self._threads_each())
        self._when_done(job, functools.partial(self._take_upscaled, group))

    def _next_group(self) -> list[tuple[_Task, Loaded]]:
        """The image that waits longest, and those of its shape or near enough: they share a batch."""
        group: list[tuple[_Task, Loaded]] = []
        later: list[tuple[_Task, Loaded]] = []
        while self._loaded and len(group) < self.tiled.batch:
            one = self._loaded.popleft()
            fits = not group or share_a_batch(group[0][1], one[1], self.tiled)
            (group if fits else later).append(one)
        self._loaded.extendleft(reversed(later))
        return group

    def _threads_each(self) -> int:
        """Torch threads for one lane: the cores, shared out among the lanes that have something to do."""
        before = sum(task.stage != "is written" for task in self._tasks.values())
        return max(1, self._cores // min(self.lanes, max(before, 1)))

    def _upscale(self, loaded: list[Loaded], threads: int) -> list[Store]:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)  # of this lane: OpenMP keeps the number by calling thread
        # A count is one operation of the interpreter: two lanes never get the same number.
        raw = self.maker.worker.scratch / f"{next(self._number)}.raw"
        return stores(loaded, self.tiled, iter([raw]))

    def _take_upscaled(self, group: list[tuple[_Task, Loaded]], job: Future[list[Store]]) -> None:
        self._groups -= 1
        try:
            made = job.result()
        except NotFiniteError as error:
            # Each of the others alone: only what the network makes such pixels of has failed.
            if len(group) > 1:
                for one in group:
                    self._submit([one])
                return
            ((task, _),) = group
            self.maker.fail(task.assigned.image.item, str(error))
            self._settle(task)
            return
        except UnreadableImageError as error:
            ((task, _),) = group  # only rows are decoded this late, and they come one image at a time
            self.maker.fail(task.assigned.image.item, str(error))
            self._settle(task)
            return
        except OSError as error:
            if not self.maker.worker.was_buried(error, since=min(task.births for task, _ in group)):
                raise
            for task, _ in group:
                self._leave(task)
            return
        for (task, loaded), store in zip(group, made, strict=True):
            task.stage = "is written"
            writing = self._writers.submit(
                self.maker.write,
                task.assigned.image,
                loaded,
                store,
                began=task.began,
                births=task.births,
            )
            self._when_done(writing, functools.partial(self._take_written, task))

    def _take_written(self, task: _Task, writing: Future[bool]) -> None:
        if writing.result():
            self._settle(task)
        else:
            self._leave(task)

    def _settle(self, task: _Task) -> None:
        del self._tasks[task.assigned.image.item.index]
        self._settled += 1
        self.units.settle(task.assigned.unit)

    def _leave(self, task: _Task) -> None:
        """Leave an image open, and what else was claimed before others took this process for dead."""
        self._settle(task)
        self.units.leave_waiting()

    def _when_done(self, job: Future[Any], then: Callable[[Future[Any]], None]) -> None:
        """Have `then` called with the job by this thread when another one has ended it."""
        self._running.add(job)
        job.add_done_callback(lambda done: self._finished.put((done, then)))

    def _await_any(self) -> None:
        """Wait until a job has ended, and see to all that have."""
        with contextlib.suppress(Empty):
            job, then = self._finished.get(timeout=POLL_S)
            while True:
                self._running.discard(job)
                then(job)
                job, then = self._finished.get_nowait()

    def _let_go_of_threads(self) -> None:
        """Cancel what has not begun; wait for the rest, but not for ever: a thread may be stuck in a file system."""
        for pool in (self._lookers, self._readers, self._networks, self._writers):
            pool.shutdown(wait=False, cancel_futures=True)
        wait(self._running, timeout=GRACE_S)

    def _waits(self) -> str:
        """Who waits for what, for the watchdog (from its thread)."""
        if tasks := list(self._tasks.values()):
            now = time.monotonic()
            return _some(
                [
                    f"{task.assigned.image.item.path} {task.stage} (begun {now - task.began:.0f} s ago)"
                    for task in tasks
                ]
            )
        return "units with open images are claimed by " + _some(sorted(set(self.units.held_by_others())))


def _some(words: list[str]) -> str:
    rest = [f"{len(words) - NAMED} more"] if len(words) > NAMED else []
    return ", ".join(words[:NAMED] + rest)
