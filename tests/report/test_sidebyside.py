"""Several runs in one report: what tells them apart, and what does not let them be compared."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from srdist.cli.main import main
from srdist.config import dump, load
from srdist.machine.errors import UserError
from srdist.quality.grid import draw_grid, save_grid
from srdist.report.sidebyside import MOST_RUNS, write_side_by_side
from tests.report.test_page import run_folder, sample_rows, text_of

__all__ = ["run_folder"]


@pytest.fixture
def other(run_folder: Path, tmp_path: Path) -> Path:
    """The same run with another learning rate and 1 dB more."""
    folder = tmp_path / "other"
    shutil.copytree(run_folder, folder)
    (folder / "config.yaml").write_text(
        dump(load(folder / "config.yaml", ["train.learning_rate=0.002", "train.steps=300"]))
    )
    change(folder, lambda row: row | {"psnr_y_db": row["psnr_y_db"] + 1} if row["kind"] == "val" else row)
    return folder


def change(run: Path, of_row: Any) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines()[:-1]
    (run / "metrics.jsonl").write_text("".join(json.dumps(of_row(json.loads(line))) + "\n" for line in lines))


def test_one_table_has_all_runs_and_the_fields_that_differ(
    run_folder: Path, other: Path, tmp_path: Path
) -> None:
    page = write_side_by_side([run_folder, other], tmp_path / "both.html").read_text()
    text = text_of(page)
    for said in (
        f"{run_folder.name} 32.50 +2.50 0.9000 0.0250 200 300 of 400 79,107 255 1:02",
        "other 33.50 +3.50 0.9000 0.0250 200 300 of 300 79,107 255 1:02",
        "train.learning_rate 0.001 0.002",
        "train.steps 400 300",
        "fields are equal.",
    ):
        assert said in text, said
    assert "train.seed" not in text
    assert "not comparable" not in text
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page)


def test_the_curves_lie_over_one_another_in_colours_of_their_own(
    run_folder: Path, other: Path, tmp_path: Path
) -> None:
    page = write_side_by_side([run_folder, other], tmp_path / "both.html").read_text()
    figures = page.split("<figure")[1:]
    assert len(figures) == 6
    for figure in figures:
        assert re.findall(r'polyline class="(run\d)"', figure) == ["run0", "run1"]
        assert 'class="key run1">other<' in figure


def test_the_same_samples_stand_side_by_side_and_others_are_counted(
    run_folder: Path, other: Path, tmp_path: Path, photos: dict[str, np.ndarray]
) -> None:
    page = write_side_by_side([run_folder, other], tmp_path / "both.html").read_text()
    assert page.count('<div class="sample">') == 2
    assert len(re.findall(r"<p>other, step 300: \d+\.\d\d dB</p>", page)) == 2
    assert page.count("<p>original</p>") == 2
    for picture in (other / "samples").iterdir():
        picture.unlink()
    turned = {name: photo[::-1].copy() if name == "coffee" else photo for name, photo in photos.items()}
    grid = draw_grid(sample_rows(turned, gain=0.5), title="step 300")
    save_grid(other / "samples" / "step-000300.png", grid)
    page = write_side_by_side([run_folder, other], tmp_path / "both.html").read_text()
    assert page.count('<div class="sample">') == 1
    assert "1 of 2 samples are left out: not all runs have the same." in page


def test_scores_of_other_images_are_said_not_to_be_comparable(
    run_folder: Path, other: Path, tmp_path: Path
) -> None:
    change(other, lambda row: row | {"images": 8} if row["kind"] == "val" else row)
    text = text_of(write_side_by_side([run_folder, other], tmp_path / "both.html").read_text())
    assert "validated on different images, so their scores are not comparable" in text
    assert "split val, 8 images" in text


def test_a_run_without_validation_has_its_row(run_folder: Path, other: Path, tmp_path: Path) -> None:
    lines = (other / "metrics.jsonl").read_text().splitlines(keepends=True)
    (other / "metrics.jsonl").write_text(lines[0])
    shutil.rmtree(other / "samples")
    text = text_of(write_side_by_side([run_folder, other], tmp_path / "both.html").read_text())
    assert "other - - - - - 0 of 300 79,107 - -" in text
    assert "Without samples: other." in text


def test_a_wrong_call_is_one_line(run_folder: Path, other: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.html"
    with pytest.raises(UserError, match="a run is given twice"):
        write_side_by_side([other, other / ".." / "other"], out)
    with pytest.raises(UserError, match=f"found 9 runs, expected at most {MOST_RUNS}"):
        write_side_by_side([other] * 9, out)
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    with pytest.raises(UserError, match="is a sweep, expected a run"):
        write_side_by_side([other, tmp_path / "sweep"], out)
    for arguments in ([str(run_folder), str(other)], [str(other), str(tmp_path / "none"), "--out", str(out)]):
        result = CliRunner().invoke(main, ["report", *arguments])
        assert result.exit_code == 2
    assert not out.exists()


def test_runs_of_one_name_are_told_apart_by_their_paths(other: Path, tmp_path: Path) -> None:
    shutil.copytree(other, tmp_path / "b" / "other")
    result = CliRunner().invoke(
        main, ["report", str(other), str(tmp_path / "b" / "other"), "--out", str(tmp_path / "out.html")]
    )
    assert result.exit_code == 0, result.output
    text = text_of((tmp_path / "out.html").read_text())
    assert f"{other} 33.50" in text
    assert f"{tmp_path}/b/other 33.50" in text
