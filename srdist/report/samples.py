"""The samples of a run's report: grids over time in, HTML out, with a divider between before and after."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from srdist.machine.errors import UserError
from srdist.quality.grid import cut_grid
from srdist.quality.metrics import psnr_y

SHOWN_STEPS = 12
"""Sample grids that are shown at most: the first, the last, and some between."""
VIEW = (556, 700)
"""Room for a sample, width and height in pixels of the page: two stand side by side. Larger ones are cut to it."""


_COLUMN = 270
"""Room for a sample of one run among several, in pixels of the page: four stand side by side."""


def section(samples: Sequence[tuple[int, Path]], *, scale: int) -> list[str]:
    """The section of the page, for grids by step; nothing where there is none. Grids that cannot be read are named."""
    read: list[tuple[int, list[list[Image.Image]]]] = []
    damaged: list[str] = []
    for step, path in (samples[i] for i in _spread(len(samples), SHOWN_STEPS)):
        try:
            read.append((step, _grid(path)))
        except UserError as error:
            damaged.append(f"<p>left out: {escape(str(error))}</p>")
    if not read:
        return ["<h2>Samples</h2>", *damaged] if damaged else []
    shown, grids = [step for step, _ in read], [grid for _, grid in read]
    if len({len(grid) for grid in grids}) > 1:  # log.sample_images was changed on a resumption
        fewest = min(len(grid) for grid in grids)
        grids = [grid[:fewest] for grid in grids]
    rows = [_sample(row, shown, scale) for row in zip(*grids, strict=True)]
    steps = [f"{step:,}" for step in shown]
    data = json.dumps({"steps": steps, "rows": [row for row, _ in rows]}).replace("<", "\\u003c")
    last = len(shown) - 1
    return [
        "<h2>Samples</h2><p>Drag the line: left of it bicubic, or what you choose here; right of it srdist. Beside it the original.</p>",
        *damaged,
        '<div class="controls"><label>left of the line <select id="before"><option value="bicubic">bicubic</option>'
        '<option value="lr">low resolution</option><option value="first">srdist, first shown step</option>'
        '<option value="hr">original</option></select></label>'
        f'<label>srdist after step <input id="step" type="range" min="0" max="{last}" value="{last}"> '
        f'<b id="step-shown">{steps[-1]}</b></label></div>',
        *(_sample_view(row, size) for row, size in rows),
        f'<script type="application/json" id="samples">{data}</script>',
    ]


def side_by_side(runs: Mapping[str, tuple[Sequence[tuple[int, Path]], int]]) -> list[str]:
    """The section of a page of several runs: each sample that all of them have, upscaled by each at its last step.

    Args:
        runs: of each by its name, its grids by step, and its scale. Those that cannot be read are named.
    """
    last: dict[str, tuple[int, list[list[Image.Image]]]] = {}
    said: list[str] = []
    for name, (grids, _) in runs.items():
        try:
            if grids:
                step, path = grids[-1]
                last[name] = (step, _grid(path))
        except UserError as error:
            said.append(f"<p>left out: {escape(str(error))}</p>")
    of_run = {name: {_identity(row): row for row in grid} for name, (_, grid) in last.items()}
    shared = [key for key in next(iter(of_run.values()), {}) if all(key in rows for rows in of_run.values())]
    if lacking := sorted(set(runs) - set(last)):
        said.append(f"<p>Without samples: {escape(', '.join(lacking))}.</p>")
    if (most := max(map(len, of_run.values()), default=0)) > len(shared):
        said.append(
            f"<p>{most - len(shared)} of {most} samples are left out: not all runs have the same.</p>"
        )
    rows = [
        _row_of_runs({name: (last[name][0], of_run[name][key], runs[name][1]) for name in last})
        for key in shared
    ]
    return ["<h2>Samples</h2>", *said, *rows] if said or rows else []


def _identity(row: Sequence[Image.Image]) -> tuple[object, ...]:
    """What is equal where LR and HR are."""
    return tuple(part for image in (row[0], row[3]) for part in (image.size, image.mode, image.tobytes()))


def _row_of_runs(runs: Mapping[str, tuple[int, Sequence[Image.Image], int]]) -> str:
    step, row, scale = next(iter(runs.values()))
    hr, bicubic = _middle(row[3]), _middle(row[1])
    pictures = [("original", hr), (f"bicubic {_psnr_y_db(bicubic, hr, scale):.2f} dB", bicubic)]
    for name, (step, row, scale) in runs.items():
        sr = _middle(row[2])
        pictures.append((f"{name}, step {step:,}: {_psnr_y_db(sr, hr, scale):.2f} dB", sr))
    times = max(1, _COLUMN // hr.width)
    box = f'style="width:{hr.width * times}px;aspect-ratio:{hr.width}/{hr.height}"'
    views = (
        f'<div class="view"><div {box}><img alt="{escape(label)}" src="{_data_url(image)}"></div><p>{escape(label)}</p></div>'
        for label, image in pictures
    )
    return f'<div class="sample">{"".join(views)}</div>'


def _grid(path: Path) -> list[list[Image.Image]]:
    try:
        return cut_grid(path)
    except (
        Exception
    ) as error:  # what a decoder raises of a damaged file, whatever it is, is that file's fault
        raise UserError(f"{path}: {error or type(error).__name__}") from error


def _sample(
    grids: Sequence[Sequence[Image.Image]], steps: Sequence[int], scale: int
) -> tuple[dict[str, Any], tuple[int, int]]:
    """One sample image at each step, as the page's script wants it, and its size."""
    lr, bicubic, _, hr = (_middle(image) for image in grids[-1])

    def with_score(image: Image.Image, name: str) -> str:
        return f"{name} {_psnr_y_db(image, hr, scale):.2f} dB"

    outputs = [_middle(grid[2]) for grid in grids]
    row = {
        "lr": {"src": _data_url(lr), "label": "low resolution"},
        "bicubic": {"src": _data_url(bicubic), "label": with_score(bicubic, "bicubic")},
        "hr": {"src": _data_url(hr), "label": "original"},
        "sr": [
            {"src": _data_url(sr), "label": with_score(sr, f"srdist, step {step:,}:")}
            for sr, step in zip(outputs, steps, strict=True)
        ],
    }
    return row, hr.size


