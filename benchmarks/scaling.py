"""What a second rank costs: weak scaling of the training step on this machine, and DDP's options side by side.

Usage: python -m benchmarks.scaling [--config configs/srcnn_celeba_x2.yaml] [--batch 16] [--quick] [--json FILE]

Each rank has one thread (or one GPU) and the same number of images: 1 rank; 2 separate processes that do not talk,
which is the most that the machine can give; 2 ranks under `accelerate launch`, with each of DDP's options in turn
in the same processes. Rounds of all three alternate. The images are random and lie in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch
from accelerate import Accelerator, DDPCommunicationHookType, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState

from benchmarks.ownfolders import working_folder
from benchmarks.processes import BIN, ROOT, clean_environment
from benchmarks.train_step import images
from srdist import config as configs
from srdist.config import Config
from srdist.machine import arithmetic, ranks
from srdist.machine.device import configure_threads, environment, mixed_precision
from srdist.training.learner import Learner

OPTIONS: dict[str, DistributedDataParallelKwargs] = {
    "as shipped (bucket view)": DistributedDataParallelKwargs(gradient_as_bucket_view=True),
    "two copies": DistributedDataParallelKwargs(gradient_as_bucket_view=False),
    "buckets of 0.1 MB": DistributedDataParallelKwargs(gradient_as_bucket_view=True, bucket_cap_mb=0.1),
    "static graph": DistributedDataParallelKwargs(gradient_as_bucket_view=True, static_graph=True),
    "fp16 gradients": DistributedDataParallelKwargs(
        gradient_as_bucket_view=True, comm_hook=DDPCommunicationHookType.FP16
    ),
}


def main() -> None:
    """Launch the rounds, print and save the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/srcnn_celeba_x2.yaml"))
    parser.add_argument("--batch", type=int, default=16, help="images of a rank and step")
    parser.add_argument("--steps", type=int, default=60, help="timed steps of a setting and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round of ten steps")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    config = configs.load(options.config)
    if options.measure:
        found = measure(config, batch=options.batch, steps=options.steps)
        options.measure.with_suffix(f".{os.getpid()}").write_text(json.dumps(found))
        return
    rounds, steps = (1, 10) if options.quick else (options.rounds, options.steps)
    told = [f"--config={options.config}", f"--batch={options.batch}", f"--steps={steps}"]
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, seconds in one_round(told):
            times.setdefault(name, []).append(seconds)
    results = summary(times, batch=options.batch)
    print(f"{'':38}{'ms a step':>10}{'images/s':>10}{'efficiency':>12}{'lowest to highest':>20}")
    for name, row in results["rows"].items():
        spread = f"{row['efficiency_range'][0]:.0%} to {row['efficiency_range'][1]:.0%}"
        print(
            f"{name:38}{row['step_ms']:>10.1f}{row['images_per_s']:>10.1f}{row['efficiency']:>12.0%}{spread:>20}"
        )
    machine = results["machine"]
    print(
        f"{options.config}, {config.train.precision}, {options.batch} images a rank; {machine['device_name']}, "
        f"{machine['cores']} cores, load {machine['load']:.1f}, {machine['date']}, {rounds} rounds of {steps} steps"
    )
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def one_round(told: list[str]) -> Iterator[tuple[str, float]]:
    """Seconds a step of every setting, by the slower of two processes where there are two."""
    alone = [sys.executable, "-m", "benchmarks.scaling", *told]
    together = [
        str(BIN / "accelerate"),
        "launch",
        "--config_file",
        "launch/cpu2.yaml",
        "--main_process_port",
        "0",
    ]
    yield "1 rank", _slowest([alone])["as shipped (bucket view)"]
    yield "2 processes that do not talk", _slowest([alone, alone])["as shipped (bucket view)"]
    for name, seconds in _slowest([[*together, "-m", "benchmarks.scaling", *told]]).items():
        yield f"2 ranks, {name}", seconds


def _slowest(commands: list[list[str]]) -> dict[str, float]:
    with working_folder() as folder:
        place = folder / "found.x"
        running = [
            subprocess.Popen([*command, "--measure", str(place)], cwd=ROOT, env=clean_environment())
            for command in commands
        ]
        if any(process.wait() for process in running):
            sys.exit("a measuring process failed: see above")
        found = [json.loads(path.read_text()) for path in folder.glob("found.*")]
    return {name: max(one[name] for one in found) for name in found[0]}


def measure(config: Config, *, batch: int, steps: int) -> dict[str, float]:
    """Median seconds a step of each option, alternated, in this rank."""
    configure_threads(1)
    arithmetic.set_for_training(tf32=config.train.precision == "tf32", deterministic=False)
    lr, hr = images(config, batch)
    weight = torch.ones(batch)
    learners = {}
    for name, option in OPTIONS.items():
        with suppress(AttributeError):  # the first time there is no state yet
            AcceleratorState._reset_state()
        accelerator = Accelerator(
            cpu=ranks.computes_on_cpu(),
            mixed_precision=mixed_precision(config.train.precision),
            kwargs_handlers=[option],
        )
        network = config.model.build(seed=0)
        learners[name] = Learner(
            network, config.train, accelerator, images_per_step=batch, lr_shape=(batch, *lr.shape[2:])
        )
        if accelerator.num_processes == 1:
            break
    times: dict[str, list[float]] = {name: [] for name in learners}
    for step in range(steps + 3):
        for name, learner in learners.items():
            begin = time.perf_counter()
            learner.accumulate(lr, hr, weight, last=True)
            learner.update(step, 1e-4).losses["loss"].item()
            if step >= 3:
                times[name].append(time.perf_counter() - begin)
    return {name: median(values) for name, values in times.items()}


def summary(times: dict[str, list[float]], *, batch: int) -> dict[str, Any]:
    """Medians, and efficiency against one rank in the same round: 100 % would be twice its images a second."""
    rows = {}
    for name, values in times.items():
        shares = [one / both for one, both in zip(times["1 rank"], values, strict=True)]
        rows[name] = {
            "step_ms": median(values) * 1e3,
            "images_per_s": batch * (1 if name == "1 rank" else 2) / median(values),
            "efficiency": median(shares),
            "efficiency_range": [min(shares), max(shares)],
        }
    machine = environment(torch.device("cpu"))
    return {
        "machine": machine | {"date": datetime.now(UTC).strftime("%Y-%m-%d"), "load": os.getloadavg()[0]},
        "batch": batch,
        "rows": rows,
    }


if __name__ == "__main__":
    main()
