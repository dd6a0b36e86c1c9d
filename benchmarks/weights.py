"""The bundled weights against what is published and against the seed: one line a claim, with the bar beside it, and how good for how much work.

Usage: python -m benchmarks.weights --data DIR [--celeba shards/celeba] [--weights DIR] [--quick] [--json FILE] [--pareto docs]

Whatever is bundled takes part: NAME_xK for any photo, celeba in the name for CelebA. --pareto DIR also writes the tables to
DIR/pareto.md and draws DIR/pictures/pareto_xK.png.

DIR holds Set5 and Set14 as xK/HR and xK/LR_matlab_bicubic; with a folder `seed` beside it (weights_1em3.pth) and a
packed CelebA, the seed's protocol (bilinear down, RMSE) is scored too. scikit-image's photos come along. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import skimage.data
import torch
from PIL import Image

from benchmarks.ownfolders import working_folder
from benchmarks.pareto import PUBLISHED as PUBLISHED_NETWORKS
from benchmarks.pareto import Row, Score, as_json, as_markdown, by_scale, pareto
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
CELEBA_GAINS_DB = {2: 2.5, 4: 2.0}
"""Least gain over bicubic on CelebA's test images, by scale."""
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
    parser.add_argument(
        "--pareto", type=Path, metavar="DIR", help="write pareto.md and its pictures below this folder"
    )
    parser.add_argument("--rounds", type=int, default=5, help="alternated rounds of timing")
    options = parser.parse_args()
    scales = by_scale(options.weights.glob("*.safetensors"))
    scored: dict[tuple[Path, str], QualityTable] = {}

    def score(path: Path, name: str) -> QualityTable:
        folder = options.data / name / f"x{scale_of[path]}"
        if (path, name) not in scored:
            scored[path, name] = _table(path, str(folder / "HR"), lr=folder / "LR_matlab_bicubic")
        return scored[path, name]

    scale_of = {path: scale for scale, paths in scales.items() for path in paths}
    claims = [claim for path in scale_of for claim in general(path, score, scale_of[path], options.quick)]
    claims += [everyday(path) for path in scale_of]
    if not options.quick and Path(options.celeba, "manifest.json").is_file():
        claims += celeba(options.weights, options.celeba, options.data.parent / "seed" / "weights_1em3.pth")
    print(f"{'':78}{'found':>10}{'bar':>10}{'baseline':>10}")
    for claim in claims:
        print(
            f"{claim.what:78}{claim.found:>10.4g}{claim.bar:>10.4g}{claim.baseline:>10.4g}  {'met' if claim.met else 'MISSED'}"
        )
    tables: dict[int, list[Row]] = {}
    if not options.quick:
        for scale, paths in scales.items():
            tables[scale] = pareto(paths, score, scale=scale, rounds=options.rounds, grey=SET14_GREY)
            print(f"\nx{scale}\n{as_markdown(tables[scale])}")
    machine = environment(torch.device("cpu")) | {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0],
    }
    if options.pareto and tables:
        write_pareto(options.pareto, tables, machine, rounds=options.rounds)
    if options.json:
        rows: list[dict[str, Any]] = [
            {"what": c.what, "found": c.found, "bar": c.bar, "baseline": c.baseline, "met": c.met}
            for c in claims
        ]
        pareto_rows = {"pareto": {f"x{scale}": as_json(table) for scale, table in tables.items()}}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(
            json.dumps({"machine": machine, "claims": rows} | pareto_rows, indent=1) + "\n"
        )
    sys.exit(0 if all(claim.met for claim in claims) else 1)


def write_pareto(
    folder: Path, tables: Mapping[int, Sequence[Row]], machine: dict[str, Any], *, rounds: int
) -> None:
    """Write FOLDER/pareto.md and FOLDER/pictures/pareto_xK.png."""
    from benchmarks.paretoplot import draw

    parts = [
        "# How good for how much work",
        "",
        f"`python -m benchmarks.weights --data DIR --pareto docs`, one thread of {machine['device_name']}, "
        f"torch {machine['torch']}, {machine['date']}, load {machine['load']:.0f}: processor time of {rounds} alternated rounds, the "
        "median, for a megapixel of output. Multiply-adds are for an output of 1280x720. Bold: no other row is better and faster.",
        "",
        "PSNR-Y by MATLAB's LR images (docs/quality.md). Published figures are those of the papers named below; Set14's are raised by "
        f"{SET14_GREY:.2f} dB, since a grey file of it counts so here; their time is that of the same layers in srdist, with random weights "
        "(in RGB where the paper's network sees luma alone: SRCNN, VDSR).",
    ]
    for scale, rows in tables.items():
        draw(rows, folder / "pictures" / f"pareto_x{scale}.png")
        parts += [
            "",
            f"## x{scale}",
            "",
            f"![PSNR-Y against work, x{scale}](pictures/pareto_x{scale}.png)",
            "",
            as_markdown(rows),
        ]
    names = {one.name: one.source for of_scale in PUBLISHED_NETWORKS.values() for one in of_scale}
    parts += ["", "## Sources", "", *(f"- {name}: {source}" for name, source in names.items())]
    (folder / "pareto.md").write_text("\n".join(parts) + "\n", encoding="utf-8")


def general(path: Path, score: Score, scale: int, quick: bool) -> list[Claim]:
    """Set5 and Set14 with MATLAB's LR images, and of the small ones the size."""
    claims = [_size(path)] if path.stem.startswith("srcnn") else []
    for name in ("Set5",) if quick else ("Set5", "Set14"):
        table = score(path, name)
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
    with working_folder() as folder:
        for name in EVERYDAY:
            Image.fromarray(getattr(skimage.data, name)()).save(folder / f"{name}.png")
        return _least_gain(path, "scikit-image's photos", _table(path, str(folder)))


def _least_gain(path: Path, where: str, table: QualityTable) -> Claim:
    gains = {name: row["srdist"].psnr_y_db - row["bicubic"].psnr_y_db for name, row in table.rows}
    name = min(gains, key=lambda name: gains[name])
    return Claim(
        f"{path.stem}, {where}, least gain of an image, dB ({Path(name).stem})", gains[name], 0.0, 0.0
    )


def celeba(weights: Path, shards: str, seed: Path) -> list[Claim]:
    """CelebA's test split: under bicubic, and under the seed's protocol beside the seed."""
    claims: list[Claim] = []
    for path in sorted(weights.glob("*celeba*.safetensors")):
        network, info = load_weights(path)
        if info.kernel != "bicubic":
            continue
        scores = _table(path, shards, split="test").scores
        bicubic = scores["bicubic"].psnr_y_db
        what = f"{path.stem}, CelebA test, bicubic, PSNR-Y dB (bicubic)"
        claims += [_size(path)] if path.stem.startswith("srcnn") else []
        bar = bicubic + CELEBA_GAINS_DB.get(network.scale, 0)
        claims.append(Claim(what, scores["srdist"].psnr_y_db, bar, bicubic))
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
