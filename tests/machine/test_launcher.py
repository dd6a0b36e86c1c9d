"""How a process was started, by what its launcher leaves to it; the variables of Slurm are those of real jobs."""

from __future__ import annotations

import ast
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from srdist.machine import launcher
from srdist.machine.cores import usable_cores
from srdist.machine.launcher import Launch
from tests.conftest import ROOT

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x",
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
}
BATCH = {
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NTASKS": "3",
    "SLURM_NODEID": "0",
    "SLURM_TASKS_PER_NODE": "2,1",
}
STEP = BATCH | {
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_TASKS_PER_NODE": "2,1",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
}
ARRAY = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "4"}
INDEXED = {"JOB_COMPLETION_INDEX": "2", "JOB_COMPLETIONS": "4"}


@pytest.mark.parametrize(
    ("environ", "kind", "place", "joins"),
    [
        ({}, "none", (0, 1, 0, 1), False),
        (TORCHRUN, "torchrun", (5, 8, 1, 4), True),
        (TORCHRUN | {"ACCELERATE_MIXED_PRECISION": "no"}, "accelerate", (5, 8, 1, 4), True),
        ({"ACCELERATE_MIXED_PRECISION": "no"}, "accelerate", (0, 1, 0, 1), False),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "ranks", (1, 2, 0, 1), True),
        ({"RANK": "5", "WORLD_SIZE": "8", "SLURM_LOCALID": "1"}, "ranks", (5, 8, 1, 1), True),
        ({"RANK": "5", "WORLD_SIZE": "8", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}, "ranks", (5, 8, 1, 1), True),
        (STEP, "srun", (1, 3, 1, 2), False),
        (
            STEP | {"SLURM_PROCID": "2", "SLURM_LOCALID": "0", "SLURM_NODEID": "1"},
            "srun",
            (2, 3, 0, 1),
            False,
        ),
        (STEP | TORCHRUN, "torchrun", (5, 8, 1, 4), True),
        (BATCH | ARRAY, "slurm array", (0, 3, 0, 1), False),
        (STEP | ARRAY, "srun", (1, 3, 1, 2), False),
        (INDEXED, "indexed job", (0, 1, 0, 1), False),
        ({"RAY_JOB_ID": "01000000"}, "ray", (0, 1, 0, 1), False),
        ({"RAY_JOB_ID": "01000000"} | {"RANK": "1", "WORLD_SIZE": "2"}, "ray", (1, 2, 0, 1), True),
    ],
)
def test_each_launcher_is_known_by_what_it_leaves(
    environ: dict[str, str], kind: str, place: tuple[int, int, int, int], joins: bool
) -> None:
    launch = Launch.of(environ)
    assert launch.kind == kind
    assert (launch.rank, launch.world, launch.local_rank, launch.local_world) == place
    assert launch.joins == joins
    assert launch.has_parent == (kind in ("torchrun", "accelerate"))


@pytest.mark.parametrize(
    ("environ", "share"),
    [
        ({}, 0.0),
        ({"RANK": "1", "WORLD_SIZE": "4"}, 0.25),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, 0.5),
        (ARRAY, 0.5),
        ({"SLURM_ARRAY_TASK_ID": "20", "SLURM_ARRAY_TASK_STEP": "10", "SLURM_ARRAY_TASK_COUNT": "4"}, 0.5),
        ({"JOB_COMPLETION_INDEX": "1", "JOB_COMPLETIONS": "4", "RANK": "1", "WORLD_SIZE": "2"}, 0.375),
    ],
)
def test_processes_begin_where_their_launcher_says(environ: dict[str, str], share: float) -> None:
    assert Launch.of(environ).share == pytest.approx(share)


def test_indexed_jobs_of_unknown_number_begin_apart() -> None:
    starts = sorted(Launch.of({"JOB_COMPLETION_INDEX": str(i)}).share for i in range(8))
    assert min(b - a for a, b in itertools.pairwise(starts)) > 0.05


