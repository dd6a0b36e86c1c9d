"""The bundled weights against what is published and against the seed: one line a claim, with the bar beside it.

Usage: python -m benchmarks.weights --data DIR [--celeba shards/celeba] [--weights DIR] [--quick] [--json FILE]

DIR holds Set5 and Set14 as xK/HR and xK/LR_matlab_bicubic; with a folder `seed` beside it (weights_1em3.pth) and a
packed CelebA, the seed's protocol (bilinear down, RMSE) is scored too. scikit-image's photos come along. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import skimage.data
import torch
from PIL import Image

from srdist.degradations.config import KernelConfig
from srdist.images.kernels import Kernel
from srdist.machine.device import environment
from srdist.networks.weightfile import BUNDLED, load_weights
from srdist.quality.table import Evaluation, QualityTable, evaluate

PUBLISHED = {
    2: {"Set5": 36.66, "Set14": 32.42},
    3: {"Set5": 32.75, "Set14": 29.28},
    4: {"Set5": 30.48, "Set14": 27.50},
}
"""PSNR-Y of SRCNN 9-5-5 (Dong et al., TPAMI 2016), in dB."""
SET14_GREY = 0.094
"""Our mean on Set14 is this much above published tables, for a grey file (docs/quality.md): the bar is that much higher."""
SEED_PARAMETERS = 79_107
GENERAL = {"srcnn_x2": 2, "srcnn_x3": 3, "srcnn_x4": 4, "fast_x2": 2}
"""Weights for any photo, with their scale."""
EVERYDAY = ("chelsea", "rocket", "coffee", "astronaut", "camera", "brick")


@dataclass(frozen=True, slots=True)
class Claim:
    """One figure and its bar."""

    what: str
    found: float
    bar: float
    baseline: float
    lower_is_better: bool = False

    @property
    def met(self) -> bool:
        """Whether the bar is reached."""
        return self.found <= self.bar if self.lower_is_better else self.found >= self.bar


def main() -> None:
    """Score all weights there are, print and save the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--celeba", default="shards/celeba")
    parser.add_argument("--weights", type=Path, default=BUNDLED, help="folder of NAME.safetensors")
    parser.add_argument("--quick", action="store_true", help="of the test sets Set5 only")
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    paths = [path for stem in GENERAL if (path := options.weights / f"{stem}.safetensors").is_file()]
    claims = [claim for path in paths for claim in general(path, options.data, options.quick)]
    claims += [everyday(path) for path in paths]
    if not options.quick and Path(options.celeba, "manifest.json").is_file():
        claims += celeba(options.weights, options.celeba, options.data.parent / "seed" / "weights_1em3.pth")
    print(f"{'':78}{'found':>10}{'bar':>10}{'baseline':>10}")
    for claim in claims:
        print(
            f"{claim.what:78}{claim.found:>10.4g}{claim.bar:>10.4g}{claim.baseline:>10.4g}  {'met' if claim.met else 'MISSED'}"
        )
    if options.json:
        device = torch.device("cpu")
        machine = environment(device) | {
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "load": os.getloadavg()[0],
        }
        rows: list[dict[str, Any]] = [
            {"what": c.what, "found": c.found, "bar": c.bar, "baseline": c.baseline, "met": c.met}
            for c in claims
        ]
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": machine, "claims": rows}, indent=1) + "\n")
    sys.exit(0 if all(claim.met for claim in claims) else 1)


def general(path: Path, data: Path, quick: bool) -> list[Claim]:
    """Set5 and Set14 with MATLAB's LR images, and of the small ones the size."""
    scale = GENERAL[path.stem]
    claims = [_size(path)] if path.stem.startswith("srcnn") else []
    for name in ("Set5",) if quick else ("Set5", "Set14"):
        folder = data / name / f"x{scale}"
        table = _table(path, str(folder / "HR"), lr=folder / "LR_matlab_bicubic")
        claims.append(
            Claim(
                f"{path.stem}, {name}, PSNR-Y dB (bicubic)",
                table.scores["srdist"].psnr_y_db,
                PUBLISHED[scale][name] + (SET14_GREY if name == "Set14" else 0),
                table.scores["bicubic"].psnr_y_db,
            )
        )
        claims.append(_least_gain(path, name, table))
    return claims


def everyday(path: Path) -> Claim:
    """scikit-image's photos (a cat, a rocket, a cup, a portrait, a city behind a man, a wall), LR by bicubic."""
    with tempfile.TemporaryDirectory() as folder:
        for name in EVERYDAY:
            Image.fromarray(getattr(skimage.data, name)()).save(Path(folder) / f"{name}.png")
        return _least_gain(path, "scikit-image's photos", _table(path, folder))


def _least_gain(path: Path, where: str, table: QualityTable) -> Claim:
    gains = {name: row["srdist"].psnr_y_db - row["bicubic"].psnr_y_db for name, row in table.rows}
    name = min(gains, key=lambda name: gains[name])
    return Claim(
        f"{path.stem}, {where}, least gain of an image, dB ({Path(name).stem})", gains[name], 0.0, 0.0
    )


def celeba(weights: Path, shards: str, seed: Path) -> list[Claim]:
    """CelebA's test split: under bicubic, and under the seed's protocol beside the seed."""
    claims: list[Claim] = []
    path = weights / "srcnn_celeba_x2.safetensors"
    if path.is_file():
        scores = _table(path, shards, split="test").scores
        bicubic = scores["bicubic"].psnr_y_db
        what = "srcnn_celeba_x2, CelebA test, bicubic, PSNR-Y dB (bicubic)"
        claims += [_size(path), Claim(what, scores["srdist"].psnr_y_db, bicubic + 2.5, bicubic)]
    path = weights / "srcnn_celeba_x2_bilinear.safetensors"
    if path.is_file() and seed.is_file():
        theirs = _table(seed, shards, split="test", kernel="bilinear").scores["srdist"].rmse
        ours = _table(path, shards, split="test", kernel="bilinear").scores["srdist"].rmse
        what = "srcnn_celeba_x2_bilinear, CelebA test, bilinear, RMSE (seed)"
        claims += [_size(path), Claim(what, ours, theirs * 0.9, theirs, lower_is_better=True)]
    return claims


def _size(path: Path) -> Claim:
    network, _ = load_weights(path)
    count = sum(parameter.numel() for parameter in network.parameters())
    return Claim(
        f"{path.stem}, parameters (seed)", count, SEED_PARAMETERS, SEED_PARAMETERS, lower_is_better=True
    )


def _table(
    weights: Path, hr: str, *, lr: Path | None = None, split: str | None = None, kernel: Kernel | None = None
) -> QualityTable:
    return evaluate(
        Evaluation(
            str(weights),
            hr,
            lr=lr,
            split=split,
            made_by=KernelConfig(kernel=kernel) if kernel else None,
        ),
        device=torch.device("cpu"),
        warn=lambda line: print(line, file=sys.stderr),
    )


if __name__ == "__main__":
    main()
