"""The most that is held: of the device and of the process, in training and in upscaling a photo of 24 megapixels."""

from __future__ import annotations

import resource
from typing import Any

import torch

from benchmarks.gpu.learners import Stepping, batch_of, forget, seeds
from benchmarks.gpu.material import Material, picture
from srdist.networks.precision import Precision
from srdist.networks.tilednetwork import TiledNetwork
from srdist.networks.weightfile import load_weights


def memory(material: Material) -> dict[str, Any]:
    """Peaks in MB; those of the process only grow from row to row."""
    sizes = material.sizes
    rows: dict[str, Any] = {}
    batch = sizes.batches[len(sizes.batches) // 2]
    kinds = {
        "training the seed's network on frames": (seeds(precision="bf16"), sizes.frame),
        "training the middle-sized network on patches": (
            seeds(precision="bf16").model_copy(update={"model": sizes.middle}),
            (sizes.patch, sizes.patch),
        ),
    }
    for name, (config, (height, width)) in kinds.items():
        forget(material.device)
        stepping = Stepping(config, *batch_of(batch, height=height, width=width))
        stepping.step().refused.item()
        rows[f"{name}, batch {batch}"] = _peaks(material)
        del stepping
    asked: tuple[Precision, ...] = ("fp32", "auto")
    for precision in asked:
        forget(material.device)
        tiled = TiledNetwork(load_weights("srcnn_x2")[0], device=material.device, precision=precision)
        tiled.upscale(picture(0, height=sizes.photo[0], width=sizes.photo[1]))
        rows[f"upscaling {sizes.photo[0]}x{sizes.photo[1]} in {precision}"] = _peaks(material)
    for name, peaks in rows.items():
        device = f"{peaks['device_mb']:,.0f} MB of the device, " if peaks["device_mb"] is not None else ""
        print(f"memory, {name}: {device}{peaks['process_mb']:,.0f} MB of the process so far")
    return rows


def _peaks(material: Material) -> dict[str, float | None]:
    cuda = material.device.type == "cuda"
    return {
        "device_mb": torch.cuda.max_memory_allocated() / 1e6 if cuda else None,
        "process_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
