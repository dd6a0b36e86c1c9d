"""Networks for files of the world against bicubic and a network trained on bicubic reductions: Set14 and held-out images of BSDS.

Usage: python -m benchmarks.photo --set14 DIR --bsds DIR [--weights photo_x2] [--plain fast_x2] [--quick] [--json FILE] [--sheet FILE]

DIR of --set14 holds its HR images of the weights' scale, that of --bsds BSDS400's. Each is degraded in the three ways of
`srdist evaluate --degrade`; what is drawn for an image comes from its name. The sheet shows scikit-image's photos as
JPEG files of quality 30, upscaled: nobody has their HR images. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import skimage.data
import torch
from PIL import Image, ImageDraw, ImageFont

from srdist.degradations.fixed import STRENGTHS, Strength, fixed
from srdist.images.decode import decode_rgb
from srdist.images.pixels import to_pillow
from srdist.machine.device import environment
from srdist.machine.errors import UserError
from srdist.machine.files import named_file
from srdist.networks.weightfile import load_weights
from srdist.quality.scores import Method, Scores, baseline, common_scale, network_method, score_pairs
from srdist.quality.testset import NamedPair, PairFile, read_pair

HELD_OUT = (
    100075, 100098, 106005, 120093, 124084, 160067, 176039, 188005, 196062, 225022, 239096, 246016, 249087, 253016,
    326025, 35010, 368078, 388016, 45077, 65074, 66039, 66075, 69000,
)  # fmt: skip
"""What shards/photos keeps for validation of BSDS400: no network of that set was trained on a part of them."""
GOAL_DB = 0.7
"""More than the better of bicubic and the plain network, for medium and strong degradations."""
BARS: tuple[Strength, ...] = ("medium", "strong")
CROPS = {"astronaut": (165, 40), "chelsea": (60, 60), "coffee": (270, 120), "rocket": (250, 230)}
"""Of each photo the left and upper edge of what the sheet shows, in pixels."""
CROP, ZOOM, QUALITY = 112, 4, 30


def main() -> None:
    """Print and save the table, draw the sheet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--set14", type=Path, required=True, metavar="DIR")
    parser.add_argument("--bsds", type=Path, required=True, metavar="DIR")
    parser.add_argument("--weights", default="photo_x2", help="the network for files of the world")
    parser.add_argument("--plain", default="fast_x2", help="one trained on bicubic reductions")
    parser.add_argument("--quick", action="store_true", help="three images of each set")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--sheet", type=Path, help="draw the JPEG files upscaled here, a PNG")
    options = parser.parse_args()
    try:
        scale, methods = _methods(options.plain, options.weights)
        sets = {"Set14": _all(options.set14), "BSDS, held out": _held_out(options.bsds)}
    except UserError as error:
        sys.exit(f"benchmarks.photo: {error}")
    lines = []
    print(f"| x{scale} | degraded | images | {' | '.join(methods)} | gain | goal |")
    print("|---" * (5 + len(methods)) + "|")
    for name, files in sets.items():
        for strength in STRENGTHS:
            pairs = _pairs(files[:3] if options.quick else files, strength, scale=scale)
            scores = score_pairs(methods, pairs, scale=scale, device=torch.device("cpu"))
            lines.append(_line(name, strength, scores))
            print(_row(lines[-1]), flush=True)
    if options.json:
        about = {"scale": scale, "weights": options.weights, "plain": options.plain, "quick": options.quick}
        about |= {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "environment": environment(torch.device("cpu")),
        }
        options.json.write_text(json.dumps(about | {"lines": lines}, indent=1) + "\n")
    if options.sheet:
        with named_file(options.sheet) as temporary:
            sheet(methods).save(temporary, format="PNG", optimize=True)
        print(options.sheet)
    sys.exit(0 if all(line["met"] is not False for line in lines) else 1)


def _methods(plain: str, weights: str) -> tuple[int, dict[str, Method]]:
    loaded = {name: load_weights(name)[0] for name in (plain, weights)}
    scale = common_scale({name: model.scale for name, model in loaded.items()}, asked=None)
    networks = {name: network_method(model, device=torch.device("cpu")) for name, model in loaded.items()}
    return scale, {"bicubic": baseline("bicubic", scale=scale), **networks}


def _all(folder: Path) -> list[PairFile]:
    paths = sorted(folder.glob("*.png"))
    if not paths:
        raise UserError(f"{folder}: no PNG files in it")
    return [PairFile(path.name, path, None) for path in paths]


def _held_out(folder: Path) -> list[PairFile]:
    paths = [folder / f"{name}.jpg" for name in HELD_OUT]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise UserError(
            f"{folder}: {len(missing)} of {len(paths)} images are not there, the first: {missing[0]}"
        )
    return [PairFile(path.name, path, None) for path in paths]


def _pairs(files: list[PairFile], strength: Strength, *, scale: int) -> Iterator[NamedPair]:
    degradation = fixed(strength).build(scale=scale)
    return (read_pair(file, scale=scale, degradation=degradation) for file in files)


def _line(name: str, strength: Strength, scores: Mapping[str, Scores]) -> dict[str, Any]:
    """What one set in one way of degrading gives; `met` is null where no bar was set."""
    *others, ours = (score.psnr_y_db for score in scores.values())
    gain = ours - max(others)
    measured = {method: {"psnr_y_db": score.psnr_y_db, "ssim_y": score.ssim_y, "rmse": score.rmse} for method, score in scores.items()}  # fmt: skip
    images = next(iter(scores.values())).images
    met = gain >= GOAL_DB if strength in BARS else None
    return {
        "set": name,
        "degraded": strength,
        "images": images,
        "scores": measured,
        "gain_db": gain,
        "met": met,
    }


def _row(line: Mapping[str, Any]) -> str:
    scores = " | ".join(f"{score['psnr_y_db']:.2f}" for score in line["scores"].values())
    goal = {None: "", True: f"{GOAL_DB} met", False: f"{GOAL_DB} MISSED"}[line["met"]]
    return f"| {line['set']} | {line['degraded']} | {line['images']} | {scores} | {line['gain_db']:+.2f} | {goal} |"


def sheet(methods: Mapping[str, Method]) -> Image.Image:
    """A row a photo: part of its JPEG file of quality 30, then of what each method makes of the file, by repeated pixels."""
    side, gap, title = CROP * ZOOM, 8, 26
    columns = ["JPEG, quality 30", *methods]
    page = Image.new("RGB", (gap + len(columns) * (side + gap), title + len(CROPS) * (side + gap)), "white")
    pen = ImageDraw.Draw(page)
    for column, name in enumerate(columns):
        pen.text((gap + column * (side + gap), 5), name, fill="black", font=ImageFont.load_default(size=16))
    for row, (name, (left, top)) in enumerate(CROPS.items()):
        stored = io.BytesIO()
        Image.fromarray(getattr(skimage.data, name)()).save(stored, "JPEG", quality=QUALITY)
        lr = decode_rgb(stored.getvalue())
        for column, image in enumerate([lr, *(upscale(lr[None])[0] for upscale in methods.values())]):
            times = image.shape[-1] // lr.shape[-1]
            box = (left * times, top * times, (left + CROP) * times, (top + CROP) * times)
            cell = to_pillow(image).crop(box).resize((side, side), Image.Resampling.NEAREST)
            page.paste(cell, (gap + column * (side + gap), title + row * (side + gap)))
    return page


if __name__ == "__main__":
    main()
