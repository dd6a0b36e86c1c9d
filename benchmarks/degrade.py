"""Degradations on one core: patches a second of each kind, and second order beside Real-ESRGAN's own way of it.

Usage: python -m benchmarks.degrade [--quick] [--json FILE]

Patches of 48x48 LR at x4, each with 8 LR pixels around it: 256x256 HR. Both ways take the same photos and Real-ESRGAN's
published ranges (preset photo), one thread each, in alternated rounds; seconds are of the processor, since a machine
with other work on it gives no others. benchmarks/plaindegrade.py has the other way.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.plaindegrade import PlainSecondOrder
from benchmarks.processes import ROOT
from srdist.degradations.config import DEGRADATION

SCALE, LR_PATCH, MARGIN = 4, 48, 8
SIDE = SCALE * (LR_PATCH + 2 * MARGIN)
BATCH = 16
KINDS: dict[str, dict[str, Any]] = {
    "kernel (bicubic)": {"kind": "kernel"},
    "jpeg": {"kind": "jpeg"},
    "blur": {"kind": "blur"},
    "noise": {"kind": "noise"},
    "resize": {"kind": "resize"},
    "chain of all four": {
        "kind": "chain",
        "stages": [{"kind": kind} for kind in ("blur", "resize", "noise", "kernel", "jpeg")],
    },
    "second_order, web": {"kind": "second_order", "preset": "web"},
    "second_order, photo": {"kind": "second_order", "preset": "photo"},
    "bsrgan": {"kind": "bsrgan"},
}
THEIRS = "Real-ESRGAN's way, photo"


def photos() -> np.ndarray:
    """A batch of patches of scikit-image's photos, uint8 [n, H, W, 3]."""
    from skimage import data

    images = (data.astronaut(), data.chelsea(), data.coffee(), data.rocket())
    found = []
    for number in range(BATCH):
        image = images[number % 4]
        top, left = number * 11 % (image.shape[0] - SIDE), number * 17 % (image.shape[1] - SIDE)
        found.append(image[top : top + SIDE, left : left + SIDE])
    return np.stack(found)


def ways() -> dict[str, Callable[[int], object]]:
    """What each contestant does with one batch; the number of the round makes its draws others."""
    hr_u8 = photos()
    floats = torch.from_numpy(hr_u8).permute(0, 3, 1, 2).float() / 255
    plain = PlainSecondOrder(SCALE, seed=0)
    found: dict[str, Callable[[int], object]] = {}
    for name, section in KINDS.items():
        degradation = DEGRADATION.validate_python(section).build(scale=SCALE)
        found[name] = lambda number, made=degradation: made(  # type: ignore[misc]
            hr_u8, np.arange(number * BATCH, (number + 1) * BATCH, dtype=np.uint64)
        )
    found[THEIRS] = lambda _: plain(floats)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    contestants, rounds = ways(), 4 if options.quick else 20
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(-1, rounds):
        for name, degrade in contestants.items():
            start = time.process_time()
            degrade(number + 1)
            if number >= 0:  # the first fills caches and builds tables
                seconds[name].append(time.process_time() - start)
    rates = {name: sorted(BATCH / each for each in found) for name, found in seconds.items()}
    pairs = zip(seconds[THEIRS], seconds["second_order, photo"], strict=True)
    ratios = sorted(theirs / ours for theirs, ours in pairs)
    commit = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    print(
        f"{SIDE}x{SIDE} HR to {SIDE // SCALE}x{SIDE // SCALE} LR, batches of {BATCH}, {rounds} rounds, one core\n"
    )
    print("| | patches/s | slowest to fastest round |\n|---|---|---|")
    for name, found in rates.items():
        print(f"| {name} | {median(found):.0f} | {found[0]:.0f} to {found[-1]:.0f} |")
    print(
        f"\nsecond order is {sum(seconds[THEIRS]) / sum(seconds['second_order, photo']):.1f}x {THEIRS} "
        f"(sum of all rounds; single rounds {ratios[0]:.1f} to {ratios[-1]:.1f})"
    )
    if options.json:
        about = {"machine": platform.processor() or platform.machine(), "commit": commit.stdout.strip()}
        result = about | {"torch": torch.__version__, "seconds_a_batch": seconds}
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
