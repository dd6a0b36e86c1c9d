"""A directory job over a Ray cluster: its open units as tasks on actors, each with a GPU or some cores of its own.

Plan, claims, receipts and pipeline are those of every directory job (tree.py). Ray starts the actors, notices who is
gone, and starts it anew where there is room; the driver hands each actor units that the receipts say are open, and hands
them to another when theirs is lost. Not Ray's own retry of a task: that waits for the same actor, which after the loss of
a node may find no room for ever (docs/log.md). Nothing is trusted but the receipts: processes outside of Ray may take part.
"""

from __future__ import annotations

import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from srdist.machine.device import configure_threads, pick_device
from srdist.machine.errors import UserError, WorkError
from srdist.machine.launcher import Launch
from srdist.machine.raycluster import Grant, go_to
from srdist.machine.watchdog import Watchdog
from srdist.networks.foreign import load_network
from srdist.networks.precision import Precision, name_of
from srdist.networks.tilednetwork import TiledNetwork
from srdist.upscaling.job import Job
from srdist.upscaling.jobstate import Tally
from srdist.upscaling.maker import Maker
from srdist.upscaling.pipeline import POLL_S, Pipeline
from srdist.upscaling.summary import UpscaleReport
from srdist.upscaling.tree import Watch, conclude, taking_part
from srdist.upscaling.units import Units

TASKS_EACH = 16
"""Tasks that an actor gets, if there are units enough: the last ones are to end at about the same time, and between
two of them an actor's pipeline runs empty."""
FAREWELL_S = 10.0
"""Time in which the actors may take leave of the job."""


@dataclass(frozen=True, slots=True)
class Order:
    """What every actor is told alike."""

    job: Job
    weights: str
    weights_digest: str
    tile: int | None
    precision: Precision
    folder: str
    """The driver's current folder."""


class Hand:
    """An actor: one process of the job, that makes the units that it is handed."""

    def __init__(self, order: Order) -> None:
        # What may fail is left to `begin`: Ray tells of an error in here as of a lost actor.
        self._order = order
        self._leaving = ExitStack()

    def begin(self, driver: str, inputs_digest: str) -> str:
        """Load the network and join the job, again where it had begun before; the number type that is computed in.

        Args:
            driver: name of the driver's claims.Worker.
            inputs_digest: of the driver's plan.

        Raises:
            UserError: this node has another network, other images or another DST than the driver.
        """
        self.end()
        order, host = self._order, socket.gethostname()
        go_to(order.folder)
        self._threads = configure_threads(None)
        network = load_network(order.weights)
        if network.digest() != order.weights_digest:
            raise UserError(f"{order.weights}: is another network on node {host} than for the driver")
        self._tiled = TiledNetwork(
            network, device=pick_device(Launch.of(os.environ)), tile=order.tile, precision=order.precision
        )
        if not (order.job.state / "workers" / driver).is_dir():
            raise UserError(
                f"{order.job.destination}: is another folder on node {host} than for the driver; all nodes must share SRC and DST"
            )
        self._maker = self._leaving.enter_context(taking_part(order.job))
        if self._maker.tally.plan.inputs.digest != inputs_digest:
            raise UserError(
                f"{order.job.source}: node {host} sees other images than the driver; all nodes must share it, and nothing may "
                "be added while a job begins"
            )
        return name_of(self._tiled.number_type)

    def make(self, units: Sequence[int]) -> None:
        """See to it that no image of these units is open."""
        self._maker.worker.ask_for_logs()
        self._maker.tally.refresh()
        pipeline = Pipeline(
            self._maker, Units(self._maker, units), tiled=self._tiled, threads=max(2, self._threads)
        )
        pipeline.run(lambda _tally: None, tell=lambda line: print(line, flush=True))

    def end(self) -> None:
        """Leave the job."""
        self._leaving.close()