def _sample_view(row: dict[str, Any], size: tuple[int, int]) -> str:
    # Whole multiples keep the pixels square and of one size.
    times = max(1, min(VIEW[0] // size[0], VIEW[1] // size[1]))
    box = f'style="width:{size[0] * times}px;aspect-ratio:{size[0]}/{size[1]}"'
    before, after = row["bicubic"], row["sr"][-1]
    return (
        f'<div class="sample"><div class="view"><div class="pair" {box}>'
        f'<img class="before" alt="before" src="{before["src"]}"><img class="after" alt="srdist" src="{after["src"]}">'
        f'<span class="tag left">{escape(before["label"])}</span><span class="tag right">{escape(after["label"])}</span>'
        '<input type="range" min="0" max="100" step="0.1" value="50" aria-label="divider between before and srdist">'
        f'</div></div><div class="view"><div {box}><img alt="original" src="{row["hr"]["src"]}"></div><p>original</p></div></div>'
    )


def _spread(count: int, most: int) -> list[int]:
    """At most `most` of the positions 0 to count-1, evenly, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _middle(image: Image.Image) -> Image.Image:
    width, height = min(image.width, VIEW[0]), min(image.height, VIEW[1])
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _psnr_y_db(image: Image.Image, hr: Image.Image, scale: int) -> float:
    a, b = (
        torch.from_numpy(np.array(each.convert("RGB"))).permute(2, 0, 1).unsqueeze(0) for each in (image, hr)
    )
    return psnr_y(a, b, border=scale).item()


def _data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
