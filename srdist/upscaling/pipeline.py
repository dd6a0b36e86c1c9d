"""One process's part of a directory job: read ahead, run the network, write behind.

In go the units that are open in the job's tally; out come whole output files and a receipt for each image. Threads
read and decode, threads run the network (several on a CPU, each on an image of its own), threads encode and write.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from queue import Empty, SimpleQueue
from typing import Any

import torch

from srdist.images.decode import UnreadableImageError
from srdist.images.photo import OutputFormat
from srdist.machine.claims import Worker
from srdist.machine.files import whole_file
from srdist.networks.enlarger import Enlarger
from srdist.upscaling.imagefile import Loaded, Store, in_strips, kind, load, stores
from srdist.upscaling.jobstate import Tally, is_there
from srdist.upscaling.plan import Item
from srdist.upscaling.receipts import Receipt

IN_FLIGHT_PIXELS = 1 << 25
"""Output pixels that a process holds decoded or waiting to be written, at most (the last one may go beyond)."""
CPU_LANES = 4
"""Images that go through the network at the same time on a CPU, at most: each lane holds a tile's activations."""
POLL_S = 0.3
"""Time between looks at what the other processes have done."""

_FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
"""Write errors that the next image would meet too: they end the job, and the same command goes on later."""


@dataclass(frozen=True, slots=True)
class Output:
    """How outputs are stored."""

    format: OutputFormat | None = None
    """None = as the input (what cannot be written, GIF, becomes PNG)."""
    quality: int = 95
    """Of JPEG and WebP, 1 to 100."""
    overwrite: bool = False
    """Whether files in DST that no receipt knows may be replaced."""


def _look_again(_job: Future[Any]) -> None:
    """For what was read there is nothing to do but to look whether the network can have it."""


@dataclass(slots=True)
class _Task:
    """An image on its way through this process."""

    unit: int
    item: Item
    began: float
    held: int
    """Output pixels that it is taken to hold in memory, by its header."""
    reading: Future[Loaded | None]


