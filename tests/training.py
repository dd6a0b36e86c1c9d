"""Training runs as processes, on a set so small and a network so thin that a run is mostly its start-up."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch

from srdist import checkpoint
from tests.conftest import ROOT, clean_environment

BIN = Path(sys.executable).parent
THIN = (
    "model.kernels=[3,3]",
    "model.widths=[8]",
    "data.hr_patch=16",
    "data.workers=1",
    "train.global_batch=12",
)
BRIEF = (
    "train.precision=no",
    "train.log_every=1",
    "train.validate_every=1000",
    "train.checkpoint_every=1000",
    "train.warmup_steps=3",
)


def kill_tree(process: subprocess.Popen[str]) -> None:
    """SIGKILL the launcher, its ranks and their workers, all at once (the ranks are in sessions of their own)."""
    if process.poll() is None:
        launcher = psutil.Process(process.pid)
        for one in [launcher, *launcher.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


@dataclass(frozen=True)
class Launch:
    """A training command: one process for ranks=1, else as many gloo ranks under accelerate."""

    shards: Path
    run: Path
    settings: tuple[str, ...] = ()
    ranks: int = 1
    env: dict[str, str] = field(default_factory=dict)

    def command(self, *more: str) -> list[str]:
        launcher = [str(BIN / "srdist"), "train"]
        if self.ranks > 1:
            # --main_process_port 0: any free port, so that tests can run side by side.
            launcher = [str(BIN / "accelerate"), "launch", "--config_file", "launch/cpu2.yaml"]
            launcher += ["--num_processes", str(self.ranks), "--main_process_port", "0", "srdist/train.py"]
        settings = (*THIN, *BRIEF, "log.wandb=disabled", f"data.shards={self.shards}", *self.settings, *more)
        given = [part for setting in settings for part in ("--set", setting)]
        return [*launcher, "--config", "configs/demo_x2.yaml", "--run", str(self.run), *given]

    def environment(self) -> dict[str, str]:
        return clean_environment() | {"ACCELERATE_USE_CPU": "true"} | self.env

    def finish(self, *more: str, code: int = 0, timeout_s: float = 180) -> subprocess.CompletedProcess[str]:
        """Run it to its end, which must have this exit code (None: any)."""
        done = subprocess.run(
            self.command(*more),
            cwd=ROOT,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    @contextmanager
    def going(self, *more: str) -> Iterator[subprocess.Popen[str]]:
        """Run it in a process group of its own, which is gone when the block ends."""
        process = subprocess.Popen(
            self.command(*more),
            cwd=ROOT,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            kill_tree(process)

    def rows(self, kind: str) -> list[dict[str, Any]]:
        lines = (self.run / "metrics.jsonl").read_text().splitlines()
        return [row for row in map(json.loads, lines) if row["kind"] == kind]

    def loss_trace(self) -> dict[int, tuple[float, ...]]:
        """What must be equal between equal runs, by step."""
        return {
            row["step"]: (row["loss"], row["grad_norm"], row["learning_rate"]) for row in self.rows("train")
        }

    def wait_for_step(self, step: int, process: subprocess.Popen[str], timeout_s: float = 120) -> None:
        """Wait until the log has this step."""
        path, end = self.run / "metrics.jsonl", time.monotonic() + timeout_s
        while time.monotonic() < end:
            assert process.poll() is None, f"ended early: {process.communicate()[0]}"
            if path.is_file() and any(row["step"] >= step for row in self.rows_so_far()):
                return
            time.sleep(0.02)
        raise AssertionError(f"no step {step} within {timeout_s} s")

    def rows_so_far(self) -> list[dict[str, Any]]:
        lines = (self.run / "metrics.jsonl").read_text().split("\n")[:-1]
        return [row for row in map(json.loads, lines) if row["kind"] == "train"]

    def final(self) -> checkpoint.Checkpoint:
        found = checkpoint.newest(self.run / "checkpoints")
        assert found is not None
        return found[1]


def assert_equal_states(a: checkpoint.Checkpoint, b: checkpoint.Checkpoint) -> None:
    """Weights, optimizer and best weights are the same bits, and so is what the state counts."""
    for one, other in ((a.model, b.model), (a.optimizer, b.optimizer)):
        assert one.keys() == other.keys()
        for name in one:
            assert torch.equal(one[name], other[name]), name
    assert a.best == b.best
    timed = ("train_seconds",)
    states = [{k: v for k, v in c.trainer["state"].items() if k not in timed} for c in (a, b)]
    assert states[0] == states[1]
    assert a.trainer["proof"] == b.trainer["proof"]
