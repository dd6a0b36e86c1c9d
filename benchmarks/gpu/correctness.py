"""The device against the CPU: what a step computes, how 200 steps go, what a killed run comes to, which levels images get."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.learners import Stepping, precisions, seeds
from benchmarks.gpu.material import Material, picture
from benchmarks.peaks import Numbers
from benchmarks.runs import Launch, differences
from srdist.images.pixels import to_float
from srdist.networks.network import Network
from srdist.networks.precision import Precision
from srdist.networks.tilednetwork import TiledNetwork
from srdist.networks.weightfile import load_weights
from srdist.shards.reader import ShardIndex
from srdist.stream.config import DataConfig
from srdist.stream.pairs import TrainStream
from srdist.stream.share import Share

# Relative errors. That of float32 is far below what TF32 makes (about 3e-4): float32 that is none would be seen.
_ERRORS: dict[Numbers, float] = {"fp32": 5e-5, "tf32": 5e-3, "bf16": 3e-2, "fp16": 5e-3}
_CURVES: dict[Numbers, float] = {"fp32": 0.02, "tf32": 0.02, "bf16": 0.05, "fp16": 0.05}
"""By how much the losses of the last tenth of the steps may differ from the CPU's, relative to them."""
_LEVELS = {"fp32": (1, 1e-3), "auto": (1, 0.15)}
"""By how many of 256 levels an upscaled value may differ from the CPU's in float32, and what share of them may."""

Pairs = list[tuple[Tensor, Tensor]]


def numbers(material: Material) -> dict[str, Any]:
    """Errors of the SR batch and of the gradients of one step, in each precision, relative to the CPU's in float32."""
    lr, hr = _pairs(material, count=1)[0]
    config = seeds()
    reference = config.model.build(seed=0)
    sr = reference(to_float(lr))
    torch.nn.functional.mse_loss(sr, to_float(hr)).backward()  # type: ignore[no-untyped-call]
    right = {name: p.grad.double() for name, p in reference.named_parameters() if p.grad is not None}
    rows: dict[str, Any] = {}
    for kind in precisions(material.device):
        stepping = Stepping(seeds(precision=kind), lr, hr)
        with torch.no_grad():
            given = to_float(lr.to(stepping.learner.device)).contiguous(memory_format=torch.channels_last)
            made = stepping.learner.network.forward(given).cpu()
        gradients = stepping.gradients()
        worst = max(_error(gradients[name], right[name]) for name in right)
        found = {"sr": _error(made, sr.detach()), "gradient": worst}
        rows[kind] = found | {"bar": _ERRORS[kind], "right": max(found.values()) <= _ERRORS[kind]}
        print(
            f"one step in {kind}: SR off by {found['sr']:.1e}, gradients by {worst:.1e}; at most {_ERRORS[kind]:.0e} "
            f"of the CPU's: {'right' if rows[kind]['right'] else 'WRONG'}"
        )
    return rows


def curves(material: Material) -> dict[str, Any]:
    """Losses of the same steps on the CPU in float32 and on the device in each precision."""
    steps = material.sizes.curve_steps
    pairs = _pairs(material, count=min(20, steps))
    right = _cpu_curve(pairs, steps)
    rows: dict[str, Any] = {"cpu": right}
    for kind in precisions(material.device):
        stepping = Stepping(seeds(precision=kind), *pairs[0])
        losses = []
        for step in range(steps):
            stepping.lr, stepping.hr = pairs[step % len(pairs)]
            losses.append(stepping.step().losses["loss"])
        curve = torch.stack(losses).cpu().tolist()
        off = abs(_end_of(curve) / _end_of(right) - 1)
        rows[kind] = {"losses": curve, "off": off, "bar": _CURVES[kind], "right": off <= _CURVES[kind]}
        print(
            f"{steps} steps in {kind}: the loss ends {off:.2%} from the CPU's {_end_of(right):.3e}; at most "
            f"{_CURVES[kind]:.0%}: {'right' if rows[kind]['right'] else 'WRONG'}"
        )
    return rows


