"""Directory upscaling against its floors and against plain loops: images in, tables out.

python -m benchmarks.upscale [--quick] [--json FILE] [--part speed|memory|kills|png] [--rounds N] [--images DIR] [--device cpu|cuda]

speed   srdist's whole path (read, decode, network, encode, receipt) on many small images, in the precision that it takes
        by itself and in fp32, beside the network alone on tensors in memory in both, the codecs alone, the seed's way as a
        loop, and a loop in the way of Real-ESRGAN's script (both in fp32, one image after the other). All in one run, in
        turns, so that drift hits all.
memory  peak memory of a process as one image grows, and as the number of images grows.
kills   3 processes killed, stopped and continued at random, among failing and touched inputs and a second job; then a rerun.
png     size against time of the PNG encoders and settings at hand.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch

from benchmarks.ownfolders import working_folder
from benchmarks.upscalekills import kills
from benchmarks.upscalememory import memory
from benchmarks.upscalepng import png
from benchmarks.upscalespeed import speed
from srdist.machine.cores import usable_cores
from srdist.machine.device import pick_device
from srdist.machine.launcher import Launch

Part = Callable[[Path, Path | None], dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Benchmarks of srdist upscale.")
    parser.add_argument("--quick", action="store_true", help="under a minute: fewer images, speed only")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--part", choices=["speed", "memory", "kills", "png", "all"], default="all")
    parser.add_argument(
        "--images", type=Path, help="a folder of photos that are halved [default: CelebA, or demo photos]"
    )
    parser.add_argument(
        "--threads", type=int, help="of torch [default: all cores]; on a busy machine 1, and compare CPU time"
    )
    parser.add_argument("--rounds", type=int, default=20, help="of kills [default: 20]")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="of speed [default: a GPU if there is one]")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU here")
    cores = usable_cores()
    torch.set_num_threads(arguments.threads or cores)
    figures: dict[str, Any] = {
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cores": cores,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "date": date.today().isoformat(),
            "load_before": os.getloadavg()[0],
        }
    }
    parts: dict[str, Part] = {
        "memory": memory,
        "kills": functools.partial(kills, rounds=arguments.rounds),
        "png": png,
    }
    every = ["speed", *parts]
    wanted = ["speed"] if arguments.quick else every if arguments.part == "all" else [arguments.part]
    for name in wanted:
        with working_folder() as folder:
            if name == "speed":
                device = (
                    torch.device(arguments.device) if arguments.device else pick_device(Launch.of(os.environ))
                )
                figures["machine"]["device"] = str(device)
                figures[name] = speed(folder, arguments.images, arguments.quick, device)
            else:
                figures[name] = parts[name](folder, arguments.images)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