def upscale_on_ray(
    order: Order,
    grant: Grant,
    *,
    retries: int,
    watch: Watch,
    began: float,
) -> tuple[UpscaleReport, str]:
    """Upscale all images of a folder into a folder on the actors of a cluster that this process is connected to.

    Returns when every image is done or has failed: what became of them, and the number types computed in.

    Args:
        retries: times that units are handed out again after their actor was lost.
        began: when this process began, in seconds since 1970.

    Raises:
        WorkError: units whose actors were lost more often than that are left open.
    """
    with taking_part(order.job, watch=watch) as maker:
        tally = maker.tally
        tally.look()
        tasks = _cut(tally, grant.workers)
        hands = _Hands(order, maker, grant, retries=retries)

        def look() -> None:
            tally.refresh()
            watch.working(tally)

        def progress() -> object:
            return tally.count(Tally.OPEN), hands.at_work, len(hands.open_tasks)

        with Watchdog(watch.tell, progress=progress, waits=hands.waits):
            lost = hands.work_on(tasks, look)
        maker.worker.ask_for_logs()
        look()
        report = conclude(maker, began=began)
        if left := tally.count(Tally.OPEN):
            first = next(
                tally.plan.inputs.paths[i] for i, state in enumerate(tally.state) if state == Tally.OPEN
            )
            why = (
                f"the processes that had them were lost, {retries + 1} times each"
                if lost
                else "SRC was changed meanwhile"
            )
            raise WorkError(
                f"{left} of {report.images} images were left open ({first} first): {why}; the same command tries again"
            )
        return report, " and ".join(sorted(hands.number_types))


def _cut(tally: Tally, actors: int) -> list[list[int]]:
    """The units with open images, in tasks."""
    runs = enumerate(tally.plan.units)
    units = [unit for unit, images in runs if Tally.OPEN in tally.state[images.start : images.stop]]
    each = max(1, len(units) // (actors * TASKS_EACH))
    return [units[i : i + each] for i in range(0, len(units), each)]


class _Hands:
    """The actors of a job, each at one task: begin, or make some units."""

    def __init__(self, order: Order, maker: Maker, grant: Grant, *, retries: int) -> None:
        import ray

        self._ray: Any = ray
        self._order, self._grant, self._retries = order, grant, retries
        self._driver = maker.worker.name, maker.tally.plan.inputs.digest
        self._kind: Any = ray.remote(num_cpus=grant.cpus, num_gpus=grant.gpus, max_restarts=-1)(Hand)
        self._actors: list[Any] = []
        self._idle: list[Any] = []
        self._at: dict[
            Any, tuple[Any, list[int] | None]
        ] = {}  # by task: the actor, and the units that it makes
        self.open_tasks: deque[list[int]] = deque()
        self.number_types: set[str] = set()

    @property
    def at_work(self) -> int:
        """Actors that make units."""
        return sum(units is not None for _, units in list(self._at.values()))

    def work_on(self, tasks: Sequence[list[int]], look: Callable[[], None]) -> list[list[int]]:
        """Have all tasks done; those whose actors were lost too often.

        Args:
            look: called a few times a second.
        """
        self.open_tasks.extend(tasks)
        losses: Counter[int] = Counter()
        left: list[list[int]] = []
        try:
            for _ in range(min(self._grant.workers, len(tasks))):
                self._actors.append(self._kind.remote(self._order))
                self._begin(self._actors[-1])
            while self.open_tasks or self.at_work:
                done, _ = self._ray.wait(list(self._at), timeout=POLL_S)
                for task in done:
                    actor, units = self._at.pop(task)
                    if self._was_lost(task, units):
                        if units is not None:
                            losses[units[0]] += 1
                            (left if losses[units[0]] > self._retries else self.open_tasks).append(units)
                        self._begin(actor)
                    else:
                        self._idle.append(actor)
                while self._idle and self.open_tasks:
                    actor, following = self._idle.pop(), self.open_tasks.popleft()
                    self._at[actor.make.remote(following)] = actor, following
                look()
            leaving = [actor.end.remote() for actor in self._idle]
            if leaving:
                self._ray.wait(leaving, num_returns=len(leaving), timeout=FAREWELL_S)
        finally:
            for actor in self._actors:
                self._ray.kill(actor)
        return left

    def waits(self) -> str:
        """Who waits for what, for the watchdog (from its thread)."""
        return (
            f"{self.at_work} of {len(self._actors)} processes are at work, {len(self.open_tasks)} tasks wait for one; asked for: "
            f"{self._grant}; the cluster has {self._ray.cluster_resources().get('CPU', 0):g} CPUs and "
            f"{self._ray.cluster_resources().get('GPU', 0):g} GPUs"
        )

    def _begin(self, actor: Any) -> None:
        # This one may wait: until Ray has found room for the actor, or for the one in its place.
        self._at[actor.begin.options(max_task_retries=-1).remote(*self._driver)] = actor, None

    def _was_lost(self, task: Any, units: list[int] | None) -> bool:
        """Take what a task has come to: whether its actor was lost; what it raised is raised."""
        try:
            said = self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self._ray.exceptions.RayError as error:
            if units is None:  # waited for as long as there was hope
                raise WorkError(
                    f"Ray cannot start {self._grant}: {' '.join(str(error).split())[:300]}"
                ) from error
            return True
        if units is None:
            self.number_types.add(said)
        return False
