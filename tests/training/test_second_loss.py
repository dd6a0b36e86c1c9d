"""The seam for losses: one more member of the union, known to nothing but this file, goes all the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from benchmarks.processes import ROOT
from benchmarks.runs import BRIEF, THIN
from srdist.config import Config, TrainConfig, load
from srdist.losses.config import LossConfig
from srdist.losses.loss import Loss
from srdist.losses.section import LossSection
from srdist.machine.errors import UserError
from srdist.quality.table import Evaluation, evaluate
from srdist.runs import checkpoint
from srdist.training.trainer import Trainer


def step_sizes(sr: Float[Tensor, "n 3 h w"], hr: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """How wrong the differences between neighbours are."""
    return (sr.diff(dim=-1) - hr.diff(dim=-1)).abs().flatten(1).mean(1)


class StepsConfig(LossSection):
    kind: Literal["steps"] = "steps"

    def build(self) -> Loss:
        return step_sizes


class _Train(TrainConfig):
    # The one place where a program with another member differs: a wider union.
    losses: Annotated[  # type: ignore[assignment]
        tuple[Annotated[LossConfig | StepsConfig, Field(discriminator="kind")], ...], Field(strict=False)
    ]


class _Config(Config):
    train: _Train


def config(shards: Path, losses: list[dict[str, Any]], *, steps: int) -> _Config:
    own = ("log.wandb=disabled", f"data.shards={shards}", "data.workers=0", "train.threads=1")
    plain = load(ROOT / "configs/demo_x2.yaml", (*THIN, *BRIEF, *own, f"train.steps={steps}"))
    values = plain.model_dump(mode="json")
    values["train"] |= {"loss": None, "losses": losses, "decay_steps": 10}
    return _Config.model_validate(values)


def train(config: Config, run: Path) -> None:
    with Trainer(config, run=run, quiet=True) as trainer:
        trainer.fit()


LOSSES: list[dict[str, Any]] = [{"kind": "l1"}, {"kind": "steps", "weight": 0.5}]


def test_one_more_loss_trains_resumes_and_is_evaluated(small_set: Path, tmp_path: Path) -> None:
    train(config(small_set, LOSSES, steps=4), tmp_path / "whole")
    train(config(small_set, LOSSES, steps=2), tmp_path / "parts")
    train(config(small_set, LOSSES, steps=4), tmp_path / "parts")

    rows = [json.loads(line) for line in (tmp_path / "parts/metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if row["kind"] == "train"]
    assert [row["step"] for row in steps] == [1, 2, 3, 4]
    for row in steps:
        assert row["loss"] == pytest.approx(row["loss_l1"] + 0.5 * row["loss_steps"])
    whole, parts = (checkpoint.newest(tmp_path / name / "checkpoints") for name in ("whole", "parts"))
    assert whole is not None
    assert parts is not None
    for name, tensor in whole[1].model.items():
        assert torch.equal(parts[1].model[name], tensor)
    told: list[str] = []
    table = evaluate(
        Evaluation(
            str(tmp_path / "parts"),
            str(small_set),
        ),
        device=torch.device("cpu"),
        warn=told.append,
    )
    assert table.scores["srdist"].images > 0


def test_another_weight_is_another_run(small_set: Path, tmp_path: Path) -> None:
    train(config(small_set, LOSSES, steps=2), tmp_path)
    with pytest.raises(UserError, match=r"train.losses: .* cannot change on resume"):
        train(config(small_set, [{"kind": "l1"}], steps=4), tmp_path)