def test_a_shard_holds_the_ranks_of_its_launch() -> None:
    environ = {"RANK": "1", "WORLD_SIZE": "2", "SLURM_ARRAY_TASK_ID": "9"}
    assert Launch.of(environ, part_of=(1, 4)).share == 0.375


@pytest.mark.parametrize(
    ("members", "gpus"),
    [
        (
            [
                STEP | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i), "SLURM_STEP_TASKS_PER_NODE": "4"}
                for i in range(4)
            ],
            4,
        ),
        ([{"JOB_COMPLETION_INDEX": str(i)} for i in range(4)], 4),
        ([ARRAY | {"SLURM_ARRAY_TASK_ID": str(1 + i)} for i in range(4)], 4),
        ([TORCHRUN | INDEXED | {"LOCAL_RANK": str(i)} for i in range(4)], 4),
    ],
)
def test_processes_on_one_machine_take_a_gpu_each_and_not_all_the_first(
    members: list[dict[str, str]], gpus: int
) -> None:
    assert sorted(Launch.of(member).gpu(gpus) for member in members) == list(range(gpus))
    # Where each is shown its own alone, that is the one.
    assert {Launch.of(member).gpu(1) for member in members} == {0}


def test_the_parts_of_a_hand_made_launch_take_a_gpu_each() -> None:
    assert [Launch.of({}, part_of=(i, 3)).gpu(2) for i in range(3)] == [0, 1, 0]


def test_what_is_no_number_counts_as_absent() -> None:
    assert Launch.of({"SLURM_ARRAY_TASK_ID": "", "SLURM_PROCID": "x", "WORLD_SIZE": "0"}).world == 1


def test_ranks_of_one_machine_share_its_cores() -> None:
    cores = usable_cores()
    assert Launch.of({}).cpus == cores
    assert Launch.of(TORCHRUN | {"LOCAL_WORLD_SIZE": str(cores)}).cpus == 1
    assert Launch.of(TORCHRUN | {"LOCAL_WORLD_SIZE": str(5 * cores)}).cpus == 1
    assert Launch.of(BATCH).cpus == cores
    # Slurm has tied the task to what it sees, which is less than the step has on this machine.
    assert Launch.of(STEP | {"SLURM_CPUS_ON_NODE": str(cores + 1)}).cpus == cores
    # Not tied: the cores of the step, for two tasks.
    assert Launch.of(STEP | {"SLURM_CPUS_ON_NODE": str(cores)}).cpus == max(cores // 2, 1)
    assert Launch.of(STEP | {"SLURM_CPUS_ON_NODE": "999", "SLURM_CPUS_PER_TASK": "1"}).cpus == 1
    # Ray binds nobody to cores, but counts them.
    assert Launch.of({"RAY_JOB_ID": "01000000", "OMP_NUM_THREADS": "1"}).cpus == 1
    assert Launch.of({"RAY_JOB_ID": "01000000", "OMP_NUM_THREADS": "999"}).cpus == cores


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "100000 100000"}, 1),
        ("0::/a", {"a/cpu.max": "max 100000"}, None),
        ("0::/../../elsewhere", {"cpu.max": "150000 100000"}, 1),
        (
            "3:cpu,cpuacct:/docker/x\n0::/",
            {"cpu,cpuacct/cpu.cfs_quota_us": "100000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            1,
        ),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("7:memory:/", {}, None),
    ],
)
def test_the_quota_of_a_container_counts_and_not_the_cores_of_its_host(
    tmp_path: Path, groups: str, files: dict[str, str], quota: int | None
) -> None:
    _control_groups(tmp_path, groups, files)
    assert usable_cores(tmp_path) == (quota or len(os.sched_getaffinity(0)))


