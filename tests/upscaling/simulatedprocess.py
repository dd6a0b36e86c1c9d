"""One simulated process of a directory job: the real classes in a thread that stops before every file operation."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srdist.images.decode import UnreadableImageError
from srdist.machine.claims import Worker
from srdist.upscaling.job import Job, Output, write_job
from srdist.upscaling.jobstate import Tally
from srdist.upscaling.maker import Maker
from srdist.upscaling.plan import Inputs, Plan
from srdist.upscaling.receipts import Receipts
from srdist.upscaling.summary import UpscaleReport, write_summary
from srdist.upscaling.units import Assigned, Units

if TYPE_CHECKING:
    from tests.upscaling.simulation import World

POLL_S = 0.3


class Killed(BaseException):
    """Ends a simulated process where it stands; whatever it would tidy up is left as it is."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What stands for a decoded image: its bytes."""

    content: bytes
    sha256: str
    pixel_count: int = 1


class Process:
    """One simulated process."""

    def __init__(self, world: World, number: int, *, machine: int, skew_s: float, remembers: bool) -> None:
        self.world, self.number, self.machine = world, number, machine
        self.skew_s, self.remembers = skew_s, remembers
        self.worker: Worker | None = None
        self.killed = self.over = self.slept = False
        self.frozen_at: float | None = None
        self.report: UpscaleReport | None = None
        self.error: BaseException | None = None
        self.waits = ""
        self._budget = 0
        self._go = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._live, name=f"process {number}", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """Of its worker; empty before it has one."""
        return self.worker.name if self.worker else ""

    @property
    def goes(self) -> bool:
        """Whether it is there and not frozen."""
        return not self.over and self.frozen_at is None

    def run(self, steps: int) -> None:
        """Let it go on until it is about to do one more than `steps` file operations, or has ended."""
        if self.goes:
            self._budget = steps
            self._go.release()
            assert self.world.turn.acquire(timeout=20), f"process {self.number} does not come back"

    def kill(self) -> None:
        """SIGKILL."""
        if not self.over:
            self.killed = True
            self._go.release()
            assert self.world.turn.acquire(timeout=20), f"process {self.number} does not die"

    def point(self) -> None:
        """Wait until it may do one more file operation (from its own thread)."""
        if not self.killed and self._budget == 0:
            self.world.turn.release()
            self._go.acquire()
        if self.killed:
            raise Killed
        self._budget -= 1

    def beat(self) -> None:
        """What its heart does, in a thread of its own, while it is not frozen."""
        if self.worker is None or self.over or self.frozen_at is not None:
            return
        alive = self.worker.scratch / "alive"
        if alive.exists():
            self.world._utime(alive, (self.world.now, self.world.now))

    def _live(self) -> None:
        self._go.acquire()
        self.world.by_thread[threading.get_ident()] = self
        try:
            if not self.killed:
                self.report = self._job()
        except Killed:
            pass
        except BaseException as error:
            self.error = error
        finally:
            del self.world.by_thread[threading.get_ident()]
            self.over = True
            self.world.turn.release()

    def _job(self) -> UpscaleReport:
        """As upscale_tree, with a pipeline that makes one image after the other."""
        world = self.world
        job = Job(world.source, world.destination, Output(), "s", share=self.number / 3)
        inputs = Inputs(job)
        self.worker = Worker(job.state, heartbeat_s=1e6)
        with self.worker as worker:
            cut = Plan(inputs, cache=job.state / "plans", write=worker.write)
            write_job(job, write=worker.write)
            tally = Tally(cut, Receipts(job.state / "receipts"), job, run=worker.run)
            hands = Maker(job, tally, worker)
            units = Units(hands)
            tally.look()
            while True:
                while (following := units.next()) is not None:
                    self._make(hands, units, following)
                tally.refresh()
                assert not units.held
                if not tally.count(Tally.OPEN):
                    report = tally.report(seconds=1.0)
                    write_summary(job, report, tally.failures(), write=worker.write)
                    return report
                self.waits = ", ".join(units.held_by_others())
                time.sleep(POLL_S)
                units.look_again()

    def _make(self, hands: Maker, units: Units, one: Assigned) -> None:
        births = hands.worker.births
        loaded: Any = hands.read(one.image, output_pixels=1)
        left = False
        if loaded is not None:

            def store(target: Path, *, suffix: str, quality: int) -> tuple[str, ...]:
                del suffix, quality
                target.write_bytes(b"output of " + loaded.content)
                return ()

            left = not hands.write(one.image, loaded, store, began=time.monotonic(), births=births)
        units.settle(one.unit)
        if left:
            units.leave_waiting()


def load(path: Path, **_: object) -> _Loaded:
    content = path.read_bytes()
    if content.startswith(b"damaged"):
        raise UnreadableImageError("damaged")
    return _Loaded(content, sha256=content.hex())
