"""What a training step costs with its batch in memory: images/s and the share of the step's floor, batch by batch."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch

from benchmarks.floor import convolutions, floor_s
from benchmarks.gpu.busy import busy_share, hidden_syncs
from benchmarks.gpu.learners import Stepping, batch_of, forget, precisions, seeds
from benchmarks.gpu.material import Material
from benchmarks.peaks import Numbers
from srdist.config import Config

_WARM_UP = 3
_COMPILE: dict[str, Any] = {"eager": False, "compiled": True, "graphs": "reduce-overhead"}


def frames(material: Material) -> dict[str, Any]:
    """The seed's network on whole frames: the batches in bf16, the other precisions at one of them."""
    sizes = material.sizes
    _title("the seed's network, whole frames")
    other = sizes.batches[len(sizes.batches) // 2]
    settings: list[tuple[Numbers, int]] = [("bf16", n) for n in sizes.batches]
    settings += [(kind, other) for kind in precisions(material.device) if kind != "bf16"]
    rows: list[dict[str, Any]] = []
    for kind, images in settings:
        rows.append(_row(material, seeds(precision=kind), images, sizes.frame, kind=kind))
        material.keep({"rows": rows})
    return {"rows": rows}


def patches(material: Material) -> dict[str, Any]:
    """A middle-sized network on patches, in bf16."""
    sizes = material.sizes
    side = (sizes.patch, sizes.patch)
    _title("the middle-sized network, patches")
    config = _middle(material, precision="bf16")
    return {"rows": [_row(material, config, n, side, kind="bf16") for n in sizes.patch_batches]}


def compiled(material: Material) -> dict[str, Any]:
    """Eager, compiled, and with CUDA graphs: what the same steps take, and what it takes to begin."""
    sizes = material.sizes
    if not sizes.compiled:
        print("compiled steps: left out by --quick")
        return {"left_out": "by --quick"}
    _title("compiled")
    rows: list[dict[str, Any]] = []
    side = (sizes.patch, sizes.patch)
    for how, value in _COMPILE.items():
        seed, middle = (make(precision="bf16", compile=value) for make in (seeds, partial(_middle, material)))
        settings = [(seed, n, sizes.frame) for n in sorted({sizes.batches[0], sizes.batches[-1]})]
        for config, images, hr in [*settings, (middle, sizes.patch_batches[0], side)]:
            rows.append(_row(material, config, images, hr, kind="bf16", how=how))
            material.keep({"rows": rows})
    return {"rows": rows}


def _middle(material: Material, **train: Any) -> Config:
    return seeds(**train).model_copy(update={"model": material.sizes.middle})


def _row(
    material: Material, config: Config, images: int, hr: tuple[int, int], *, kind: Numbers, how: str = ""
) -> dict[str, Any]:
    """One setting, timed and printed; where memory runs out, that."""
    row: dict[str, Any] = {"batch": images, "precision": kind, "hr": hr, "how": how}
    cuda = material.device.type == "cuda"
    forget(material.device)
    try:
        row |= _measured(config, images, hr, steps=material.sizes.timed_steps, cuda=cuda)
    except torch.OutOfMemoryError:
        print(f"{_name(row)} memory runs out")
        return row | {"out_of_memory": True}
    if cuda:
        row["memory_mb"] = torch.cuda.max_memory_allocated() / 1e6
    if material.peaks is not None:
        scale = config.model.scale
        layers = convolutions(config.model.build(seed=0), (images, 3, hr[0] // scale, hr[1] // scale))
        size = 2 if kind in ("bf16", "fp16") else 4
        peaks = material.peaks
        floor = floor_s(layers, flops=peaks.flops[kind], copy=peaks.copy, bytes_a_value=size)
        row |= {"floor_ms": floor * 1e3, "share_of_floor": floor * 1e3 / row["step_ms"]}
    print(
        f"{_name(row)}{row['step_ms']:>11.2f}{row['images_per_s']:>11,.0f}{_cell(row, 'share_of_floor', '.0%')}"
        f"{_cell(row, 'busy', '.0%')}{_cell(row, 'syncs', 'd')}{row['first_step_s']:>9.1f}{_cell(row, 'memory_mb', '.0f')}"
    )
    return row


def _measured(config: Config, images: int, hr: tuple[int, int], *, steps: int, cuda: bool) -> dict[str, Any]:
    begin = time.perf_counter()
    stepping = Stepping(config, *batch_of(images, height=hr[0], width=hr[1], scale=config.model.scale))
    stepping.step().refused.item()
    first_step_s = time.perf_counter() - begin
    for _ in range(_WARM_UP):
        values = stepping.step()
    values.refused.item()  # waits for the device
    begin = time.perf_counter()
    for _ in range(steps):
        values = stepping.step()
    values.refused.item()
    seconds = (time.perf_counter() - begin) / steps
    found = {"step_ms": seconds * 1e3, "images_per_s": images / seconds, "first_step_s": first_step_s}
    if cuda:
        found |= {"busy": busy_share(stepping), "syncs": hidden_syncs(stepping)}
    return found


def _title(text: str) -> None:
    print(
        f"{text}\n{'':34}{'ms a step':>11}{'images/s':>11}{'of floor':>9}{'busy':>9}{'syncs':>9}{'first s':>9}{'MB':>9}"
    )


def _name(row: dict[str, Any]) -> str:
    height, width = row["hr"]
    return f"  {row['batch']} of {height}x{width}, {row['precision']} {row['how']}".ljust(34)


def _cell(row: dict[str, Any], name: str, form: str) -> str:
    return f"{format(row[name], form) if name in row else '-':>9}"
