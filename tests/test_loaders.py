"""benchmarks.loader: every contestant keeps to folders of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.ownfolders import CACHES, TEMPORARY, own_folders
from benchmarks.processes import ROOT, clean_environment

CLEANER = """
import os, shutil, tempfile
from pathlib import Path
# As litdata does at the beginning of an optimization.
cache = Path(os.getenv("DATA_OPTIMIZER_DATA_CACHE_FOLDER", f"{tempfile.gettempdir()}/data"))
shutil.rmtree(cache)
shutil.rmtree(Path(tempfile.gettempdir()), ignore_errors=True)
shutil.rmtree(Path.home() / ".cache", ignore_errors=True)
for name in ("HF_DATASETS_CACHE", "WDS_CACHE", "WANDB_CACHE_DIR", "MPLCONFIGDIR", "TORCH_HOME", "XDG_CACHE_HOME"):
    shutil.rmtree(os.environ[name])
"""
BENCHMARK = """
import subprocess, sys, tempfile, time
from benchmarks.ownfolders import working_folder
with working_folder() as folder:
    (folder / "a.txt").write_text("a")
    tempfile.mkdtemp()
    # As torch's launcher does at each launch.
    child = "import tempfile; tempfile.mkdtemp(prefix='torchelastic_')"
    subprocess.run([sys.executable, "-c", child], check=True)
    print(folder, flush=True)
    time.sleep(int(sys.argv[1]))
"""


@pytest.fixture
def user() -> Iterator[dict[str, str]]:
    """The temporary directory, the home and the caches of a user who keeps files there."""
    # Not in tmp_path: data workers hand their batches over sockets, whose paths are short.
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        for folder in ("t/data", "t/chunks", "h/.cache", "h/.lightning", "c/hf"):
            (Path(name) / folder).mkdir(parents=True)
            (Path(name) / folder / "canary.txt").write_text("mine")
        named = dict.fromkeys(CACHES, f"{name}/c/hf")
        yield named | dict.fromkeys(TEMPORARY, f"{name}/t") | {"HOME": f"{name}/h"}


def files_of(user: dict[str, str]) -> list[Path]:
    return sorted(path for folder in set(user.values()) for path in Path(folder).rglob("*"))


@pytest.mark.slow
def test_the_table_leaves_what_it_finds_and_nothing_else(
    user: dict[str, str], photos: dict[str, np.ndarray], tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(20):
        Image.fromarray(photos["coffee"][number : number + 218, :178]).save(folder / f"{number}.jpg")
    before = files_of(user)
    table = tmp_path / "table.json"
    # litdata runs where benchmarks/contestants.sh has made its environment, and is told as not run elsewhere.
    command = [sys.executable, "-m", "benchmarks.loader", "--quick"]
    command += ["--part", "contestants", "--only", "seed", "litdata_tuned"]
    subprocess.run(
        [*command, "--images", str(folder), "--seconds", "0.2", "--json", str(table)],
        cwd=ROOT,
        env=clean_environment() | user,
        capture_output=True,
        timeout=600,
        check=True,
    )
    measured = json.loads(table.read_text())["contestants"]
    assert measured["seed"]["workers"]["2"]["images_per_s"] > 0
    assert files_of(user) == before


def test_a_contestant_that_cleans_its_caches_cleans_its_own(user: dict[str, str], tmp_path: Path) -> None:
    before = files_of(user)
    environment = clean_environment() | user | own_folders(tmp_path / "own")
    subprocess.run([sys.executable, "-c", CLEANER], env=environment, check=True)
    assert files_of(user) == before


@pytest.mark.parametrize("told_to_end", [False, True])
def test_a_benchmark_and_what_it_starts_leave_nothing_behind(user: dict[str, str], told_to_end: bool) -> None:
    before = files_of(user)
    command = [sys.executable, "-c", BENCHMARK, "600" if told_to_end else "0"]
    with subprocess.Popen(
        command, cwd=ROOT, env=clean_environment() | user, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert Path(user["TMPDIR"]) in folder.parents
        if told_to_end:
            process.terminate()
        assert process.wait(timeout=60) == (128 + signal.SIGTERM if told_to_end else 0)
    assert files_of(user) == before


def test_images_of_another_size_are_refused_in_one_line(tmp_path: Path) -> None:
    Image.new("RGB", (40, 48)).save(tmp_path / "small.jpg")
    command = [sys.executable, "-m", "benchmarks.loader", "--images", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path}/small.jpg: is 40x48, expected 178x218, the size of CelebA's images\n"