def resume(material: Material) -> dict[str, Any]:
    """A run that is killed with -9 and started again, beside one that nobody killed: what they differ in."""
    steps = material.sizes.killed_steps
    settings = (
        f"train.steps={steps}",
        f"train.checkpoint_every={steps // 4}",
        "train.val_images=4",
        "train.deterministic=true",
    )
    on_device = {"ACCELERATE_USE_CPU": "false"} if material.device.type == "cuda" else {}
    whole, killed = (
        Launch(material.shards, material.folder / name, settings=settings, env=on_device)
        for name in ("whole", "killed")
    )
    whole.finish()
    with killed.going() as process:
        killed.wait_for_step(steps // 2 + 1, process)
        killed.wait_for_checkpoint(process)
    killed.finish()
    found = differences(whole, killed)
    print(
        f"killed with -9 at step {steps // 2 + 1} of {steps} and resumed: "
        + ("equal bit for bit" if not found else f"DIFFERS in {', '.join(found[:5])}")
    )
    return {"differences": found, "right": not found}


def levels(material: Material) -> dict[str, Any]:
    """Levels of upscaled images against the CPU in float32: one by one, in a batch, in tiles."""
    network, _ = load_weights("srcnn_x2")
    height, width = material.sizes.frame
    images = [picture(i, height=height, width=width) for i in range(8)]
    right = TiledNetwork(network, device=torch.device("cpu")).upscale_many(images)
    rows: dict[str, Any] = {}
    asked: tuple[Precision, ...] = ("fp32", "auto")
    for precision in asked:
        ways = {
            "one by one": [_tiled(material, precision).upscale(image) for image in images],
            "in a batch": _tiled(material, precision).upscale_many(images),
            "in tiles": _tiled(material, precision, tile=max(16, width // 3)).upscale_many(images),
        }
        most, share = _LEVELS[precision]
        for way, made in ways.items():
            off = np.abs(np.stack(made).astype(np.int32) - np.stack(right))
            found = {"most": int(off.max()), "moved": float((off > 0).mean())}
            good = found["most"] <= most and found["moved"] <= share
            rows[f"{precision}, {way}"] = found | {"right": good}
            print(
                f"upscaled in {precision}, {way}: {found['moved']:.3%} of the values moved, by at most {found['most']} "
                f"levels; at most {share:.1%} by {most}: {'right' if good else 'WRONG'}"
            )
    return rows


def _pairs(material: Material, *, count: int) -> Pairs:
    size = material.sizes.curve_batch
    data = DataConfig(hr_patch=material.sizes.patch, workers=0)
    index = ShardIndex.open(str(material.shards), "train")
    with TrainStream(index, data, Share(), scale=2, seed=0, global_batch=size, rank_batch=size) as stream:
        pairs = iter(stream)
        return [(pair.lr.clone(), pair.hr.clone()) for _, pair in zip(range(count), pairs, strict=False)]


def _cpu_curve(pairs: Pairs, steps: int) -> list[float]:
    """Plain torch on the CPU: the seed's network, Adam, the mean squared error."""
    network = seeds().model.build(seed=0)
    adam = torch.optim.Adam(network.parameters(), lr=1e-4)
    losses = []
    for step in range(steps):
        lr, hr = pairs[step % len(pairs)]
        adam.zero_grad()
        loss = torch.nn.functional.mse_loss(network(to_float(lr)), to_float(hr))
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        losses.append(loss.item())
    return losses


def _end_of(curve: list[float]) -> float:
    last = curve[-max(1, len(curve) // 10) :]
    return sum(last) / len(last)


def _error(a: Tensor, b: Tensor) -> float:
    return float(((a.double() - b.double()).norm() / b.double().norm()).item())


def _tiled(material: Material, precision: Precision, *, tile: int | None = None) -> TiledNetwork:
    network: Network = load_weights("srcnn_x2")[0]
    return TiledNetwork(network, device=material.device, tile=tile, precision=precision)
