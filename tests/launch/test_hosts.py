"""launch/machines.sh on two hosts with a network between them: signals, a host that is cut off and comes back, one that is killed."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.processes import kill_tree
from benchmarks.runs import Launch
from tests.conftest import ROOT
from tests.launch.lab import Lab, command_of, hosts, wait_until

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "launch/machines.sh"
RUN_S = 300.0
"""Time that a busy machine may take until a run has started, or gone on, or ended."""
SETTINGS = ("train.steps=100000", "train.checkpoint_every=10", "train.log_every=5")


@pytest.fixture
def two_hosts(tmp_path: Path) -> Iterator[Lab]:
    (tmp_path / "lab").mkdir()
    with hosts(tmp_path / "lab") as lab:
        yield lab


def start(lab: Lab, launch: Launch, host: str, machines: str, **env: str) -> subprocess.Popen[str]:
    command: tuple[str | Path, ...] = (SCRIPT, machines, "h0", launch.run, *launch.command()[2:])
    return lab.start(*command, host=host, env={"RANKS": "1", **env})


def script(process: subprocess.Popen[str]) -> psutil.Process:
    """machines.sh, behind the processes that lead to its host."""
    children = psutil.Process(process.pid).children(recursive=True)
    return next(child for child in children if command_of(child)[1:2] == [str(SCRIPT)])


def test_a_signal_on_either_host_saves_on_both(two_hosts: Lab, small_set: Path, tmp_path: Path) -> None:
    launch = Launch(small_set, tmp_path / "run", (*SETTINGS, "train.peer_timeout_s=300"))
    begin_and_stop(two_hosts, launch, number=signal.SIGHUP, on=1)
    begin_and_stop(two_hosts, launch, number=signal.SIGUSR1, on=0)
    assert [row["world"] for row in begins(launch)] == [2, 2]


def begin_and_stop(lab: Lab, launch: Launch, *, number: signal.Signals, on: int) -> None:
    """Start, or go on, on both hosts; after a step tell one of them to end."""
    starts = len(begins(launch))
    machines = [start(lab, launch, host, "2") for host in ("h0", "h1")]

    def goes() -> bool:
        begun = begins(launch)
        return len(begun) > starts and steps(launch) > begun[-1]["step"]

    try:
        wait_until(goes, "a step", timeout_s=RUN_S, process=machines[0])
        script(machines[on]).send_signal(number)
        said = [machine.communicate(timeout=RUN_S)[0] for machine in machines]
    finally:
        for machine in machines:
            kill_tree(machine)
    assert [machine.returncode for machine in machines] == [0, 0], said
    saved = launch.final().trainer["state"]["step"]
    assert json.loads((launch.run / "STOPPED").read_text())["step"] == saved, said
    assert launch.rows("stop")[-1]["step"] == saved > begins(launch)[-1]["step"]


def test_an_elastic_run_goes_on_without_a_host_that_is_cut_off_with_it_again_and_after_it_was_killed(
    two_hosts: Lab, small_set: Path, tmp_path: Path
) -> None:
    launch = Launch(small_set, tmp_path / "run", (*SETTINGS, "train.peer_timeout_s=8"))
    # What is lost is missed sooner than on a real network.
    conf = {"PET_RDZV_CONF": "last_call_timeout=2,keep_alive_interval=1,keep_alive_max_attempt=5"}
    here, there = (start(two_hosts, launch, host, "1:2", **conf) for host in ("h0", "h1"))
    try:

        def until_on(world: int, what: str) -> None:
            """Wait until the newest start is of so many ranks and has saved."""

            def is_so() -> bool:
                begun = begins(launch)
                return bool(begun) and begun[-1]["world"] == world and steps(launch) >= begun[-1]["step"] + 20

            wait_until(is_so, what, timeout_s=RUN_S, process=here)

        until_on(2, "both hosts")
        two_hosts.run("ip", "link", "set", "h1", "down")
        until_on(1, "the run on h0 alone")
        assert begins(launch)[-1]["step"] >= 10  # not from the beginning
        kill_tree(there)
        two_hosts.run("ip", "link", "set", "h1", "up")
        there = start(two_hosts, launch, "h1", "1:2", **conf)
        until_on(2, "both hosts again")
        two_hosts.run("bash", "-c", 'kill -KILL "$(cat "$LAB/h1.pid")"')
        until_on(1, "the run without the killed host")
        script(here).terminate()
        said, _ = here.communicate(timeout=RUN_S)
    finally:
        kill_tree(here)
        kill_tree(there)
    assert here.returncode == 0, said
    assert launch.final().trainer["state"]["step"] == launch.rows("stop")[-1]["step"]


def begins(launch: Launch) -> list[dict[str, Any]]:
    """The starts and resumptions so far, in their order."""
    return [row for row in rows(launch) if row["kind"] in ("start", "resume")]


def steps(launch: Launch) -> int:
    """The newest logged step since the last start."""
    newest = 0
    for row in rows(launch):
        newest = row["step"] if row["kind"] in ("start", "resume", "train") else newest
    return newest


def rows(launch: Launch) -> list[dict[str, Any]]:
    log = launch.run / "metrics.jsonl"
    return [json.loads(line) for line in log.read_text().split("\n")[:-1]] if log.is_file() else []