POD = "kubepods.slice/kubepods-burstable.slice/pod7/x"


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        # The kubelet bounds the pod; the container's own group inside has none.
        (f"0::/{POD}", {f"{POD}/cpu.max": "max 100000", f"{Path(POD).parent}/cpu.max": "400000 100000"}),
        ("0::/", {"cpu.max": "400000 100000"}),
        (
            f"9:cpu,cpuacct:/{POD}\n3:cpuset:/{POD}",
            {"cpu,cpuacct/cpu.cfs_quota_us": "400000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
        ),
    ],
    ids=["version 2, the host's path", "version 2, the container's path", "version 1"],
)
def test_a_pod_of_4_cpus_on_64_cores_computes_with_4_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, files: dict[str, str]
) -> None:
    _control_groups(tmp_path, groups, files)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)))
    assert usable_cores(tmp_path) == 4
    monkeypatch.setattr(launcher, "usable_cores", lambda: usable_cores(tmp_path))
    assert Launch.of(INDEXED).cpus == 4
    assert Launch.of(TORCHRUN | {"LOCAL_WORLD_SIZE": "2"}).cpus == 2
    # A cpuset of 2 of the cores, as the static CPU manager gives.
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3, 5})
    assert usable_cores(tmp_path) == 2


def _control_groups(root: Path, groups: str, files: dict[str, str]) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups + "\n")
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")


@pytest.fixture
def group_of_one_core() -> Iterator[Path]:
    """A real control group that the kernel gives one core, around another that it does not bound."""
    version_1 = Path("/sys/fs/cgroup/cpu")
    outer = (version_1 if version_1.is_dir() else Path("/sys/fs/cgroup")) / f"srdist-test-{os.getpid()}"
    files = {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "100000"}
    inner = outer / "inner"
    try:
        inner.mkdir(parents=True)
        for name, text in files.items() if version_1.is_dir() else [("cpu.max", "100000 100000")]:
            (outer / name).write_text(text)
    except OSError as error:
        for folder in (inner, outer):
            if folder.is_dir():
                folder.rmdir()
        pytest.skip(f"control groups cannot be made here: {error}")
    yield inner
    inner.rmdir()
    outer.rmdir()


def test_all_commands_compute_with_the_threads_of_a_real_control_group(group_of_one_core: Path) -> None:
    code = (
        "import os, torch; from srdist.machine import ranks; from srdist.machine.launcher import Launch\n"
        "with ranks.process_group(): print(Launch.of(os.environ).cpus, torch.get_num_threads())"
    )
    done = subprocess.run(
        [
            "sh",
            "-c",
            f'echo $$ > {group_of_one_core}/cgroup.procs; exec "$0" "$@"',
            sys.executable,
            "-c",
            code,
        ],
        capture_output=True,
        text=True,
        check=True,
        env={name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"},
    )
    assert done.stdout == "1 1\n"


def test_a_process_that_is_bound_to_one_core_computes_with_one_thread() -> None:
    code = "import os; from srdist.machine.launcher import Launch; print(Launch.of(os.environ).cpus)"
    core = min(os.sched_getaffinity(0))
    done = subprocess.run(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, [{core}]); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"


VARIABLE = re.compile(
    r"RANK|WORLD_SIZE|NODE_RANK|LOCAL_(RANK|WORLD_SIZE)|(SLURM|TORCHELASTIC|PET|RAY|ACCELERATE|OMPI|PMI|JOB_COMPLETION)\w+"
)
WRITTEN = {"ACCELERATE_TORCH_DEVICE", "RAY_USAGE_STATS_ENABLED", "RAY_ADDRESS"}
"""What srdist itself sets, for accelerate and Ray to read; and where a user says that the cluster is."""


def test_no_other_file_reads_the_variables_of_a_launcher() -> None:
    found = {
        (path.name, node.value)
        for path in (ROOT / "srdist").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and VARIABLE.fullmatch(node.value)
    }
    assert {name for name, variable in found if variable not in WRITTEN} == {"launcher.py"}
    assert ("launcher.py", "SLURM_ARRAY_TASK_STEP") in found


@pytest.mark.parametrize("cores_of", ["cpu_count", "sched_getaffinity"])
def test_no_other_file_counts_the_cores(cores_of: str) -> None:
    files = {path.name for path in (ROOT / "srdist").rglob("*.py") if cores_of in path.read_text()}
    # `srdist doctor` tells the machine's cores beside those that are granted.
    assert files - {"hardware.py"} == {"cores.py"}
