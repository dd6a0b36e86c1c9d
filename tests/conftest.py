"""What several tests stand on: the real parts as processes, real photos, and the shared data where they are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import settings

from benchmarks.processes import ROOT, clean_environment
from benchmarks.runs import pack_small_set
from benchmarks.standin import stand_in
from srdist.machine.cores import usable_cores
from tests.leftovers import _own_temporary_directory, nothing_is_left
from tests.packed_sets import images, packed, packed_pairs, pair_folders
from tests.stores import s3, s3_server

__all__ = [
    "ROOT",
    "_own_temporary_directory",
    "clean_environment",
    "images",
    "nothing_is_left",
    "packed",
    "packed_pairs",
    "pair_folders",
    "s3",
    "s3_server",
]

# The same examples at every run, and none too slow: a busy machine is no failure.
settings.register_profile("suite", derandomize=True, deadline=None, max_examples=50, database=None)
settings.load_profile("suite")

SHARED_DATA = ROOT.parent / "shared" / "data"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    if not SHARED_DATA.is_dir():
        for item in items:
            if item.get_closest_marker("shared_data"):
                item.add_marker(pytest.mark.skip(reason="no ../shared/data beside the checkout"))


def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: the cores that this process may use, as a container grants them."""
    return usable_cores()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what uses spandrel: names in torchvision's place, where it does not load with this torch."""
    for name, module in stand_in().items():
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def shapes_unchecked() -> Iterator[None]:
    """For a test of what a function says to wrong shapes: that they do not get as far is tests/shapes.py's doing."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def demo_set(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """shards/demo of this checkout, packed by one worker while the others wait."""
    base = tmp_path_factory.getbasetemp()
    with FileLock((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "demo.lock"):
        packed = run("make", "shards")
    assert packed.returncode == 0, packed.stderr
    return ROOT / "shards" / "demo"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images and reference networks; tests that ask for it carry the marker shared_data."""
    return SHARED_DATA


@pytest.fixture(scope="session")
def photos() -> dict[str, np.ndarray]:
    """The four public-domain photos of scikit-image's wheel, uint8 [h, w, 3]."""
    from skimage import data

    return {
        "astronaut": data.astronaut(),
        "chelsea": data.chelsea(),
        "coffee": data.coffee(),
        "rocket": data.rocket(),
    }


@pytest.fixture(scope="session")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed set of 60 crops of 48x40: about 40 train, 10 val, 10 test."""
    return pack_small_set(tmp_path_factory.mktemp("small"))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if not mounted or mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="session")
def run() -> Run:
    """Run a command as a process, from the root of the repository, with its output caught.

    `run("srdist", "upscale", ...)` and `run("accelerate", ...)` take the programs of this environment.
    """

    def run_process(
        *command: str | Path, timeout_s: float = 600, env: dict[str, str] | None = None, cwd: Path = ROOT
    ) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).parent / str(command[0])
        return subprocess.run(
            [str(program if program.is_file() else command[0]), *map(str, command[1:])],
            cwd=cwd,
            env=clean_environment() | (env or {}),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    return run_process
