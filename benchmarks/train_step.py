"""What a training step costs, and how far that is from the device's floor: one line a setting, alternated.

Usage: python -m benchmarks.train_step [--config configs/seed_x2.yaml] [--batch 16] [--quick] [--json FILE]

The images are random and already in memory, so the lines compare arithmetic; `benchmarks.loader` measures the
feeding. The floor of a step is the sum over its convolutions of the longer of (floating point operations / matmul
rate) and (bytes moved / copy rate), forward and backward, with both rates measured on this device in the same run.
The line `seed` is the seed project's loop: its network in NCHW, fp32, eager, unfused Adam, enlargement outside.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from benchmarks.floor import convolutions, floor_s
from benchmarks.peaks import copy_rate, matmul_rate, timed
from srdist import config as configs
from srdist.config import Config
from srdist.images.pixels import to_float
from srdist.images.resize import upscale_float
from srdist.machine import arithmetic
from srdist.machine.device import configure_threads, environment, memory_mb, mixed_precision
from srdist.machine.errors import UserError
from srdist.networks.config import SRCNNConfig
from srdist.training.learner import Learner
from srdist.training.stepvalues import StepTensors

Step = Callable[[], None]
FULL_FRAME = (218, 178)


def main() -> None:
    """Build each setting once, time them in turn, print and save the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/seed_x2.yaml"))
    parser.add_argument("--batch", type=int, default=16, help="images of a step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="CPU threads; default all cores")
    parser.add_argument("--quick", action="store_true", help="two rounds of two images")
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    batch, rounds = (2, 2) if options.quick else (options.batch, options.rounds)
    results = run(configs.load(options.config), batch=batch, rounds=rounds, threads=options.threads)
    results["config"] = str(options.config)
    print_table(results)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def run(config: Config, *, batch: int, rounds: int, threads: int | None) -> dict[str, Any]:
    """Times of all settings, alternated; the first round warms up and is not counted."""
    configure_threads(threads)
    device = Accelerator().device
    lr, hr = images(config, batch)
    settings = _settings(config, device)
    steps = {name: _learner_step(changed, lr, hr) for name, changed in settings.items()}
    losses: dict[str, float] = {}
    seed, seed_loss = seed_step(config, lr, hr, device)
    times: dict[str, list[float]] = {name: [] for name in ("seed", *steps)}
    parts: dict[str, list[tuple[float, float, float]]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        spent = timed(seed, device)
        if turn:
            times["seed"].append(spent)
        for name, (step, split, _) in steps.items():
            spent = timed(step, device)
            if turn:
                times[name].append(spent)
                parts[name].append(split())
    losses["seed"] = seed_loss()
    rates = {"fp32": matmul_rate(device, "fp32"), "bf16": matmul_rate(device, "bf16")}
    copy = copy_rate(device)
    layers = convolutions(_srcnn(config).build(seed=0), (batch, 3, *lr.shape[-2:]))
    lines = {}
    for name, values in times.items():
        precision = settings[name].train.precision if name in settings else "fp32"
        floor = floor_s(
            layers,
            flops=rates["fp32" if precision == "fp32" else "bf16"],
            copy=copy,
            bytes_a_value=4 if precision == "fp32" else 2,
        )
        step_s = median(values)
        lines[name] = {
            "step_ms": step_s * 1e3,
            "spread_ms": [min(values) * 1e3, max(values) * 1e3],
            "images_per_s": batch / step_s,
            "times_seed": median(a / b for a, b in zip(times["seed"], values, strict=True)),
            "floor_ms": floor * 1e3,
            "share_of_floor": floor / step_s,
        }
        if name in steps:
            forward, backward, optimizer = (median(part[i] for part in parts[name]) * 1e3 for i in range(3))
            lines[name] |= {"forward_ms": forward, "backward_ms": backward, "optimizer_ms": optimizer}
            losses[name] = steps[name][2]()
    return {
        "machine": environment(device)
        | {"date": datetime.now(UTC).strftime("%Y-%m-%d"), "load": list(os.getloadavg())},
        "batch": batch,
        "lr_size": list(lr.shape[-2:]),
        "matmul_tflops": {kind: rate / 1e12 for kind, rate in rates.items()},
        "copy_gb_per_s": copy / 1e9,
        "memory_mb": memory_mb(device),
        "steps": lines,
        "loss_after": losses,
    }


def print_table(results: dict[str, Any]) -> None:
    """The table, with the machine under it."""
    print(
        f"{'':26}{'ms a step':>11}{'images/s':>10}{'x seed':>8}{'forward':>9}{'backward':>10}{'Adam':>7}{'of floor':>10}{'loss after':>13}"
    )
    for name, line in results["steps"].items():
        split = "".join(
            f"{line[part]:>{w}.0f}" if part in line else " " * w
            for part, w in (("forward_ms", 9), ("backward_ms", 10), ("optimizer_ms", 7))
        )
        print(
            f"{name:26}{line['step_ms']:>11.0f}{line['images_per_s']:>10.1f}{line['times_seed']:>8.2f}{split}"
            f"{line['share_of_floor']:>10.0%}{results['loss_after'][name]:>13.4e}"
        )
    machine = results["machine"]
    print(
        f"{results['config']}, batch {results['batch']}, LR {results['lr_size']}; {machine['device_name']}, "
        f"{machine['threads']} threads, load {machine['load'][0]:.1f}, {machine['date']}; matmul "
        + ", ".join(f"{kind} {rate:.3f} TFLOP/s" for kind, rate in sorted(results["matmul_tflops"].items()))
        + f"; copy {results['copy_gb_per_s']:.1f} GB/s; memory {results['memory_mb']:.0f} MB"
    )


def _settings(config: Config, device: torch.device) -> dict[str, Config]:
    """The lines of the table: each differs from the one that it is named after in one thing."""

    def changed(**fields: Any) -> Config:
        return config.model_copy(update={"train": config.train.model_copy(update=fields)})

    lines = {
        "fp32 NCHW": changed(precision="fp32", channels_last=False),
        "fp32 NHWC": changed(precision="fp32", channels_last=True),
        "fp32 NHWC compiled": changed(precision="fp32", channels_last=True, compile=True),
        "bf16 NCHW": changed(precision="bf16", channels_last=False),
        "bf16 NHWC": changed(precision="bf16", channels_last=True),
        "bf16 NHWC compiled": changed(precision="bf16", channels_last=True, compile=True),
    }
    if device.type == "cuda":
        lines["fp16 NHWC"] = changed(precision="fp16", channels_last=True)
    return lines


def images(config: Config, batch: int) -> tuple[Tensor, Tensor]:
    """Random uint8 LR and HR of a config's patch, or of whole frames."""
    scale, patch = config.model.scale, config.data.hr_patch
    height, width = (patch, patch) if patch else FULL_FRAME
    generator = torch.Generator().manual_seed(0)
    shape = (batch, 3, height // scale, width // scale)
    lr = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    hr = F.interpolate(lr, scale_factor=scale, mode="nearest")
    return lr, hr


def _learner_step(
    config: Config, lr: Tensor, hr: Tensor
) -> tuple[Step, Callable[[], tuple[float, float, float]], Callable[[], float]]:
    """A step of ours, its split into forward, backward and optimizer, and the loss of its last step."""
    # One process holds lines of several precisions, which Accelerate keeps in a state of the process.
    AcceleratorState._reset_state()
    arithmetic.set_for_training(tf32=config.train.precision == "tf32", deterministic=False)
    accelerator = Accelerator(mixed_precision=mixed_precision(config.train.precision))
    learner = Learner(
        config.model.build(seed=0),
        config.train,
        accelerator,
        images_per_step=len(lr),
        lr_shape=(len(lr), *lr.shape[2:]),
    )
    weight = torch.ones(len(lr))
    values: list[StepTensors] = []

    def step() -> None:
        learner.accumulate(lr, hr, weight, last=True)
        values[:] = [learner.update(0, 1e-4)]

    def split() -> tuple[float, float, float]:
        forward = timed(lambda: _forward(learner, lr), learner.device)
        both = timed(lambda: learner.accumulate(lr, hr, weight, last=True), learner.device)
        # The clock is stopped with the gradients there: what is left is the optimizer. They are then dropped.
        optimizer = timed(lambda: _norm(learner), learner.device)
        learner.abandon()
        return forward, both - forward, optimizer

    return step, split, lambda: values[0].losses["loss"].item()


def _forward(learner: Learner, lr: Tensor) -> None:
    learner.network.forward(to_float(lr.to(learner.device)).contiguous(memory_format=learner.layout))


def _norm(learner: Learner) -> None:
    # A refused step does all of the optimizer's work but for keeping the result.
    parameter = next(learner.network.module.parameters())
    assert parameter.grad is not None
    parameter.grad.fill_(torch.nan)
    learner.update(0, 1e-4)


def _srcnn(config: Config) -> SRCNNConfig:
    if not isinstance(config.model, SRCNNConfig):
        raise UserError(
            f"model.family: found {config.model.family!r}, only srcnn compares with the seed's step"
        )
    return config.model


def seed_step(
    config: Config, lr: Tensor, hr: Tensor, device: torch.device
) -> tuple[Step, Callable[[], float]]:
    section = _srcnn(config)
    network = section.build(seed=0)
    layers: list[nn.Module] = []
    for i in range(1, network.num_layers + 1):
        layers += [network.get_submodule(f"conv{i}"), nn.ReLU()]
    model = nn.Sequential(*(layers if section.last_relu else layers[:-1])).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    upscaled = upscale_float(to_float(lr), scale=section.scale, kernel=section.pre_kernel).to(device)
    target = to_float(hr).to(device)
    last: list[Tensor] = []

    def step() -> None:
        optimizer.zero_grad()
        loss = F.mse_loss(model(upscaled), target)
        torch.autograd.backward(loss)
        optimizer.step()
        last[:] = [loss.detach()]

    return step, lambda: last[0].item()


if __name__ == "__main__":
    main()
