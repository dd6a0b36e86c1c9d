"""Sweeps so small that a trial is a few steps of a thin network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from benchmarks.runs import BRIEF, THIN
from srdist.report.sweeprecord import SweepRecord
from srdist.runs import checkpoint
from srdist.sweeps.sweep import run_sweep
from srdist.sweeps.sweepfile import read_sweep

GRID = {"train.learning_rate": [1e-3, 1e-4], "model.widths": [[8], [4]]}
_OWN = ("train.threads=1", "data.workers=0", "log.wandb=disabled", "train.steps=4", "train.validate_every=2")


def sweep_file(
    folder: Path, shards: Path, *settings: str, fields: dict[str, Any] | None = None, **more: Any
) -> Path:
    """A sweep's file in `folder`; `settings` as after --set."""
    given = (*THIN, *BRIEF, *_OWN, f"data.shards={shards}", *settings)
    pairs = (setting.split("=", 1) for setting in given)
    fixed = {name: yaml.safe_load(value) for name, value in pairs if name not in (fields or GRID)}
    fixed["train.precision"] = "fp32"
    text = {"config": "configs/demo_x2.yaml", "set": fixed, "fields": fields or GRID, **more}
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(text, sort_keys=False))
    return path


def sweep_here(path: Path, out: Path) -> SweepRecord:
    """Run a sweep in this process, alone."""
    return run_sweep(read_sweep(path), out, quiet=True)


def events(out: Path, what: str) -> list[int]:
    """Trials that processes began with, or left, in some order."""
    lines = [
        line for log in (out / ".sweep/receipts").glob("*.jsonl") for line in log.read_text().splitlines()
    ]
    return sorted(row["trial"] for row in map(json.loads, lines) if what in row)


def found(record: SweepRecord) -> list[dict[str, Any]]:
    """What must be equal between equal sweeps."""
    return [trial.model_dump(exclude={"train_seconds"}) for trial in record.trials]


def state_of(out: Path, trial: int) -> checkpoint.Checkpoint:
    """The last checkpoint of a trial."""
    newest = checkpoint.newest(out / f"trial-{trial:04d}" / "checkpoints")
    assert newest is not None
    return newest[1]
