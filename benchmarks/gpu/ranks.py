"""Several ranks against one: NCCL on 1 to all GPUs; on a single one, or on a CPU, two ranks that share it over gloo."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.gpu.learners import Stepping, batch_of, seeds
from benchmarks.gpu.material import Material
from benchmarks.processes import ROOT, clean_environment, kill_tree

_START_S = 100.0
_WARM_UP = 3


def several(material: Material) -> dict[str, Any]:
    """Images a second of the seed's network with as many images on each rank, and the efficiency against one."""
    sizes = material.sizes
    batch = sizes.batches[len(sizes.batches) // 2]
    gpus = torch.cuda.device_count() if material.device.type == "cuda" else 0
    backend = "nccl" if gpus > 1 else "gloo"
    counts = [n for n in (1, 2, 4, 8, 16) if n <= gpus] if gpus > 1 else [1, 2]
    if gpus > 1 and gpus not in counts:
        counts.append(gpus)
    place = "GPUs" if gpus > 1 else "ranks on one GPU" if gpus else "ranks on the CPU"
    rows: dict[str, Any] = {}
    for world in counts:
        seconds = _slowest(material, world=world, backend=backend, batch=batch)
        rate = batch * world / seconds
        rows[str(world)] = {"step_ms": seconds * 1e3, "images_per_s": rate}
        efficiency = rate / (rows["1"]["images_per_s"] * world)
        rows[str(world)]["efficiency"] = efficiency
        print(f"{world} {place} over {backend}, {batch} images each: {rate:,.0f} images/s, {efficiency:.0%}")
    return {"backend": backend, "batch": batch, "ranks": rows}


def _slowest(material: Material, *, world: int, backend: str, batch: int) -> float:
    into = material.folder / f"ranks{world}"
    into.mkdir()
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    height, width = material.sizes.frame
    numbers = [batch, height, width, material.sizes.timed_steps]
    processes = []
    for rank in range(world):
        environment = clean_environment() | {
            "RANK": str(rank),
            "WORLD_SIZE": str(world),
            # Over gloo all are on the one GPU.
            "LOCAL_RANK": str(rank if backend == "nccl" else 0),
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": str(port),
            "ACCELERATE_USE_CPU": "false" if material.device.type == "cuda" else "true",
        }
        command = [sys.executable, "-m", __name__, backend, str(into), *map(str, numbers)]
        processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, text=True))
    try:
        end = time.monotonic() + _START_S
        codes = [process.wait(max(0.1, end - time.monotonic())) for process in processes]
    finally:
        for process in processes:
            kill_tree(process)
    if any(codes):
        raise RuntimeError(f"{world} ranks over {backend} ended with exit codes {codes}")
    return max(float(json.loads(path.read_text())) for path in into.iterdir())


def _rank(backend: str, into: Path, batch: int, height: int, width: int, steps: int) -> None:
    """What each rank does: steps on a batch in memory, timed from the slowest's start."""
    cpu = os.environ["ACCELERATE_USE_CPU"] == "true"
    torch.set_num_threads(1)
    if not cpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Before accelerate does it, which would take NCCL wherever there is a GPU.
    dist.init_process_group(backend)
    stepping = Stepping(seeds(precision="bf16"), *batch_of(batch, height=height, width=width))
    for _ in range(_WARM_UP):
        values = stepping.step()
    values.refused.item()
    dist.barrier()
    begin = time.perf_counter()
    for _ in range(steps):
        values = stepping.step()
    values.refused.item()
    seconds = (time.perf_counter() - begin) / steps
    (into / f"{dist.get_rank()}.json").write_text(json.dumps(seconds))
    dist.barrier()
    del stepping, values
    dist.destroy_process_group()


if __name__ == "__main__":
    _rank(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
