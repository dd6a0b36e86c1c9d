"""The launch files: each is read by accelerate, and starts the ranks that it promises."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from tests.conftest import ROOT, Run
from tests.training.runs import BIN, Launch, kill_tree

FILES = sorted((ROOT / "launch").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_accelerate_reads_the_file_and_the_table_names_it(path: Path) -> None:
    assert load_config_from_file(str(path)).num_processes >= 1
    assert f"`{path.name}`" in (ROOT / "launch/README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "more", "world"), [("one", [], 1), ("gpus", ["--num_processes", "2"], 2)])
def test_one_machine_trains_on_the_ranks_of_the_file(
    small_set: Path, tmp_path: Path, name: str, more: list[str], world: int
) -> None:
    launch = Launch(small_set, tmp_path / "run", ("train.steps=2",))
    _launch(launch, name, [*more, "--main_process_port", "0"]).communicate(timeout=600)
    assert launch.rows("start")[0]["world"] == world
    assert launch.rows("done")[0]["step"] == 2


@pytest.mark.slow
def test_two_machines_are_one_run_with_two_ranks(small_set: Path, tmp_path: Path) -> None:
    launch = Launch(small_set, tmp_path / "run", ("train.steps=2",))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = ["--num_processes", "2", "--main_process_port", port]
    machines = [_launch(launch, "nodes", [*common, "--machine_rank", str(rank)]) for rank in (0, 1)]
    try:
        said = [machine.communicate(timeout=600)[0] for machine in machines]
    finally:
        for machine in machines:
            kill_tree(machine)
    assert [machine.returncode for machine in machines] == [0, 0], said
    assert launch.rows("start")[0]["world"] == 2
    assert launch.rows("done")[0]["step"] == 2


@pytest.mark.parametrize("door", [("srdist/train.py",), ("-m", "srdist", "train")])
def test_tasks_of_srun_alone_are_refused_in_one_line_that_says_how(run: Run, door: tuple[str, ...]) -> None:
    tasks = [
        run(
            *("python", *door, "--config", "configs/demo_x2.yaml"),
            env={"SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_PROCID": str(task)},
        )
        for task in (0, 1)
    ]
    assert [task.returncode for task in tasks] == [2, 2]
    assert tasks[0].stderr.startswith(
        "srdist: srun has started 2 tasks, each of which would train for itself"
    )
    assert "srun --ntasks-per-node=1 accelerate launch" in tasks[0].stderr
    assert [task.stderr.count("\n") for task in tasks] == [1, 0]


def _launch(launch: Launch, name: str, options: list[str]) -> subprocess.Popen[str]:
    ours = launch.command()[2:]
    command = [str(BIN / "accelerate"), "launch", "--config_file", f"launch/{name}.yaml", *options]
    return subprocess.Popen(
        [*command, "srdist/train.py", *ours],
        cwd=ROOT,
        env=launch.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
