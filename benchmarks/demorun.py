"""The demo config's run by any checkout, and what equal runs have in common: read from the run folder's files alone."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.checkout import Checkout

Trace = dict[str, Any]
"""JSON values by a step, a position or a path."""
OF_A_STEP = ("loss_last", "grad_norm", "learning_rate", "refused_steps", "bad_samples")
"""What a row of metrics.jsonl has of its step, with log_every 1, but for seconds and memory."""
ABOUT_TIME = frozenset({"wandb_id", "train_seconds", "config"})
"""Fields of trainer.json that differ between equal runs (config has the folder of the shards)."""


@dataclass(frozen=True, slots=True)
class DemoRun:
    """The demo config's run, at full length or a short one."""

    checkout: Checkout
    shards: Path
    quick: bool

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return 60 if self.quick else 2000

    def arguments(self, run: Path) -> list[str | Path]:
        """What stands behind `accelerate launch`."""
        settings = [f"data.shards={self.shards}", "log.wandb=disabled", "train.log_every=1"]
        if self.quick:
            settings += [f"train.steps={self.steps}", "train.validate_every=25", "train.checkpoint_every=20"]
        given = [part for setting in settings for part in ("--set", setting)]
        return ["srdist/train.py", "--quiet", "--config", "configs/demo_x2.yaml", "--run", run, *given]

    def begin(self, run: Path) -> None:
        """Train to about the middle, and stop there as a user does: by a file STOP."""
        middle = self.steps // 2
        self.checkout.launch_until(
            lambda: newest_step(run) >= middle, (run / "STOP").touch, *self.arguments(run)
        )
        if not (run / "STOPPED").is_file():
            sys.exit(f"{run}: was at its end before it could be stopped")

    def traces(self, run: Path, *, ranks: int) -> dict[str, Trace]:
        """Train to the end, and read what the run folder has."""
        self.checkout.launch(ranks, *self.arguments(run))
        rows = read_rows(run)
        steps = [row for row in rows if row["kind"] == "train"]
        if [row["step"] for row in steps] != list(range(1, self.steps + 1)):
            sys.exit(
                f"{run}/metrics.jsonl: {len(steps)} rows of steps, expected 1 to {self.steps}, each once"
            )
        losses = {str(row["step"]): [row[name] for name in OF_A_STEP] for row in steps}
        scores = {str(row["step"]): row for row in rows if row["kind"] == "val"}
        return {
            "loss trace": losses,
            "validations": scores,
            "tensors and pictures": run_numbers(run),
            "config, state and names": run_words(run, shards=self.shards),
        }


def run_numbers(run: Path) -> Trace:
    """The sha256 of the tensors in each file of weights or optimizer state, and of each picture."""
    found = {
        str(path.relative_to(run)): digest(split_tensors(path)[1])
        for path in sorted(run.rglob("*.safetensors"))
    }
    return found | {
        str(path.relative_to(run)): digest(path.read_bytes()) for path in sorted(run.rglob("*.png"))
    }


def run_words(run: Path, *, shards: Path) -> Trace:
    """The names of all files of a run, and of those with words what equal runs have in common."""
    found: Trace = {}
    for path in sorted(path for path in run.rglob("*") if path.is_file()):
        match path.name, path.suffix:
            case "config.yaml", _:
                told: Any = path.read_text().replace(str(shards), "SHARDS")
            case "trainer.json", _:
                told = timeless(json.loads(path.read_bytes()))
            case _, ".safetensors":
                told = split_tensors(path)[0]
            case _:
                told = None
        found[str(path.relative_to(run))] = told
    return found


def split_tensors(path: Path) -> tuple[Any, bytes]:
    """A safetensors file's metadata, and the rest: names, types, shapes and values of its tensors."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    metadata = header.pop("__metadata__", None)
    return metadata, json.dumps(header, sort_keys=True).encode() + data[end:]


def timeless(value: Any) -> Any:
    """JSON without the fields that differ between equal runs."""
    if isinstance(value, dict):
        return {name: timeless(part) for name, part in value.items() if name not in ABOUT_TIME}
    return value


def digest(data: bytes) -> str:
    """The sha256 of some bytes."""
    return sha256(data).hexdigest()


def read_rows(run: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, but for a last line that is not finished."""
    path = run / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in lines]


def newest_step(run: Path) -> int:
    """The newest step in the log."""
    return max((row["step"] for row in read_rows(run)), default=0)
