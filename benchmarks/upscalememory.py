"""The memory part of `python -m benchmarks.upscale`: peaks as one image grows, and as their number grows."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from srdist.networks.config import SRCNNConfig
from srdist.networks.weightfile import WeightsInfo, save_weights


def memory(folder: Path, images: Path | None) -> dict[str, Any]:
    """Peak memory of `srdist upscale` processes, with a network so small that the images are what counts."""
    del images
    config = SRCNNConfig(kernels=(3,), widths=(), upscale="after", residual=False)
    weights = folder / "tiny.safetensors"
    save_weights(weights, config.build(seed=0).state_dict(), WeightsInfo(config, "bicubic", "", 0))
    figures: dict[str, Any] = {}
    print(f"\n{'':34}{'peak RSS':>10}{'of it not backed by files':>28}")
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    for megapixels in (12, 50, 200, 450):
        side = int((megapixels * 1e6) ** 0.5)
        path = folder / "large.png"
        _write_large(path, noise, side)
        rss, private = peak_mb(path, folder / f"large{megapixels}", weights)
        figures[f"one image of {megapixels} MP"] = {"peak_rss_mb": rss, "private_mb": private}
        print(f"{f'one image of {megapixels} megapixels':34}{rss:7.0f} MB{private:25.0f} MB")
    for count in (500, 5_000, 50_000):
        source = folder / f"many{count}"
        for i in range(count):
            path = source / f"{i // 1000:03d}" / f"{i:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            data = io.BytesIO()
            Image.fromarray(noise[i % 490 : i % 490 + 16, i % 480 : i % 480 + 16]).save(data, "PNG")
            path.write_bytes(data.getvalue())
        began = time.perf_counter()
        rss, private = peak_mb(source, folder / f"out{count}", weights)
        taken = time.perf_counter() - began
        figures[f"{count} images"] = {
            "peak_rss_mb": rss,
            "private_mb": private,
            "images_per_s": count / taken,
        }
        print(f"{f'{count} images of 16x16':34}{rss:7.0f} MB{private:25.0f} MB{count / taken:10.0f} images/s")
    return figures


def _write_large(path: Path, tile: np.ndarray, side: int) -> None:
    import pyvips

    times = -(-side // tile.shape[0])
    image = pyvips.Image.new_from_array(tile).copy(interpretation="srgb")
    image.replicate(times, times).crop(0, 0, side, side).pngsave(str(path), compression=1)


def peak_mb(source: Path, destination: Path, weights: Path) -> tuple[float, float]:
    """Peak resident memory of one process, in MB, and the peak of that part which is no file's."""
    command = ["-m", "srdist", "upscale", str(source), str(destination), "--weights", str(weights)]
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    private = 0
    while True:
        found, status, usage = os.wait4(process.pid, os.WNOHANG)
        if found:
            break
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                private = max(private, int(line.split()[1]))
        time.sleep(0.05)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{source}: exit code {process.returncode}"
    return usage.ru_maxrss / 1024, private / 1024
