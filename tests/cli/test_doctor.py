"""`srdist doctor` and `srdist --version`, as processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.processes import ROOT, clean_environment
from srdist import __version__
from srdist.machine.cores import usable_cores
from tests.conftest import Run


def test_the_doctor_says_what_there_is_and_tests_it(run: Run) -> None:
    done = run("srdist", "doctor", "--json")
    found = json.loads(done.stdout)
    assert found["torch"] == torch.__version__
    assert found["devices"][-1]["name"] == "cpu"
    assert found["grants"]["cores"] == usable_cores()
    assert [(part["name"], part["problem"]) for part in found["self_test"]] == [
        ("upscaling", None),
        ("training step", None),
    ]
    # Extras may be installed here in part only; nothing else is wrong.
    extras = [extra["install"] for extra in found["extras"].values()]
    assert all(any(line in problem for line in extras) for problem in found["problems"]), found["problems"]
    assert done.returncode == (1 if found["problems"] else 0)


@pytest.fixture
def without_torch(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "torch.py").write_text(
        "raise ImportError('libcudart.so.13: cannot open shared object file')\n"
    )
    return {"PYTHONPATH": str(tmp_path)}


def test_where_torch_does_not_load_the_doctor_says_so(run: Run, without_torch: dict[str, str]) -> None:
    done = run("srdist", "doctor", env=without_torch)
    assert done.returncode == 1
    assert done.stderr == ""
    problems = [line for line in done.stdout.splitlines() if line.startswith("PROBLEM: ")]
    assert any(
        "torch does not load: ImportError: libcudart.so.13" in line and "pip install 'torch>=" in line
        for line in problems
    )
    assert problems[-1] == "PROBLEM: self-test: not run"
    assert "Everything is in order" not in done.stdout
    version = run("srdist", "--version", env=without_torch)
    assert version.returncode == 0
    assert version.stdout.splitlines()[1].startswith("torch does not load: libcudart")


def test_the_version_names_torch_and_the_devices(run: Run) -> None:
    first, second, *devices = run("srdist", "--version").stdout.splitlines()
    assert (first, second) == (f"srdist {__version__}", f"torch {torch.__version__}")
    assert devices[-1].startswith("cpu ")


def test_under_a_launcher_the_doctor_is_one_line(run: Run) -> None:
    done = run("srdist", "doctor", env={"RANK": "0", "WORLD_SIZE": "2"})
    assert done.returncode == 2
    assert (
        done.stderr == "srdist: srdist doctor is one process: give it without a launcher, on each machine\n"
    )


@pytest.mark.parametrize(("system", "advice"), [("win32", "WSL 2"), ("darwin", "a virtual machine")])
@pytest.mark.parametrize("door", ["srdist/__main__.py", "srdist/train.py"])
def test_another_system_is_one_line_before_anything_is_imported(system: str, advice: str, door: str) -> None:
    program = (
        f"import runpy, sys; sys.platform = {system!r}; sys.modules['torch'] = sys.modules['click'] = None; "
        f"sys.argv = [{door!r}]; runpy.run_path({door!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("srdist: runs on Linux")
    assert advice in line
