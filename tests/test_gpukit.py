"""benchmarks.gpukit: what the archive for a GPU machine holds, and what it leaves out where the limit is small."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.gpukit import assemble, copy_source, requirements
from srdist.shards.pack import pack
from srdist.shards.reader import ShardIndex
from srdist.shards.recipe import Recipe
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed set of 700 small images."""
    folder = tmp_path_factory.mktemp("faces")
    (folder / "images").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (700, 16, 16, 3), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(folder / "images" / f"{number}.jpg")
    recipe = Recipe(name="f", split="hash", fractions={"train": 0.8, "val": 0.2})
    pack(recipe, folder / "images", out=folder / "set")
    return folder / "set"


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """A kit whose wheels take 100 kB."""
    wheels = tmp_path / "gpu-kit" / "wheels" / "any"
    wheels.mkdir(parents=True)
    (wheels / "noise.whl").write_bytes(os.urandom(100_000))
    return tmp_path / "gpu-kit"


def test_as_many_faces_travel_as_the_limit_leaves_room_for(kit: Path, faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "kit.tar.gz"
    size, count = assemble(kit, out=out, shards=faces, limit_bytes=2_050_000)
    assert 500 <= count < len(ShardIndex.open(str(faces), "train"))
    assert size == out.stat().st_size <= 2_050_000
    with tarfile.open(out) as archive:
        archive.extractall(tmp_path / "there", filter="data")
    there = tmp_path / "there" / "gpu-kit"
    packed = [ShardIndex.open(str(there / "src" / "shards" / "celeba"), split) for split in ("train", "val")]
    assert sum(map(len, packed)) == count
    assert packed[0].read(0) in [ShardIndex.open(str(faces), "train").read(i) for i in range(count)]
    assert os.access(there / "run.sh", os.X_OK)


def test_where_too_few_faces_fit_none_travel_and_where_nothing_fits_nothing_is_written(
    kit: Path, faces: Path, tmp_path: Path
) -> None:
    out = tmp_path / "kit.tar.gz"
    assert assemble(kit, out=out, shards=faces, limit_bytes=1_300_000)[1] == 0
    assert assemble(kit, out=out, shards=tmp_path / "none", limit_bytes=9_000_000)[1] == 0
    out.unlink()
    with pytest.raises(SystemExit, match=r"source and wheels take 1 MB, more than --limit-mb 0\.5"):
        assemble(kit, out=out, shards=faces, limit_bytes=500_000)
    assert not out.exists()


def test_the_source_is_that_of_this_checkout_and_says_which(tmp_path: Path) -> None:
    copy_source(tmp_path / "src")
    assert (tmp_path / "src/srdist/train.py").read_bytes() == (ROOT / "srdist/train.py").read_bytes()
    assert not (tmp_path / "src/.venv").exists()
    head = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert (tmp_path / "src/COMMIT").read_text().startswith(head)


def test_what_travels_is_what_srdist_needs_but_for_torch_and_wandb() -> None:
    needed = requirements("srdist")
    assert {"numpy", "accelerate", "psutil", "pillow", "filelock"} <= set(needed)
    assert not {"torch", "wandb", "sympy", "srdist"} & set(needed)


def test_a_python_without_torch_or_of_another_version_is_one_line(kit: Path, tmp_path: Path) -> None:
    script = kit / "run.sh"
    script.write_bytes((ROOT / "benchmarks" / "gpukit.sh").read_bytes())
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)

    def said(python: str | Path) -> str:
        done = subprocess.run(
            ["bash", script],
            env={**os.environ, "PYTHON": str(python)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        return done.stderr.splitlines()[-1]

    assert "has no torch" in said(tmp_path / "bare" / "bin" / "python")
    assert "make gpu-kit ARGS='--python" in said(sys.executable)
