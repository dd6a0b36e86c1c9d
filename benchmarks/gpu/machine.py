"""The machine of benchmarks.gpu: what it is, and the peaks that the floors are made of."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from typing import Any

import torch

from benchmarks.gpu.learners import precisions
from benchmarks.gpu.material import Material
from benchmarks.peaks import copy_rate, matmul_rate
from benchmarks.processes import ROOT
from srdist.machine.device import environment


def machine(material: Material) -> dict[str, Any]:
    """Names, versions and peaks; the material's set beside them."""
    device = material.device
    found: dict[str, Any] = environment(device) | {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "load": os.getloadavg()[0],
        "set": material.shards.name,
    }
    if device.type == "cuda":
        known = torch.cuda.get_device_properties(device)
        found |= {
            "gpus": torch.cuda.device_count(),
            "gpu_memory_gb": known.total_memory / 1e9,
            "multiprocessors": known.multi_processor_count,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        }
    kinds = precisions(device)
    found["matmul_tflops"] = {kind: matmul_rate(device, kind) / 1e12 for kind in kinds}
    found["copy_gb_per_s"] = copy_rate(device) / 1e9
    print(
        f"{found['device_name']}, {found['cores']} cores, torch {found['torch']}, {found['date']}, commit {found['commit']}, "
        f"load {found['load']:.1f}; matrix products "
        + ", ".join(f"{kind} {rate:.3g}" for kind, rate in found["matmul_tflops"].items())
        + f" TFLOP/s; copy {found['copy_gb_per_s']:.3g} GB/s"
    )
    return found


def commit() -> str:
    """Of this checkout; where there is no git, what the kit was packed from."""
    packed = ROOT / "COMMIT"
    if packed.is_file():
        return packed.read_text().strip()
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "not known"
