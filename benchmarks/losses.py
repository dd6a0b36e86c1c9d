"""What each loss costs: a training step with it beside l1, against the step with l1 alone.

Usage: python -m benchmarks.losses [--quick] [--json FILE] [--config configs/fast_x2.yaml] [--patch 96] [--batch 8]

Steps of the Learner (forward, losses, backward, optimizer) in the config's precision, on one thread; the losses take
turns, so that what else the machine does hits all of them. VGG19 has its published widths and random weights.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.ownfolders import working_folder
from benchmarks.survival import machine
from srdist.config import TrainConfig, load
from srdist.machine.device import open_accelerator
from srdist.training.learner import Learner

WIDTHS = (64, 64, 128, 128, *[256] * 4, *[512] * 8)
PLACES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
CRITIC = {"kind": "adversarial", "weight": 0.01}


def contestants(vgg: Path) -> dict[str, list[dict[str, Any]]]:
    """The losses beside l1, by what the table calls them."""
    return {
        "l1 alone": [],
        "frequency": [{"kind": "frequency"}],
        "gradient": [{"kind": "gradient"}],
        "ssim": [{"kind": "ssim"}],
        "ssim, 4 scales": [{"kind": "ssim", "scales": 4}],
        "ldl": [{"kind": "ldl"}],
        "perceptual, Real-ESRGAN's layers": [{"kind": "perceptual", "weights": str(vgg)}],
        "adversarial, unet 64": [CRITIC],
        "adversarial, unet 24": [{**CRITIC, "critic": {"family": "unet", "width": 24}}],
        "adversarial, unet 64, feature_matching": [CRITIC, {"kind": "feature_matching"}],
        "adversarial, unet 64, r1_weight": [{**CRITIC, "r1_weight": 1.0}],
        "adversarial, patch 64": [{**CRITIC, "critic": {"family": "patch"}}],
    }


def main() -> None:
    """Measure, print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="one round of small patches")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--config", type=Path, default=Path("configs/fast_x2.yaml"))
    parser.add_argument("--patch", type=int, default=96, help="side of HR in pixels")
    parser.add_argument("--batch", type=int, default=8, help="images a step")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    rounds, batch = (1, 1) if options.quick else (options.rounds, options.batch)
    torch.set_num_threads(1)
    with working_folder() as folder:
        vgg = _vgg19(folder)
        steps = {
            name: _step(options.config, terms, patch=options.patch, batch=batch)
            for name, terms in contestants(vgg).items()
        }
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(rounds):
            for name, step in steps.items():
                start = time.perf_counter()
                step()
                seconds[name].append(time.perf_counter() - start)
    rows = {name: _row(times, seconds["l1 alone"]) for name, times in seconds.items()}
    print(
        f"{options.config}, {batch} patches of {options.patch}x{options.patch}, one thread, {rounds} rounds"
    )
    for name, row in rows.items():
        print(f"{name:40} {row['step_ms']:8.0f} ms a step, {row['against_l1']:6.2f} of l1 alone")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        settings = {"config": str(options.config), "patch": options.patch, "batch": batch, "rounds": rounds}
        options.json.write_text(
            json.dumps({"machine": machine(), **settings, "losses": rows}, indent=1) + "\n"
        )


def _row(times: list[float], alone: list[float]) -> dict[str, float]:
    ratios = [one / other for one, other in zip(times, alone, strict=True)]
    return {"step_ms": round(1000 * median(times), 1), "against_l1": round(median(ratios), 3)}


def _step(path: Path, terms: list[dict[str, Any]], *, patch: int, batch: int) -> Any:
    config = load(path)
    values = config.train.model_dump(mode="json") | {
        "loss": None,
        "losses": [{"kind": "l1"}, *terms],
        "ema_decay": 0.999,
    }
    train = TrainConfig.model_validate(values)
    accelerator = open_accelerator(precision=train.precision, deterministic=False, peer_timeout_s=600)
    side = patch // config.model.scale
    learner = Learner(
        config.model.build(seed=0), train, accelerator, images_per_step=batch, lr_shape=(batch, side, side)
    )
    generator = torch.Generator().manual_seed(0)
    lr, hr = (
        torch.randint(0, 256, (batch, 3, one, one), dtype=torch.uint8, generator=generator)
        for one in (side, patch)
    )

    def step() -> None:
        learner.begin(0)
        learner.accumulate(lr, hr, torch.ones(batch), last=True)
        learner.update(0, 1e-6)

    step()
    return step


def _vgg19(folder: Path) -> Path:
    tensors, channels = {}, 3
    generator = torch.Generator().manual_seed(0)
    for place, width in zip(PLACES, WIDTHS, strict=True):
        scale = (2 / (9 * channels)) ** 0.5
        tensors[f"features.{place}.weight"] = torch.randn(width, channels, 3, 3, generator=generator) * scale
        tensors[f"features.{place}.bias"] = torch.zeros(width)
        channels = width
    save_file(tensors, folder / "vgg19.safetensors")
    return folder / "vgg19.safetensors"


if __name__ == "__main__":
    main()
