"""What several tests stand on: the real parts as processes, real photos, and the shared data where they are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from srdist.data.pack import pack
from srdist.data.recipe import Recipe

ROOT = Path(__file__).parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    if not SHARED_DATA.is_dir():
        for item in items:
            if item.get_closest_marker("shared_data"):
                item.add_marker(pytest.mark.skip(reason="no ../shared/data beside the checkout"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


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
def small_set(tmp_path_factory: pytest.TempPathFactory, photos: dict[str, np.ndarray]) -> Path:
    """A packed set of 60 crops of 48x40: about 40 train, 10 val, 10 test."""
    folder = tmp_path_factory.mktemp("small")
    for number in range(60):
        photo = list(photos.values())[number % 4]
        top, left = number * 17 % (photo.shape[0] - 48), number * 31 % (photo.shape[1] - 40)
        crop = photo[top : top + 48, left : left + 40]
        path = folder / "images" / f"{number:03d}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(crop).save(path, quality=95)
    recipe = Recipe(
        name="small", split="hash", fractions={"train": 0.7, "val": 0.15, "test": 0.15}, shard_samples=8
    )
    pack(recipe, folder / "images", out=folder / "set")
    return folder / "set"


@pytest.fixture(scope="session")
def run() -> Run:
    """Run a command as a process, from the root of the repository, with its output caught.

    `run("srdist", "upscale", ...)` and `run("accelerate", ...)` take the programs of this environment.
    """

    def run_process(
        *command: str | Path, timeout_s: float = 300, env: dict[str, str] | None = None, cwd: Path = ROOT
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


def clean_environment() -> dict[str, str]:
    """This environment without what a launcher or W&B left in it, and without a way out to the network."""
    dropped = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in dropped and not name.startswith(("ACCELERATE_", "WANDB_", "TORCHELASTIC_"))
    }
    return kept | {"OMP_NUM_THREADS": "1"}