class Pipeline:
    """This process's hands: `run` returns when nothing of the job is open, whoever did it."""

    def __init__(
        self,
        source: Path,
        destination: Path,
        *,
        tally: Tally,
        worker: Worker,
        enlarger: Enlarger,
        output: Output,
        threads: int,
    ) -> None:
        self.source, self.destination = source, destination
        self.plan, self.settings = tally.plan, tally.settings
        self.tally, self.worker, self.enlarger = tally, worker, enlarger
        self.output, self.threads = output, threads
        self._left: dict[int, int] = {}  # images of a claimed unit that are not settled yet
        self._reading: deque[_Task] = deque()
        self._enlarging = 0  # groups that are with the network
        self._writing = 0  # images that wait for a writer, or have one
        self._held = 0  # pixels of all of these
        # What to do about what a thread has done.
        self._finished: SimpleQueue[tuple[Future[Any], Callable[[Future[Any]], None]]] = SimpleQueue()
        self._number = itertools.count()
        # One thread an image, where there are enough of them: an operation shared by all cores waits for the one that
        # is busy with a codec.
        self._cores = torch.get_num_threads()
        self.lanes = min(self._cores, CPU_LANES) if enlarger.batch == 1 else 1
        # One more where images go one by one, so that no lane is idle while this thread is busy. Where they are batched,
        # what is read while the lane is busy makes the next batch.
        self._submitted = self.lanes + (enlarger.batch == 1)

    def run(self, share: float, show: Callable[[Tally], None]) -> None:
        """Work from `share` of the plan on, then on what others leave, until nothing is open."""
        with (
            ThreadPoolExecutor(self.threads) as readers,
            ThreadPoolExecutor(self.lanes) as networks,
            ThreadPoolExecutor(self.threads) as writers,
        ):
            try:
                while True:
                    self._work(self._claimed(share), readers, networks, writers, show)
                    self.tally.refresh()
                    show(self.tally)
                    if not self.tally.count(Tally.OPEN):
                        return
                    time.sleep(POLL_S)
            except BaseException:
                for pool in (readers, networks, writers):
                    pool.shutdown(cancel_futures=True)
                raise
            finally:
                torch.set_num_threads(self._cores)

    def _claimed(self, share: float) -> Iterator[tuple[int, Item]]:
        """Open images of units that this process has claimed, from its share on, round the whole plan."""
        units = self.plan.units
        first, passed = 0, 0
        while passed < share * self.tally.total_pixels and first < len(units) - 1:
            passed += sum(self.plan.pixels[units[first].start : units[first].stop])
            first += 1
        for number in (*range(first, len(units)), *range(first)):
            unit = units[number]
            if Tally.OPEN not in self.tally.state[unit.start : unit.stop]:
                continue
            if not self.worker.claim(self._name(number)):
                continue
            self.tally.refresh()  # whoever held it before may have done some of it
            still_open = [i for i in unit if self.tally.state[i] == Tally.OPEN]
            self._left[number] = len(still_open)
            self._settle(number, 0)
            for i in still_open:
                yield number, self.plan.item(i)

    def _work(
        self,
        claimed: Iterator[tuple[int, Item]],
        readers: ThreadPoolExecutor,
        networks: ThreadPoolExecutor,
        writers: ThreadPoolExecutor,
        show: Callable[[Tally], None],
    ) -> None:
        shown = time.monotonic()
        while True:
            self._read_ahead(claimed, readers)
            while self._enlarging < self._submitted and (group := self._next_group()):
                tasks = [task for task, _ in group]
                job = networks.submit(self._enlarge, [loaded for _, loaded in group], self._threads_each())
                self._enlarging += 1
                self._when_done(job, functools.partial(self._take_enlarged, tasks, writers))
            if not (self._reading or self._enlarging or self._writing):
                return
            self._await_any()
            if time.monotonic() - shown > POLL_S:
                self.tally.refresh()
                show(self.tally)
                shown = time.monotonic()

    def _when_done(self, job: Future[Any], then: Callable[[Future[Any]], None]) -> None:
        """Have `then` called with the job by this thread when another one has ended it."""
        job.add_done_callback(lambda done: self._finished.put((done, then)))

    def _await_any(self) -> None:
        """Wait until a job has ended, and see to all that have."""
        with contextlib.suppress(Empty):
            job, then = self._finished.get(timeout=POLL_S)
            while True:
                then(job)
                job, then = self._finished.get_nowait()

    def _threads_each(self) -> int:
        """Torch threads for one lane: the cores, shared out among the lanes that have something to do."""
        waiting = 1 + self._enlarging + len(self._reading)
        return max(1, self._cores // min(self.lanes, waiting))

    def _take_enlarged(
        self, tasks: list[_Task], writers: ThreadPoolExecutor, job: Future[list[Store]]
    ) -> None:
        self._enlarging -= 1
        try:
            made = job.result()
        except UnreadableImageError as error:
            (task,) = tasks  # only rows are decoded this late, and they come one image at a time
            self._fail(task.item, str(error))
            self._done_with(task)
            return
        for task, store in zip(tasks, made, strict=True):
            self._writing += 1
            self._when_done(
                writers.submit(self._write, task, store), functools.partial(self._take_written, task)
            )

    def _take_written(self, task: _Task, writing: Future[None]) -> None:
        self._writing -= 1
        writing.result()
        self._done_with(task)

    def _done_with(self, task: _Task) -> None:
        self._held -= task.held
        self._settle(task.unit, 1)

    def _read_ahead(self, claimed: Iterator[tuple[int, Item]], readers: ThreadPoolExecutor) -> None:
        """Start reading, as far ahead as the bounds on images and pixels allow."""
        ahead = 2 * self.threads + self.enlarger.batch
        while not (self._reading or self._enlarging or self._writing) or (
            # Not ahead of the writers either: where they are slower than the network, all would end up waiting for them.
            len(self._reading) < ahead and self._writing < ahead and self._held < IN_FLIGHT_PIXELS
        ):
            following = next(claimed, None)
            if following is None:
                return
            unit, item = following
            pixels = item.pixels * self.enlarger.scale**2
            future = readers.submit(self._read, item, pixels)
            # What goes in strips waits on the disk: as many of those as there are threads.
            strips = in_strips(self.source / item.path, output_pixels=pixels)
            held = IN_FLIGHT_PIXELS // self.threads if strips else pixels
            self._reading.append(_Task(unit, item, time.monotonic(), held, future))
            self._held += held
            self._when_done(future, _look_again)

    def _next_group(self) -> list[tuple[_Task, Loaded]]:
        """The next image, if it was read, and those read ahead that have its shape: they share a batch."""
        group: list[tuple[_Task, Loaded]] = []
        later: deque[_Task] = deque()
        while self._reading and len(group) < self.enlarger.batch:
            task = self._reading.popleft()
            if not task.reading.done():
                later.append(task)
                continue
            loaded = task.reading.result()
            if loaded is None:
                self._done_with(task)
            elif group and kind(loaded) != kind(group[0][1]):
                later.append(task)
            else:
                group.append((task, loaded))
        self._reading.extendleft(reversed(later))
        return group

    def _enlarge(self, loaded: list[Loaded], threads: int) -> list[Store]:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)  # of this lane: OpenMP keeps the number by calling thread
        # A count is one operation of the interpreter: two lanes never get the same number.
        raw = self.worker.scratch / f"{next(self._number)}.raw"
        return stores(loaded, self.enlarger, iter([raw]))

    def _settle(self, unit: int, images: int) -> None:
        self._left[unit] -= images
        if self._left[unit] == 0:
            del self._left[unit]
            self.worker.release(self._name(unit))

    def _name(self, unit: int) -> str:
        return f"{self.plan.inputs.digest[:12]}-{unit:06d}"

    def _read(self, item: Item, output_pixels: int) -> Loaded | None:
        """Load one input; None where there is nothing more to do: it has failed, or only its date is new."""
        known = self.tally.receipt(item)
        ours = known is not None and known.output == item.output and known.status in ("done", "begun")
        target = self.destination / item.output
        if not ours and not self.output.overwrite and target.exists():
            self._fail(item, f"{target}: exists and was not made by srdist; --overwrite replaces it")
            return None
        try:
            loaded = load(self.source / item.path, output_pixels=output_pixels)
        except OSError as error:
            self._fail(item, f"cannot be read: {error.strerror or error}")
            return None
        except UnreadableImageError as error:
            self._fail(item, str(error))
            return None
        if known and known.input_sha256 == loaded.sha256 and self._still_good(known, item):
            self.worker.record(replace(known, input_mtime_ns=item.mtime_ns).line())
            return None
        return loaded

    def _still_good(self, known: Receipt, item: Item) -> bool:
        return (
            known.status == "done"
            and known.settings == self.settings
            and known.output == item.output
            and is_there(self.destination, known)
        )

    def _write(self, task: _Task, store: Store) -> None:
        item, loaded = task.item, task.reading.result()
        assert loaded is not None
        target = self.destination / item.output
        suffix = PurePosixPath(item.output).suffix.lower()
        begun = self._receipt(item, input_sha256=loaded.sha256, pixels=loaded.pixel_count)
        try:
            self.worker.record(begun.line())
            with whole_file(target, scratch=self.worker.scratch) as temporary:
                notes = store(temporary, suffix=suffix, quality=self.output.quality)
                size = temporary.stat().st_size
        except OSError as error:
            if error.errno in _FATAL:
                raise
            self._fail(item, f"{target}: cannot be written: {error.strerror or error}")
            return
        except ValueError as error:
            self._fail(item, str(error))
            return
        seconds = round(time.monotonic() - task.began, 3)
        self.worker.record(
            replace(begun, status="done", output_bytes=size, seconds=seconds, notes=notes).line()
        )

    def _fail(self, item: Item, reason: str) -> None:
        self.worker.record(replace(self._receipt(item), status="failed", reason=reason).line())

    def _receipt(self, item: Item, *, input_sha256: str = "", pixels: int = 0) -> Receipt:
        return Receipt(
            path=item.path,
            status="begun",
            output=item.output,
            settings=self.settings,
            input_bytes=item.size,
            input_mtime_ns=item.mtime_ns,
            input_sha256=input_sha256,
            pixels=pixels,
        )
