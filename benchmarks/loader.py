"""How fast each way of loading feeds a training process: one table, contestants alternated, floors beside it.

Usage: python -m benchmarks.loader --images DIR [--quick] [--json FILE] [--rounds 3] [--only NAME ...] [--part ...]

A second table has patches a second for data.patches_per_image 1, 4 and 16 (benchmarks/patches.py).
DIR holds JPEGs of 178x218 (CelebA's size); without it the demo tiles are used. Contestants that need an
environment of their own are run with .venv-bench/NAME/bin/python, which benchmarks/contestants.sh makes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

from benchmarks import patches
from benchmarks.contestants import CONTESTANTS
from benchmarks.ownfolders import own_folders, working_folder
from srdist.machine.cores import usable_cores

ROOT = Path(__file__).parents[1]
QUICK = ("srdist", "seed", "webdataset")
IMAGES = 12_000
"""Images of the measured set: the folder's, repeated, so that few epochs end while a contestant is timed."""


def main() -> None:
    """Prepare the set, measure in alternation, print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--images", type=Path, default=ROOT / "shards" / "demo" / "tiles" / "train")
    parser.add_argument("--quick", action="store_true", help="one round, 2 workers, three contestants")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="timed seconds a contestant and round")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--only", nargs="*", help="contestants to run")
    parser.add_argument("--part", choices=["contestants", "patches"], help="one table alone")
    options = parser.parse_args()
    names = list(options.only or (QUICK if options.quick else CONTESTANTS))
    rounds, workers = (1, (2,)) if options.quick else (options.rounds, tuple(options.workers))
    seconds = min(options.seconds, 2.0) if options.quick else options.seconds
    with working_folder() as work:
        _make_set(options.images, work, count=4000 if options.quick else IMAGES)
        results: dict[str, Any] = {"machine": machine()}
        if options.part != "patches":
            results = run(work, names, rounds=rounds, workers=workers, seconds=seconds)
        if options.part != "contestants":
            sets = {"178x218": work / "shards", **patches.pack_photos(work)}
            results["patches"] = patches.rows(sets, rounds=rounds, workers=workers, seconds=seconds)
    results["machine"] |= {
        "images": f"{options.images.name}: {_mean_bytes(options.images):.0f} bytes each on average",
        "load_after": os.getloadavg(),
    }
    print_machine(results["machine"])
    if "contestants" in results:
        print_table(results)
    if "patches" in results:
        patches.print_rows(results["patches"])
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def run(
    work: Path, names: list[str], *, rounds: int, workers: tuple[int, ...], seconds: float
) -> dict[str, Any]:
    """All measurements: every contestant once a round, the floors first and last in each."""
    results: dict[str, Any] = {"machine": machine(), "contestants": {}, "floors": {}}
    ready = []
    for name in names:
        answer = _ask("prepare", name, work)
        results["contestants"][name] = {"what": CONTESTANTS[name][1], "version": answer.get("version", "")}
        if missing := answer.get("missing"):
            results["contestants"][name]["missing"] = missing
        else:
            ready.append(name)
    samples: dict[tuple[str, int], list[dict[str, float]]] = {}
    for turn in range(rounds):
        for count in workers:
            for floor in ("decode", "decode_downscale"):
                samples.setdefault((floor, count), []).append(_floor(floor, work, count, seconds))
            for name in ready if turn % 2 == 0 else reversed(ready):
                answer = _ask("measure", name, work, workers=count, seconds=seconds)
                if missing := answer.get("missing"):
                    results["contestants"][name]["missing"] = missing
                    continue
                samples.setdefault((name, count), []).append(answer)
                print(
                    f"round {turn + 1}, {count} workers: {name} {answer['images_per_s']:,.0f} images/s",
                    file=sys.stderr,
                )
    for (name, count), measured in samples.items():
        place = results["floors"] if name not in CONTESTANTS else results["contestants"]
        place.setdefault(name, {}).setdefault("workers", {})[str(count)] = _summary(measured)
    if "srdist" in ready:
        epochs = _ask("memory", "srdist", work, workers=max(workers))
        results["memory_mb_by_epoch"] = epochs.get("memory_mb", [])
    return results


def _summary(measured: list[dict[str, float]]) -> dict[str, Any]:
    fields = [field for field, value in measured[0].items() if isinstance(value, float)]
    summary: dict[str, Any] = {field: median(one[field] for one in measured) for field in fields}
    rates = [one["images_per_s"] for one in measured]
    return summary | {"lowest": min(rates), "highest": max(rates), "rounds": rates}


def machine() -> dict[str, Any]:
    """What was measured on."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    model = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")),
        platform.processor(),
    )
    import torch

    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit,
        "cpu": model,
        "cores": usable_cores(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load_before": os.getloadavg(),
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _make_set(images: Path, work: Path, *, count: int) -> None:
    """Copies of the images under new names until there are `count`, and our shards of them (about 500 a shard)."""
    paths = sorted(images.glob("*.jpg"))
    if not paths:
        sys.exit(f"{images}: no .jpg in it: give --images DIR, or type `make shards` for the demo tiles")
    with Image.open(paths[0]) as image:
        if image.size != (178, 218):
            sys.exit(
                f"{paths[0]}: is {image.width}x{image.height}, expected 178x218, the size of CelebA's images"
            )
    (work / "images").mkdir()
    for number in range(count):
        shutil.copyfile(paths[number % len(paths)], work / "images" / f"{number:06d}.jpg")
    (work / "recipe.yaml").write_text("name: bench\nfractions: {train: 1.0}\nshard_samples: 500\n")
    recipe, folder, shards = (str(work / name) for name in ("recipe.yaml", "images", "shards"))
    command = [sys.executable, "-m", "srdist", "pack", recipe, "--images", folder, "--out", shards]
    subprocess.run(command, cwd=ROOT, check=True)


def _mean_bytes(images: Path) -> float:
    sizes = [path.stat().st_size for path in images.glob("*.jpg")]
    return sum(sizes) / len(sizes)


def _ask(what: str, name: str, work: Path, *, workers: int = 0, seconds: float = 0) -> dict[str, Any]:
    """Run one contestant in its own process and environment; {"missing": why} where it cannot run."""
    arguments = ["--work", str(work), "--workers", str(workers), "--seconds", str(seconds)]
    done = subprocess.run(
        [_python(name), "-m", "benchmarks.contestants", what, name, *arguments],
        cwd=ROOT,
        env=dict(os.environ) | own_folders(work / "contestants" / name),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines or not lines[-1].startswith("{"):
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return {"missing": f"failed: {reason}"}
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def _python(name: str) -> str:
    own = ROOT / ".venv-bench" / name.removesuffix("_tuned") / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def _floor(name: str, work: Path, count: int, seconds: float) -> dict[str, float]:
    cores = sorted(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "benchmarks.contestants", "floor", name, "--work", str(work)]
    command += ["--seconds", str(seconds), "--core"]
    loops = [
        subprocess.Popen(
            [*command, str(cores[number % len(cores)])], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for number in range(count)
    ]
    answers = [json.loads(loop.communicate()[0]) for loop in loops]
    return {
        "images_per_s": sum(answer["images_per_s"] for answer in answers),
        "cpu_us_per_image": sum(answer["cpu_us_per_image"] for answer in answers) / count,
    }


def print_machine(about: dict[str, Any]) -> None:
    """What was measured on, on standard output."""
    print(
        f"{about['date']}, {about['cpu']}, {about['cores']} cores, torch {about['torch']}, commit {about['commit']}"
    )
    print(f"images: {about['images']}; load before and after: {about['load_before']}, {about['load_after']}")


def print_table(results: dict[str, Any]) -> None:
    """The table, and how srdist stands to its targets, on standard output."""
    print("whole frames of 178x218, batches of 64, medians\n")
    print(
        "| contestant | workers | images/s | lowest to highest | CPU us/image, all processes | main process | first batch s | memory MB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, entry in (results["contestants"] | results["floors"]).items():
        if missing := entry.get("missing"):
            print(f"| {name} | | not run: {missing} | | | | | |")
        for count, row in entry.get("workers", {}).items():
            spread = f"{row['lowest']:,.0f} to {row['highest']:,.0f}"
            rest = (
                f"{row['main_us_per_image']:.1f} | {row['first_batch_s']:.2f} | {row['memory_mb']:.0f}"
                if "main_us_per_image" in row
                else " | | | "
            )
            print(
                f"| {name} | {count} | {row['images_per_s']:,.0f} | {spread} | {row['cpu_us_per_image']:.0f} | {rest} |"
            )
    print()
    for line in _standing(results):
        print(line)
    if epochs := results.get("memory_mb_by_epoch"):
        print(
            f"srdist's memory at the end of {len(epochs)} epochs, MB: {', '.join(f'{mb:.0f}' for mb in epochs)}"
        )


def _standing(results: dict[str, Any]) -> list[str]:
    def rates(kind: str, name: str) -> list[float]:
        rows: dict[str, Any] = results[kind].get(name, {}).get("workers", {})
        return list(rows["2"]["rounds"]) if "2" in rows else []

    def cpu(kind: str, name: str) -> float:
        return float(results[kind][name]["workers"]["2"]["cpu_us_per_image"])

    ours = rates("contestants", "srdist")
    lines = []
    for kind, name in [("contestants", each) for each in results["contestants"] if each != "srdist"] + [
        ("floors", each) for each in results["floors"]
    ]:
        theirs = rates(kind, name)
        if ours and theirs:
            ratios = [a / b for a, b in zip(ours, theirs, strict=False)]
            lines.append(
                f"2 workers, images/s of srdist / {name}: {median(ratios):.2f} (median of {len(ratios)} rounds, "
                f"{min(ratios):.2f} to {max(ratios):.2f}); CPU an image of {name} / srdist: "
                f"{cpu(kind, name) / cpu('contestants', 'srdist'):.2f}"
            )
    return lines


if __name__ == "__main__":
    main()
