"""Two and three processes of a directory job in any order of their file operations, killed, frozen and misled."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.upscaling.simulatedprocess import Process
from tests.upscaling.simulation import World

IMAGES = 5
WHICH = st.integers(0, 2)


class Interleavings(RuleBasedStateMachine):
    """At the end every image is done or failed, once where its process did not die and nobody slept, and every process has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.world = World(self.folder, images=IMAGES).__enter__()
        self.changed = False

    def living(self, which: int) -> Process | None:
        there = [process for process in self.world.processes if not process.over]
        return there[which % len(there)] if there else None

    @precondition(lambda self: sum(not process.over for process in self.world.processes) < 3)
    @rule(machine=st.integers(0, 1), skew_s=st.sampled_from([0.0, -7200.0, 7200.0]), remembers=st.booleans())
    def start(self, machine: int, skew_s: float, remembers: bool) -> None:
        self.world.start(machine=machine, skew_s=skew_s, remembers=remembers)

    @rule(which=WHICH, steps=st.integers(1, 60))
    def run(self, which: int, steps: int) -> None:
        if process := self.living(which):
            process.run(steps)

    @rule(first=WHICH, second=WHICH, turns=st.lists(st.integers(1, 6), min_size=2, max_size=20))
    def take_turns(self, first: int, second: int, turns: list[int]) -> None:
        for number, steps in enumerate(turns):
            if process := self.living((first, second)[number % 2]):
                process.run(steps)

    @rule(which=WHICH)
    def kill(self, which: int) -> None:
        if process := self.living(which):
            process.kill()

    @rule(which=WHICH)
    def freeze(self, which: int) -> None:
        if process := self.living(which):
            self.world.freeze(process)

    @rule(which=WHICH)
    def thaw(self, which: int) -> None:
        if process := self.living(which):
            self.world.thaw(process)

    @rule(seconds=st.sampled_from([1.0, 10.0, 31.0, 61.0, 130.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(number=st.integers(0, IMAGES - 1), damaged=st.booleans())
    def change_an_input(self, number: int, damaged: bool) -> None:
        path = self.world.source / f"{number}.png"
        path.write_bytes(b"damaged" if damaged else f"image {number}, {self.world.now}".encode())
        self.changed |= bool(self.world.processes)

    def teardown(self) -> None:
        try:
            self.world.finish()
            check(self.world, changed=self.changed)
        finally:
            self.world.__exit__()
            shutil.rmtree(self.folder, ignore_errors=True)


def check(world: World, *, changed: bool = False) -> None:
    """What holds when all processes have ended."""
    damaged = {path.name for path in world.source.iterdir() if path.read_bytes() == b"damaged"}
    for process in world.processes:
        if process.error is not None:
            raise process.error
        if not process.killed:
            assert process.report is not None
            assert process.report.done + process.report.failed == IMAGES, process.report
    last = world.processes[-1].report
    assert last is not None
    assert (last.done, last.failed) == (IMAGES - len(damaged), len(damaged))
    for path in world.source.iterdir():
        if path.name not in damaged:
            output = (world.destination / path.name).read_bytes()
            assert output == b"output of " + path.read_bytes()
    logs = (world.destination / ".srdist" / "receipts").iterdir()
    assert not [log.name for log in logs if b"not made by srdist" in log.read_bytes()], "disowned"
    assert not list((world.destination / ".srdist" / "workers").iterdir())
    if changed or any(process.slept for process in world.processes):
        return
    for name, makers in world.made().items():
        orderly = [process.number for process in makers if not process.killed]
        assert len(orderly) <= 1, f"{name} was made by {orderly}"


def test_in_any_order_every_image_is_done_or_failed_and_every_process_ends() -> None:
    run_state_machine_as_test(
        Interleavings,
        settings=settings(
            max_examples=60,
            phases=[Phase.generate],  # making a story shorter takes minutes: drop this line where one fails
            stateful_step_count=25,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("steps", [1, 7])
def test_three_processes_side_by_side_make_each_image_once(tmp_path: Path, steps: int) -> None:
    with World(tmp_path, images=IMAGES) as world:
        three = [world.start(machine=number) for number in range(3)]
        while any(process.goes for process in three):
            for process in three:
                process.run(steps)
        world.finish()
        check(world)


def test_a_process_whose_machine_remembers_an_old_list_of_logs_fails_no_output_of_others(
    tmp_path: Path,
) -> None:
    with World(tmp_path, images=IMAGES) as world:
        one = world.start(machine=0, remembers=True)
        logs = world.destination / ".srdist" / "receipts"
        while world.listed_by(one) != [f"{one.name}.jsonl"]:
            one.run(1)
        other = world.start(machine=1)
        other.run(10_000)
        assert other.over
        assert len(list(logs.iterdir())) == 2
        world.finish()
        check(world)
