"""Whether srdist is right and fast on the GPUs of this machine, in under ten minutes: figures, and goals beside them.

Usage: python -m benchmarks.gpu [--quick] [--json FILE] [--shards DIR] [--only PART ...] [--minutes 10]

Each part runs in a process of its own and is saved as it ends. Without a GPU everything runs on the CPU at sizes that
only show that it works. Exit code 1: a part failed, or, on a GPU, a goal was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.gpu import correctness, loading, memory, ranks, runs, seedscript, steps, upscaling
from benchmarks.gpu.goals import verdicts
from benchmarks.gpu.machine import machine
from benchmarks.gpu.material import Material, Peaks, make_set, unfit
from benchmarks.gpu.part import Part, run_part
from benchmarks.gpu.sizes import Sizes
from benchmarks.ownfolders import working_folder
from benchmarks.processes import ROOT
from srdist.machine.device import pick_device
from srdist.machine.launcher import Launch

PARTS: dict[str, Part] = {
    "machine": machine,
    "numbers": correctness.numbers,
    "curves": correctness.curves,
    "resume": correctness.resume,
    "levels": correctness.levels,
    "frames": steps.frames,
    "patches": steps.patches,
    "compiled": steps.compiled,
    "seed": seedscript.seed_script,
    "beginning": runs.beginning,
    "training": runs.training,
    "loading": loading.loading,
    "ranks": ranks.several,
    "faces": upscaling.faces,
    "photos": upscaling.photos,
    "memory": memory.memory,
}
"""In this order; the first measures the peaks that floors are made of."""


def main() -> None:
    """Run the parts, save each as it ends, print the goals."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller settings")
    parser.add_argument("--json", type=Path, help="write the figures here, anew after each part")
    parser.add_argument(
        "--shards", type=Path, help="a packed set of faces [default: shards/celeba if packed, else made]"
    )
    parser.add_argument(
        "--only", nargs="+", choices=[name for name in PARTS if name != "machine"], help="these parts"
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="after these the rest is left out")
    options = parser.parse_args()
    device = pick_device(Launch.of(os.environ))
    sizes = Sizes.of(device.type, quick=options.quick)
    end = time.monotonic() + options.minutes * 60
    with working_folder() as work:
        shards = options.shards or _packed() or make_set(work, sizes)
        if wrong := unfit(shards, least=sizes.batches[len(sizes.batches) // 2]):
            parser.error(wrong)
        material = Material(work, shards, device, sizes)
        figures = measure(material, options.only or list(PARTS), end=end, into=options.json)
    missed = [row for row in figures["goals"] if not row["reached"]]
    failed = [name for name, part in figures["parts"].items() if "failed" in part]
    sys.exit(1 if failed or (missed and device.type == "cuda") else 0)


def measure(material: Material, names: list[str], *, end: float, into: Path | None) -> dict[str, Any]:
    """The figures of some parts, after those of the machine, and the goals."""
    figures: dict[str, Any] = {"device": material.device.type, "parts": {}}
    for name in ["machine", *(name for name in PARTS if name in names and name != "machine")]:
        left = end - time.monotonic()
        found = run_part(PARTS[name], material, limit_s=min(material.sizes.part_s, left))
        figures["parts"][name] = found
        if "failed" in found:
            print(f"{name}: FAILED: {found['failed']}", flush=True)
        elif name == "machine":
            flops = {kind: rate * 1e12 for kind, rate in found["matmul_tflops"].items()}
            material = replace(material, peaks=Peaks(flops, found["copy_gb_per_s"] * 1e9))
        _save(figures, into)
    figures["goals"] = [verdict.row() for verdict in verdicts(figures["parts"])]
    print(
        "\ngoals, for one GPU of the H100's class"
        + ("" if material.device.type == "cuda" else "; this is a CPU")
    )
    for row in figures["goals"]:
        print(f"  {'reached' if row['reached'] else 'missed ':8} {row['goal']}: {row['figure']}")
    _save(figures, into)
    return figures


def _packed() -> Path | None:
    celeba = ROOT / "shards" / "celeba"
    return celeba if (celeba / "manifest.json").is_file() else None


def _save(figures: dict[str, Any], into: Path | None) -> None:
    if into is not None:
        into.parent.mkdir(parents=True, exist_ok=True)
        beside = into.with_name(f"{into.name}.tmp")
        beside.write_text(json.dumps(figures, indent=1) + "\n")
        beside.replace(into)


if __name__ == "__main__":
    main()
