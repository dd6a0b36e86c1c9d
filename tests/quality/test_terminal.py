"""Samples as text of a terminal: the pixels of the middle, two a character."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from srdist.machine.errors import UserError
from srdist.quality.grid import Row, draw_grid
from srdist.quality.terminal import ROWS, as_text
from tests.conftest import Run


def rows(count: int, *, side: int) -> list[Row]:
    generator = torch.Generator().manual_seed(0)

    def image(side: int) -> torch.Tensor:
        return torch.randint(0, 256, (3, side, side), dtype=torch.uint8, generator=generator)

    return [(image(side // 2), image(side), image(side), image(side)) for _ in range(count)]


def pixels(line: str) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(above, below) of each character."""
    found = re.findall(r"\x1b\[38;2;([\d;]+)m\x1b\[48;2;([\d;]+)m▀", line)
    return [tuple(tuple(map(int, part.split(";"))) for part in pair) for pair in found]  # type: ignore[misc]


def test_the_middle_of_bicubic_sr_and_hr_stands_side_by_side_pixel_for_pixel() -> None:
    samples = rows(1, side=40)
    heads, *lines = as_text(draw_grid(samples, title="step 1"), columns=33).splitlines()
    assert heads.split() == ["bicubic", "SR", "HR"]
    assert len(lines) == 5
    shown = [pixels(line) for line in lines]
    assert {len(line) for line in shown} == {3 * 10}
    _, *images = samples[0]
    for number, image in enumerate(images):
        middle = image[:, 15:25, 15:25].permute(1, 2, 0).numpy()
        drawn = np.array(
            [
                [pair[half] for pair in line[10 * number : 10 * number + 10]]
                for line in shown
                for half in (0, 1)
            ]
        )
        assert np.array_equal(drawn, middle)
    assert all(line.endswith("\x1b[0m") for line in lines)


def test_small_images_and_narrow_terminals_are_shown_as_well_and_only_the_first_samples() -> None:
    lines = as_text(draw_grid(rows(5, side=6), title=""), columns=200).splitlines()
    assert len(lines) == 1 + ROWS * 3
    assert as_text(draw_grid(rows(1, side=6), title=""), columns=1).count("▀") == 3 * 2


def test_samples_are_refused_where_no_terminal_shows_them(run: Run, tmp_path: Path) -> None:
    for more, found in (((), "standard output that is none"), (("--quiet",), "--quiet as well")):
        done = run("srdist", "train", "--show-samples", *more, cwd=tmp_path)
        assert done.returncode == UserError.exit_code
        assert done.stderr == f"srdist: --show-samples: found {found}, expected a terminal to show them in\n"
