"""What somebody gets who installs srdist: into empty environments outside the repository, one for each extra.

Usage: python -m benchmarks.install [--only base demo ...] [--python python3.12] [--json FILE]

Of each environment: whether pip finds a set of packages, what `srdist doctor` says of the extra in it, and how large it
is. In `base`, without any extra, a folder is upscaled by bundled weights, and training asks for what it needs. Packages
come from the registry that pip is set to, of the versions in constraints.txt: minutes and 1 to 2 GB an environment,
which go at the end. Exit code 1 where one does not work.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.ownfolders import working_folder
from benchmarks.processes import ROOT, clean_environment

BASE = "base"
_LIMIT_S = 1800
_SIZES = ((40, 30), (64, 48), (17, 23))


@dataclass(frozen=True, slots=True)
class Installed:
    """What became of one environment."""

    extra: str
    python: str
    torch: str
    works: bool
    found: str
    """What was wrong, or what was seen to work."""
    mb: float
    seconds: float
    """Of pip."""


def main() -> None:
    """Build the wheel, install it with each extra, print the table."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = [BASE, *(name for name in extras if name != "dev")]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="EXTRA")
    parser.add_argument("--python", default=sys.executable, help="that makes the environments")
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    results = []
    print("| extra | Python | torch | works | found | MB | pip, s |\n|---|---|---|---|---|---|---|")
    with working_folder() as work:
        wheel = build_wheel(work, options.python)
        for name in options.only:
            results.append(one := install(name, wheel, work / "environment", options.python))
            print(
                f"| {one.extra} | {one.python} | {one.torch} | {'yes' if one.works else 'NO'} | {one.found} "
                f"| {one.mb:,.0f} | {one.seconds:.0f} |",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in results], indent=1) + "\n")
    sys.exit(0 if all(one.works for one in results) else 1)


def build_wheel(work: Path, python: str) -> Path:
    """The wheel of this checkout's tracked files, built from a copy of them: a build leaves folders in its source."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    source = work / "source"
    for name in filter(None, listed.split("\0")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    environment = work / "builder"
    _venv(environment, python)
    _run(environment, "python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", work, source)
    return next(work.glob("srdist-*.whl"))


def install(extra: str, wheel: Path, environment: Path, python: str) -> Installed:
    """Install the wheel with an extra into an empty environment, and see what works in it."""
    _venv(environment, python)
    wanted = str(wheel) if extra == BASE else f"{wheel}[{extra}]"
    start = time.monotonic()
    version, torch, works = "", "", False
    try:
        version = _run(
            environment, "python", "-c", "import platform; print(platform.python_version())"
        ).strip()
        constraints = ROOT / "constraints.txt"
        _run(environment, "python", "-m", "pip", "install", "--quiet", "-c", constraints, wanted)
        seconds = time.monotonic() - start
        torch, found = _examine(extra, environment)
        works = True
    except subprocess.CalledProcessError as error:
        seconds = time.monotonic() - start
        found = _last_line(error.stdout + error.stderr)
    size = sum(path.stat().st_size for path in environment.rglob("*") if path.is_file()) / 1e6
    return Installed(extra, version, torch, works, found, size, seconds)


def _examine(extra: str, environment: Path) -> tuple[str, str]:
    """Torch's version, and what was seen to work; CalledProcessError where something does not."""
    doctor = json.loads(_run(environment, "srdist", "doctor", "--json", codes=(0, 1)))
    if doctor["problems"]:
        raise subprocess.CalledProcessError(1, "srdist doctor", "; ".join(doctor["problems"]), "")
    missing = sorted(name for name, one in doctor["extras"].items() if one["missing"])
    if extra == BASE:
        return doctor["torch"], f"doctor, {_upscaled(environment)}, {_training_asks(environment)}"
    if extra in missing:
        raise subprocess.CalledProcessError(1, "srdist doctor", f"{extra}: {doctor['extras'][extra]}", "")
    return doctor["torch"], "doctor"


def _upscaled(environment: Path) -> str:
    photos, out = environment / "photos", environment / "out"
    photos.mkdir()
    for number, (width, height) in enumerate(_SIZES):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{number}.png")
    _run(environment, "srdist", "upscale", "photos", "out")
    for number, (width, height) in enumerate(_SIZES):
        with Image.open(out / f"{number}.png") as image:
            if image.size != (2 * width, 2 * height):
                raise subprocess.CalledProcessError(1, "srdist upscale", f"{number}.png is {image.size}", "")
    return f"{len(_SIZES)} photos upscaled"


def _training_asks(environment: Path) -> str:
    """The line that training ends with where there is nothing to train on."""
    done = subprocess.run(
        [environment / "bin" / "srdist", "train"],
        cwd=environment,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    lines = done.stderr.splitlines()
    if done.returncode != 2 or len(lines) != 1:
        raise subprocess.CalledProcessError(done.returncode, "srdist train", done.stdout, done.stderr)
    return f"training says: {lines[0]}"


def _venv(environment: Path, python: str) -> None:
    subprocess.run([python, "-m", "venv", "--clear", environment], check=True)


def _run(environment: Path, program: str, *arguments: str | Path, codes: tuple[int, ...] = (0,)) -> str:
    """Run a program of the environment in its folder, outside the repository; its standard output."""
    done = subprocess.run(
        [environment / "bin" / program, *arguments],
        cwd=environment,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        | {"OMP_NUM_THREADS": "2", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    if done.returncode not in codes:
        raise subprocess.CalledProcessError(done.returncode, program, done.stdout, done.stderr)
    return done.stdout


def _last_line(said: str) -> str:
    return ([line for line in said.splitlines() if line.strip()] or ["nothing said"])[-1]


if __name__ == "__main__":
    main()
