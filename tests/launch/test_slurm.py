"""launch/*.sbatch on a real Slurm cluster of two hosts: preempted and requeued, as an array, with several tasks a node."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.runs import Launch, differences, pack_small_set, processes_of
from tests.conftest import ROOT
from tests.launch.lab import Lab, command_of, slurm, wait_until
from tests.upscaling.test_job import done_lines

pytestmark = pytest.mark.slow

STEPS = 120
TRAINING_S = 300.0
"""Time that a training on a busy machine may take for its start, or for its end."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two hosts; a job that is preempted has ten minutes to save."""
    with slurm(tmp_path_factory.mktemp("slurm", numbered=False), KILL_WAIT="600") as lab:
        yield lab


def test_a_training_on_two_nodes_survives_its_limit_and_a_preemption_and_ends_in_the_same_bits(
    cluster: Lab, small_set: Path, tmp_path: Path
) -> None:
    settings = (f"train.steps={STEPS}", "train.validate_every=60", "train.peer_timeout_s=300")
    undisturbed = Launch(small_set, tmp_path / "undisturbed", settings, ranks=2)
    undisturbed.finish()

    launch = Launch(small_set, tmp_path / "run", settings)
    script = ROOT / "launch/train.sbatch"
    options = ("--nodes=2", "--cpus-per-task=1", f"--output={tmp_path}/job.out")
    asked: tuple[str | Path, ...] = (*options, script, launch.run, *launch.command()[2:])
    job = cluster.run("sbatch", "--parsable", *asked, env={"RANKS": "1"}).strip()

    # What Slurm does before the time limit.
    hold_at_a_step_after(launch, 0)
    cluster.run("scancel", "--signal=USR1", job)
    wait_until(lambda: len(launch.rows("stop")) == 1, "the save at USR1", timeout_s=TRAINING_S)
    # A job of a higher priority on both nodes.
    hold_at_a_step_after(launch, launch.rows("stop")[0]["step"])
    said = cluster.run(
        *("srun", "--partition=urgent", "--exclusive", "--nodes=2", "hostname"), timeout_s=TRAINING_S
    )
    assert {"h0", "h1"} <= set(said.split())
    wait_until(lambda: len(launch.rows("done")) == 1, "the end", timeout_s=TRAINING_S)

    told = (tmp_path / "job.out").read_text()
    assert len(launch.rows("stop")) == 2, told
    assert [launch.rows(kind)[0]["world"] for kind in ("start", "resume")] == [2, 2]
    assert len(launch.rows("resume")) == 2
    assert "Traceback" not in told
    assert differences(undisturbed, launch) == []
    assert "Restarts=2" in cluster.run("scontrol", "--oneliner", "show", "job", job)


def test_a_training_that_fails_is_not_queued_again_and_again(cluster: Lab, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/STOPPED").write_text('{"reason": "SIGUSR1"}')
    submit = ("sbatch", "--parsable", "--nodes=1", f"--output={tmp_path}/job.out")
    wrong = (ROOT / "launch/train.sbatch", tmp_path / "run", "--config", tmp_path / "absent.yaml")
    job = cluster.run(*submit, *wrong, env={"RANKS": "1"}).strip()
    wait_until(
        lambda: state(cluster, job) not in ("PENDING", "RUNNING", "COMPLETING"),
        "the job",
        timeout_s=TRAINING_S,
    )
    assert state(cluster, job) == "FAILED"
    assert "absent.yaml" in (tmp_path / "job.out").read_text()


def state(cluster: Lab, job: str) -> str:
    """What Slurm says of a job, such as RUNNING."""
    shown = cluster.run("scontrol", "--oneliner", "show", "job", job)
    return dict(part.partition("=")[::2] for part in shown.split())["JobState"]


def hold_at_a_step_after(launch: Launch, step: int) -> None:
    """Wait for a later step, and stop the data workers there: Slurm wakes them before it ends a job."""

    def is_there() -> bool:
        log = launch.run / "metrics.jsonl"
        return log.is_file() and any(row["step"] > step for row in launch.rows_so_far())

    wait_until(is_there, f"a step after {step}", timeout_s=TRAINING_S)
    for process in processes_of(launch.run):
        parent = process.parent()
        if parent is not None and command_of(parent) == command_of(process):
            process.send_signal(signal.SIGSTOP)


def test_what_a_killed_member_of_an_array_had_begun_the_others_make(cluster: Lab, tmp_path: Path) -> None:
    pack_small_set(tmp_path, images=40, height=160, width=160)
    source, destination = tmp_path / "images", tmp_path / "out"
    script = ROOT / "launch/upscale.sbatch"
    options = ("--array=0-2", "--cpus-per-task=1", f"--output={tmp_path}/%a.out")
    upscale = (source, destination, "--weights", "srcnn_x2", "--precision", "fp32")
    job = cluster.run("sbatch", "--parsable", *options, script, *upscale).strip()

    worker, unit = first_claim_on_h0(destination)
    host, pid, _ = worker.split("-")
    cluster.run("kill", "-KILL", pid, host=host)
    wait_until(
        lambda: not cluster.run("squeue", "--noheader", "--job", job).strip(),
        "the array",
        timeout_s=TRAINING_S,
    )

    told = "\n".join(path.read_text() for path in sorted(tmp_path.glob("*.out")))
    made = done_lines(destination)
    assert set(made) == {path.name for path in source.iterdir()}, told
    assert {path.name for path in destination.glob("*.jpg")} == set(made)
    # The images in work when it was killed are the only ones that may have been made by two.
    assert set(made.values()) == {1}, told
    assert "Killed" in told
    assert json.loads((destination / "summary.json").read_text())["failed"] == 0
    assert list((destination / ".srdist" / "claims").iterdir()) == [], unit


def first_claim_on_h0(destination: Path) -> tuple[str, str]:
    """The member on h0 that is first to claim a unit, and the unit.

    Slurm fills h0 first: another member there knows at once when that one is dead, those on h1 after a minute.
    """
    found: list[tuple[str, str]] = []

    def is_there() -> bool:
        for claim in sorted(destination.glob(".srdist/claims/*")):
            with suppress(FileNotFoundError):  # given back
                found.append((claim.read_text(), claim.name))
        found[:] = [one for one in found if one[0].startswith("h0-")]
        return bool(found)

    wait_until(is_there, "a claim", timeout_s=TRAINING_S)
    return found[0]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two tasks with a core each need two cores")
@pytest.mark.parametrize("gpus", ["--gpus-per-node=2", "--gpus-per-task=1"])
def test_each_of_several_tasks_on_a_node_takes_its_own_gpu_and_its_share_of_the_cores(
    cluster: Lab, gpus: str
) -> None:
    told = cluster.run(
        *("srun", "--nodes=2", "--ntasks-per-node=2", "--quiet", gpus, sys.executable, "-c", TELL)
    )
    tasks = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    assert sorted((task["host"], task["gpu"]) for task in tasks) == [
        ("h0", 0),
        ("h0", 1),
        ("h1", 0),
        ("h1", 1),
    ], told
    assert {task["cpus"] for task in tasks} == {1}


TELL = """
import json, os, socket
from srdist.machine.launcher import Launch
launch = Launch.of(os.environ)
visible = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
print(json.dumps({"host": socket.gethostname(), "gpu": int(visible[launch.gpu(len(visible))]), "cpus": launch.cpus}))
"""
