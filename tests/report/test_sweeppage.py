"""The report of a sweep: every trial in every picture, whatever became of it; one file without anything from outside."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from srdist.cli.main import main
from srdist.report.sweeppage import write_sweep_report

VALUES: list[dict[str, Any]] = [
    {"train.learning_rate": 1e-3, "model": {"family": "srcnn", "scale": 2}},
    {"train.learning_rate": 1e-4, "model": {"family": "edsr", "scale": 2}},
    {"train.learning_rate": 3e-4, "model": {"family": "<b>&", "scale": 2}},
    {"train.learning_rate": 1e-2, "model": {"family": "span", "scale": 2}},
]
ENDS: list[dict[str, Any]] = [
    {"state": "done", "objective": 31.5, "best_step": 80, "step": 100, "steps": 100, "train_seconds": 61.0},
    {
        "state": "pruned",
        "objective": 29.5,
        "best_step": 20,
        "step": 20,
        "steps": 100,
        "reason": "pruned at step 20",
    },
    {"state": "done", "objective": 30.5, "best_step": 100, "step": 100, "steps": 100, "parameters": 1234},
    {"state": "failed", "reason": "step 3: loss or gradient not finite"},
]


def written(folder: Path, trials: int = 4, **more: Any) -> Path:
    records = [{"number": i, "values": VALUES[i], **ENDS[i]} for i in range(trials)]
    fields = {"train.learning_rate": "log", "model": "list"}
    value = {"objective": "psnr_y_db", "total": 5, "fields": fields, "trials": records}
    (folder / "sweep.json").write_text(json.dumps(value | more))
    return folder


def test_the_report_shows_every_trial_that_has_a_score_and_lists_all(tmp_path: Path) -> None:
    page = write_sweep_report(written(tmp_path)).read_text()
    assert "5 trials: 2 done, 1 pruned, 1 failed, 1 not begun." in page
    assert "31.50 dB" in page
    assert "best PSNR-Y, trial-0000 at step 80" in page
    for number in (0, 1, 2):  # in the parallel axes, in two scatters and in the table
        assert page.count(f'data-trial="trial-{number:04d}"') == 4
    assert page.count('data-trial="trial-0003"') == 1
    assert "step 3: loss or gradient not finite" in page
    assert re.findall(r"--worth:([\d.]+)\" data-trial=\"trial-0000\"", page)[0] == "1.000"
    assert "http:" not in page
    assert "https:" not in page
    assert "<b>&" not in page
    rows = re.findall(r'<tr data-trial="(trial-\d+)"', page)
    assert rows == ["trial-0000", "trial-0002", "trial-0001", "trial-0003"]


@pytest.mark.parametrize("trials", [0, 1])
def test_a_sweep_of_one_trial_or_none_yet_has_a_report(tmp_path: Path, trials: int) -> None:
    page = write_sweep_report(written(tmp_path, trials)).read_text()
    assert f"{5 - trials} not begun." in page


def test_lower_is_better_where_the_objective_is_an_error(tmp_path: Path) -> None:
    page = write_sweep_report(written(tmp_path, objective="rmse")).read_text()
    assert "best RMSE, trial-0002" in page


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ('{"objective": "psnr_y_db", "total": 1, "fields": {}}', "trials"),
        ("[" * 100_000, "not JSON: nested more than 64 deep"),
    ],
)
def test_a_damaged_sweep_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "sweep.json").write_text(text)
    done = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert done.exit_code == 2
    assert words in done.stderr
    assert "sweep.json" in done.stderr
    assert done.stderr.count("\n") == 1
