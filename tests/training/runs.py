"""Training runs: as processes, as benchmarks/survival.py starts them too, and in the test's own process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import BIN, ROOT, kill_tree
from benchmarks.runs import BRIEF, THIN, Launch, different_states
from srdist.config import load
from srdist.runs.checkpoint import Checkpoint
from srdist.training.result import RunResult
from srdist.training.trainer import Trainer, Watch

__all__ = ["BIN", "Here", "Launch", "assert_equal_states", "kill_tree", "trainer_here"]


@contextmanager
def trainer_here(
    shards: Path, run: Path, *settings: str, quiet: bool = True, watch: Watch | None = None
) -> Iterator[Trainer]:
    """A Trainer in this process, without a launcher: for what needs no process of its own."""
    own = ("log.wandb=disabled", f"data.shards={shards}", "data.workers=0", "train.threads=1")
    config = load(ROOT / "configs/demo_x2.yaml", (*THIN, *BRIEF, *own, *settings))
    with Trainer(config, run=run, quiet=quiet, watch=watch) as trainer:
        yield trainer


@dataclass(frozen=True)
class Here(Launch):
    """A Launch of one rank that runs in this process, and is read as the others are."""

    def train(self, *more: str, quiet: bool = True, watch: Watch | None = None) -> RunResult:
        """Run it to its end."""
        settings = (*self.settings, *more)
        with trainer_here(self.shards, self.run, *settings, quiet=quiet, watch=watch) as trainer:
            return trainer.fit()


def assert_equal_states(a: Checkpoint, b: Checkpoint) -> None:
    """Weights, optimizer and best weights are the same bits, and so is what the state counts."""
    assert different_states(a, b) == []
