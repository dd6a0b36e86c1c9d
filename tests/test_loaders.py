"""benchmarks.loader: every contestant keeps to folders of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.processes import ROOT, clean_environment, own_folders

CLEANER = """
import os, shutil, tempfile
from pathlib import Path
# As litdata does at the beginning of an optimization.
cache = Path(os.getenv("DATA_OPTIMIZER_DATA_CACHE_FOLDER", f"{tempfile.gettempdir()}/data"))
shutil.rmtree(cache)
shutil.rmtree(Path(tempfile.gettempdir()), ignore_errors=True)
shutil.rmtree(Path.home() / ".cache", ignore_errors=True)
"""


@pytest.fixture
def user() -> Iterator[dict[str, str]]:
    """The temporary directory and the home of a user who keeps files there."""
    # Not in tmp_path: data workers hand their batches over sockets, whose paths are short.
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        for folder in ("t/data", "t/chunks", "h/.cache", "h/.lightning"):
            (Path(name) / folder).mkdir(parents=True)
            (Path(name) / folder / "canary.txt").write_text("mine")
        yield {"TMPDIR": f"{name}/t", "HOME": f"{name}/h"}


def files_of(user: dict[str, str]) -> list[Path]:
    return sorted(path for folder in user.values() for path in Path(folder).rglob("*"))


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


def test_images_of_another_size_are_refused_in_one_line(tmp_path: Path) -> None:
    Image.new("RGB", (40, 48)).save(tmp_path / "small.jpg")
    command = [sys.executable, "-m", "benchmarks.loader", "--images", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path}/small.jpg: is 40x48, expected 178x218, the size of CelebA's images\n"
