"""A contest out of balance is noticed by name, told when it comes up and again after it was gone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from srdist.config import TrainConfig
from srdist.report.page import write_report
from srdist.runs.log import RunLog
from srdist.training import signs as signs_of_training
from srdist.training.signs import Signs, signs
from tests.training.runs import Here

TERMS = TrainConfig.model_validate(
    {
        "losses": [
            {"kind": "l1"},
            {"kind": "adversarial", "weight": 0.1, "start_step": 10},
            {"kind": "feature_matching"},
        ]
    }
).all_losses
BALANCED = {
    "loss_l1": 0.02,
    "loss_adversarial": 0.7,
    "loss_feature_matching": 0.01,
    "critic_right_hr": 0.6,
    "critic_right_sr": 0.7,
    "drift_red": 0.3,
    "drift_green": -0.2,
    "drift_blue": 0.0,
}


@pytest.mark.parametrize(
    ("spoilt", "name"),
    [
        ({}, None),
        ({"critic_right_hr": 0.97, "critic_right_sr": 0.96}, "critic too strong"),
        ({"critic_right_hr": 0.99, "critic_right_sr": 0.01}, "critic blind"),
        ({"critic_right_hr": 0.0, "critic_right_sr": 1.0}, "critic blind"),
        ({"loss_adversarial": 2.0}, "critic alone"),
        ({"loss_adversarial": -2.0}, "critic alone"),
        ({"drift_blue": -4.5}, "drift of blue"),
        (dict.fromkeys(BALANCED, float("nan")), None),
    ],
)
def test_each_sign_is_named_and_a_balanced_line_has_none(spoilt: dict[str, float], name: str | None) -> None:
    assert [sign.name for sign in signs(BALANCED | spoilt, TERMS)] == ([] if name is None else [name])


def test_a_sign_is_told_when_it_comes_up_and_again_after_it_was_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noticed = Signs(TERMS, RunLog(tmp_path, main=True, quiet=False))
    drifting = BALANCED | {"drift_red": 9.0}
    for step, means in enumerate([drifting, drifting, BALANCED, drifting], start=2):
        noticed.notice(means, first_step=100 * step, step=100 * step + 9)
    # The critic began at step 10, and its first hundred steps tell nothing.
    noticed.notice(drifting | {"drift_green": 9.0}, first_step=110, step=119)
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ]
    assert [(row["kind"], row["step"], row["name"]) for row in rows] == [
        ("sign", 209, "drift of red"),
        ("sign", 509, "drift of red"),
    ]
    assert capsys.readouterr().err.count("SR is 9.0 levels brighter than HR in red: its colours drift") == 2


def test_a_run_whose_critic_outweighs_all_else_says_so_and_so_does_its_report(
    small_set: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signs_of_training, "FIRST_STEPS", 0)
    losses = "[{kind: l1}, {kind: adversarial, weight: 100.0, critic: {family: unet, width: 2}}]"
    settings = ("train.loss=null", f"train.losses={losses}", "train.steps=2")
    run = Here(small_set, tmp_path / "run", settings)
    run.train()
    (told,) = (row for row in run.rows("sign") if row["name"] == "critic alone")
    assert told["step"] == 1
    assert "of what is minimized comes of the critic" in capsys.readouterr().err
    page = write_report(run.run).read_text()
    assert "Noticed" in page
    assert "of what is minimized comes of the critic" in page
