"""One archive for a GPU machine without a network: this source, the wheels that a bare torch lacks, faces, and a script.

Usage: make gpu-kit [ARGS="--python 3.12 --limit-mb 64 --out FILE"]

There: `tar xzf gpu-kit.tar.gz && gpu-kit/run.sh [--quick]` sets up beside itself and runs `python -m benchmarks.gpu`;
the figures lie in gpu-kit/figures.json. Needed there: Python of a version named with --python, for Linux on x86-64, and
torch 2.9 or newer. CelebA's packed part travels if shards/celeba is packed, as much of it as the limit leaves room for:
its terms forbid to pass it on.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from benchmarks.ownfolders import working_folder
from benchmarks.processes import ROOT
from srdist.shards.pack import pack
from srdist.shards.reader import ShardIndex
from srdist.shards.recipe import Recipe

SCRIPT = Path(__file__).with_name("gpukit.sh")
_NOT_NEEDED = ("torch", "wandb", "hf-xet")
"""torch is there already; of W&B and of Hugging Face's hub the benchmark uses nothing."""
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
_VAL_SHARE = 10
"""One face in so many is for validation."""
_LEAST_FACES = 500
"""benchmarks.gpu trains in batches of 256."""
_SPARE_BYTES = 1_000_000
"""For what the archive itself takes."""


def main() -> None:
    """Gather, pack, and say what is in it."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "gpu-kit.tar.gz")
    parser.add_argument("--limit-mb", type=float, default=64.0, help="most that the archive may take")
    parser.add_argument("--python", nargs="+", default=[here], help=f"versions there [default: {here}]")
    parser.add_argument(
        "--shards", type=Path, default=ROOT / "shards" / "celeba", help="a packed set of faces"
    )
    options = parser.parse_args()
    with working_folder() as work:
        kit = work / "gpu-kit"
        copy_source(kit / "src")
        get_wheels(kit, pythons=options.python)
        size, faces = assemble(
            kit, out=options.out, shards=options.shards, limit_bytes=int(options.limit_mb * 1e6)
        )
    told = f"{faces:,} faces of {options.shards}" if faces else f"no faces ({options.shards} is not packed)"
    print(
        f"{options.out}: {size / 1e6:.1f} MB: source, wheels for Python {', '.join(options.python)}, {told}"
    )


def copy_source(into: Path) -> None:
    """The tracked files as they are here, and in COMMIT what they are."""
    listed = _git("ls-files", "-z").split("\0")
    for name in filter(None, listed):
        source = ROOT / name
        if source.is_file():
            target = into / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    changed = ", changed" if _git("status", "--porcelain", "--untracked-files=no").strip() else ""
    (into / "COMMIT").write_text(_git("rev-parse", "--short", "HEAD").strip() + changed + "\n")


def get_wheels(kit: Path, *, pythons: list[str]) -> None:
    """srdist, what it needs, and pip, which a machine may lack: what fits every Python into wheels/any."""
    common = kit / "wheels" / "any"
    pinned = [f"{name}=={version}" for name, version in requirements("srdist").items()]
    _pip("wheel", "--no-deps", "--wheel-dir", common, *pinned, f"pip=={metadata.version('pip')}")
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", common, kit / "src")
    for leftover in ("build", "srdist.egg-info"):
        shutil.rmtree(kit / "src" / leftover, ignore_errors=True)
    own = [wheel for wheel in common.iterdir() if not _for_any_python(wheel.name)]
    for python in pythons:
        folder = kit / "wheels" / python
        folder.mkdir()
        named = [f"{name}=={version}" for name, version, *_ in (wheel.name.split("-") for wheel in own)]
        where = itertools.chain.from_iterable(("--platform", platform) for platform in _PLATFORMS)
        options = ("--python-version", python, "--implementation", "cp", "--only-binary", ":all:", *where)
        _pip("download", "--no-deps", *options, "--dest", folder, *named)
    for wheel in own:
        wheel.unlink()


def requirements(project: str) -> dict[str, str]:
    """What a project needs, and what that needs, with the versions of this environment; torch and W&B and theirs left out."""
    found: dict[str, str] = {}
    names = [project]
    while names:
        name = names.pop().lower().replace("_", "-")
        if name in found or name in _NOT_NEEDED:
            continue
        found[name] = metadata.version(name)
        needed = (Requirement(line) for line in metadata.requires(name) or ())
        names += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    found.pop(project)
    return found


def assemble(kit: Path, *, out: Path, shards: Path, limit_bytes: int) -> tuple[int, int]:
    """Add the script and as many faces as fit to the folder `kit`, and make the archive; its bytes and its faces.

    Raises:
        SystemExit: source and wheels alone are over the limit; nothing is written.
    """
    script = kit / "run.sh"
    shutil.copy2(SCRIPT, script)
    script.chmod(0o755)
    room = limit_bytes - _archive(kit, out=kit.with_name("bare.tar.gz")) - _SPARE_BYTES
    if room < 0:
        least = (limit_bytes - room) / 1e6
        sys.exit(
            f"source and wheels take {least:.0f} MB, more than --limit-mb {limit_bytes / 1e6:g}: nothing is written"
        )
    faces = 0
    if (shards / "manifest.json").is_file():
        faces = _pack_faces(shards, kit, room_bytes=room)
    out.parent.mkdir(parents=True, exist_ok=True)
    return _archive(kit, out=out), faces


def _pack_faces(shards: Path, kit: Path, *, room_bytes: int) -> int:
    """A set of the first faces of `train` and `val` that fit; 0 where they would be too few for a batch."""
    images = kit.with_name("faces")
    count = 0
    indexes = {split: ShardIndex.open(str(shards), split) for split in ("train", "val")}
    for number in range(len(indexes["train"])):
        split = "val" if number % _VAL_SHARE == 0 and number // _VAL_SHARE < len(indexes["val"]) else "train"
        data = indexes[split].read(number // _VAL_SHARE if split == "val" else number)
        room_bytes -= len(data) + 1024  # of the tar's header, index and padding
        if room_bytes < 0:
            break
        path = images / split / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        count += 1
    if count < _LEAST_FACES:
        return 0
    into = kit / "src" / "shards" / "celeba"
    pack(Recipe(name="celeba", split="folders"), images, out=into)
    return count


def _archive(kit: Path, *, out: Path) -> int:
    with tarfile.open(out, "w:gz") as tar:
        tar.add(kit, arcname=kit.name)
    return out.stat().st_size


def _for_any_python(wheel: str) -> bool:
    return wheel.endswith("-none-any.whl") or "-abi3-" in wheel or "-py3-none-" in wheel


def _pip(*arguments: str | Path) -> None:
    command: Iterable[str] = [sys.executable, "-m", "pip", *map(str, arguments)]
    done = subprocess.run(list(command), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"pip {arguments[0]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
