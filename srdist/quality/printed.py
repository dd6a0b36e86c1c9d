"""The quality table as text, Markdown, JSON and CSV."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from srdist.quality.measures import HEADS
from srdist.quality.table import QualityTable


def as_json(table: QualityTable) -> dict[str, Any]:
    """The object of `srdist evaluate --json`; a mean that does not exist is null."""
    methods = {
        name: {measure: _or_none(mean) for measure, mean in scores.by_name.items()}
        for name, scores in table.scores.items()
    }
    return {"images": len(table.rows), "protocol": dict(table.protocol), "methods": methods}


def as_csv(table: QualityTable) -> str:
    """One line for each image and method; PSNR `inf` for an image equal to HR, empty where a measure does not exist."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "method", "psnr_y_db", "ssim_y", "rmse", *_more(table)])
    for image, scores in table.rows:
        for method, score in scores.items():
            values = (score.psnr_y_db, score.ssim_y, score.rmse, *score.more.values())
            writer.writerow(
                [image, method, *("" if math.isnan(value) else f"{value:.6f}" for value in values)]
            )
    return text.getvalue()


def as_text(table: QualityTable) -> str:
    """Aligned columns for a terminal, and the protocol below."""
    heads = ["", "PSNR-Y dB", "SSIM-Y", "RMSE", *(HEADS[name] for name in _more(table))]
    widths = [11, 9, 9, *(len(head) + 2 for head in heads[4:])]
    lines = [
        row[0].ljust(10) + "".join(cell.rjust(width) for cell, width in zip(row[1:], widths, strict=True))
        for row in [heads, *_cells(table)]
    ]
    return "\n".join([*lines, "", *_protocol_lines(table)])


def as_markdown(table: QualityTable) -> str:
    """A Markdown table, and the protocol below."""
    heads = ["method", "PSNR-Y dB", "SSIM-Y", "RMSE", *(HEADS[name] for name in _more(table))]
    cells = [heads, ["---", *["---:"] * (len(heads) - 1)], *_cells(table)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([*lines, "", *(f"- {line}" for line in _protocol_lines(table))])


def _more(table: QualityTable) -> list[str]:
    return list(next(iter(table.scores.values())).more)


def _cells(table: QualityTable) -> list[list[str]]:
    def cell(value: float, digits: int) -> str:
        return "-" if math.isnan(value) else f"{value:.{digits}f}"

    return [
        [name, cell(scores.psnr_y_db, 2), cell(scores.ssim_y, 4), cell(scores.rmse, 4)]
        + [cell(mean, 2 if measure.endswith("_db") else 4) for measure, mean in scores.more.items()]
        for name, scores in table.scores.items()
    ]


def _protocol_lines(table: QualityTable) -> list[str]:
    named = [
        f"{name.replace('_', ' ')}: {value}" for name, value in table.protocol.items() if value is not None
    ]
    return [f"images: {len(table.rows)}", *named]


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
