"""`srdist degrade`: patches, what was drawn for them, and a sheet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result
from PIL import Image

from benchmarks.processes import ROOT
from srdist.cli.main import main

SECOND_ORDER = ("--set", "data.kernel=null", "--set", "data.degradation.kind=second_order")


def degrade(*arguments: str | Path) -> Result:
    config = ("--config", ROOT / "configs/demo_x2.yaml")
    return CliRunner().invoke(main, ["degrade", *map(str, arguments), *map(str, config)])


def test_patches_of_a_folder_are_written_with_what_was_drawn_and_the_same_again(
    tmp_path: Path, photos: dict[str, np.ndarray]
) -> None:
    source = tmp_path / "photos"
    (source / "deep").mkdir(parents=True)
    Image.fromarray(photos["chelsea"]).save(source / "cat.png")
    Image.fromarray(photos["rocket"]).save(source / "deep" / "rocket.png")
    for name in ("a", "b"):
        done = degrade(source, "--out", tmp_path / name, "--count", "5", *SECOND_ORDER)
        assert done.exit_code == 0, done.output
    assert done.stdout == f"{tmp_path / 'b' / 'sheet.png'}: 5 patches\n"
    rows = [json.loads(line) for line in (tmp_path / "a" / "drawn.jsonl").read_text().splitlines()]
    assert [row["patch"] for row in rows] == [
        "cat.png 1",
        "cat.png 2",
        "cat.png 3",
        "deep/rocket.png 1",
        "deep/rocket.png 2",
    ]
    assert all(" to LR" in " ".join(row["drawn"]) for row in rows)
    for row in rows:
        assert Image.open(tmp_path / "a" / "hr" / row["file"]).size == (48, 48)
        assert Image.open(tmp_path / "a" / "lr" / row["file"]).size == (24, 24)
    assert Image.open(tmp_path / "a" / "sheet.png").width > 1000
    for path in (tmp_path / "a").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_a_plain_kernel_and_a_whole_image_work_too(tmp_path: Path, photos: dict[str, np.ndarray]) -> None:
    Image.fromarray(photos["chelsea"][:61, :80]).save(tmp_path / "cat.png")
    done = degrade(
        tmp_path / "cat.png", "--out", tmp_path / "out", "--count", "1", "--set", "data.hr_patch=null"
    )
    assert done.exit_code == 0, done.output
    lr = np.asarray(Image.open(tmp_path / "out" / "lr" / "0001.png"))
    expected = Image.fromarray(photos["chelsea"][:60, :80]).resize((40, 30), Image.Resampling.BICUBIC)
    assert np.abs(lr.astype(int) - np.asarray(expected)).max() <= 1


def test_an_image_that_cannot_be_used_is_told_and_the_rest_is_done(
    tmp_path: Path, photos: dict[str, np.ndarray]
) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    Image.fromarray(photos["chelsea"][:100, :100]).save(source / "a.png")
    Image.fromarray(photos["chelsea"][:20, :100]).save(source / "b.png")
    (source / "c.png").write_bytes(b"no image")
    done = degrade(source, "--out", tmp_path / "out", "--count", "6")
    assert done.exit_code == 1
    assert "b.png: 100x20 pixels, smaller than 48x48" in done.stderr
    assert "2 of 3 images could not be used" in done.stderr
    assert len(list((tmp_path / "out" / "lr").iterdir())) == 2
