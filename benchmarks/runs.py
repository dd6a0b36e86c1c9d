"""Training runs as processes, on a set so small and a network so thin that a run is mostly its start-up.

For the tests and for benchmarks/survival.py: start a run, wait for a step, kill it, read what it left.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from PIL import Image

from benchmarks.processes import BIN, ROOT, children_of, clean_environment, environment_of, kill_tree
from srdist.runs import checkpoint
from srdist.shards.pack import pack
from srdist.shards.recipe import Recipe

THIN = (
    "model.kernels=[3,3]",
    "model.widths=[8]",
    "data.hr_patch=16",
    "data.workers=1",
    "train.global_batch=12",
)
BRIEF = (
    "train.precision=fp32",
    "train.log_every=1",
    "train.validate_every=1000",
    "train.checkpoint_every=1000",
    "train.warmup_steps=3",
)


CONTEST = (
    "train.loss=null",
    "train.losses=[{kind: l1}, {kind: adversarial, weight: 0.1, critic: {family: unet, width: 4}, "
    "r1_weight: 1.0, critic_steps: 2}, {kind: feature_matching, weight: 0.1}]",
)
"""Settings that set a small critic against the network, with all that has state."""


def pack_small_set(
    folder: Path,
    *,
    images: int = 60,
    height: int = 48,
    width: int = 40,
    shard_samples: int = 8,
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
) -> Path:
    """Pack crops of scikit-image's four photos, made in folder/images; returns folder/set."""
    from skimage import data

    photos = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    for number in range(images):
        photo = photos[number % 4]
        top, left = number * 17 % (photo.shape[0] - height), number * 31 % (photo.shape[1] - width)
        path = folder / "images" / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo[top : top + height, left : left + width]).save(path, quality=95)
    recipe = Recipe(
        name="small",
        split="hash",
        fractions=dict(zip(("train", "val", "test"), fractions, strict=True)),
        shard_samples=shard_samples,
    )
    pack(recipe, folder / "images", out=folder / "set")
    return folder / "set"


def processes_of(run: Path) -> list[psutil.Process]:
    """Processes that have this run folder on their command line: launcher, ranks, and their forked workers."""
    return [p for p in psutil.process_iter(["cmdline"]) if str(run) in (p.info["cmdline"] or [])]


def ranks_of(launcher: int) -> list[psutil.Process]:
    """The ranks that a launcher has started so far, in their order."""
    # A child that is about to become a rank still has the launcher's environment; one that has ended has none.
    found = {environment_of(child).get("RANK"): child for child in children_of(launcher)}
    return [found[rank] for rank in sorted((rank for rank in found if rank is not None), key=int)]


def _wait(
    happened: Callable[[], bool], process: subprocess.Popen[str], what: str, *, timeout_s: float
) -> None:
    end = time.monotonic() + timeout_s
    while not happened():
        assert process.poll() is None, f"ended early: {process.communicate()[0]}"
        assert time.monotonic() < end, f"no {what} within {timeout_s} s"
        time.sleep(0.02)


@dataclass(frozen=True)
class Launch:
    """A training command: one process for ranks=1, else as many gloo ranks under accelerate."""

    shards: Path
    run: Path
    settings: tuple[str, ...] = ()
    ranks: int = 1
    env: dict[str, str] = field(default_factory=dict)
    config: str = "configs/demo_x2.yaml"
    thin: tuple[str, ...] = THIN
    """Settings that make its network and its batches small."""

    def command(self, *more: str) -> list[str]:
        launcher = [str(BIN / "srdist"), "train"]
        if self.ranks > 1:
            # --main_process_port 0: any free port, so that tests can run side by side.
            launcher = [str(BIN / "accelerate"), "launch", "--config_file", "launch/cpu2.yaml"]
            launcher += ["--num_processes", str(self.ranks), "--main_process_port", "0", "srdist/train.py"]
        settings = (
            *self.thin,
            *BRIEF,
            "log.wandb=disabled",
            f"data.shards={self.shards}",
            *self.settings,
            *more,
        )
        given = [part for setting in settings for part in ("--set", setting)]
        return [*launcher, "--config", self.config, "--run", str(self.run), *given]

    def environment(self) -> dict[str, str]:
        return clean_environment() | {"ACCELERATE_USE_CPU": "true"} | self.env

    def finish(self, *more: str, code: int = 0, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
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
        assert code is None or done.returncode == code, (
            f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
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

    def wait_for_step(self, step: int, process: subprocess.Popen[str], timeout_s: float = 600) -> None:
        """Wait until the log has this step."""
        path = self.run / "metrics.jsonl"

        def logged() -> bool:
            return path.is_file() and any(row["step"] >= step for row in self.rows_so_far())

        _wait(logged, process, f"step {step}", timeout_s=timeout_s)

    def wait_for_checkpoint(self, process: subprocess.Popen[str], timeout_s: float = 600) -> None:
        """Wait until there is one to resume from: it is written beside training, so later than its step."""
        _wait(lambda: checkpoint.any_in(self.run / "checkpoints"), process, "checkpoint", timeout_s=timeout_s)

    def rows_so_far(self) -> list[dict[str, Any]]:
        lines = (self.run / "metrics.jsonl").read_text().split("\n")[:-1]
        return [row for row in map(json.loads, lines) if row["kind"] == "train"]

    def final(self) -> checkpoint.Checkpoint:
        found = checkpoint.newest(self.run / "checkpoints")
        assert found is not None
        return found[1]


def differences(a: Launch, b: Launch) -> list[str]:
    """What two runs do not have in common bit for bit: weights, optimizer, best weights, counts, loss trace, scores."""
    one, other = a.final(), b.final()
    found = different_states(one, other)
    if a.loss_trace() != b.loss_trace():
        found.append("loss trace")
    if a.rows("val") != b.rows("val"):
        found.append("validation scores")
    for name in ("last.safetensors", "best.safetensors"):
        if (a.run / name).read_bytes() != (b.run / name).read_bytes():
            found.append(name)
    return found


def different_states(a: checkpoint.Checkpoint, b: checkpoint.Checkpoint) -> list[str]:
    """The parts in which two checkpoints differ, but for the seconds they took."""
    found = []
    for part, one, other in (("weights", a.model, b.model), ("optimizer", a.optimizer, b.optimizer)):
        if one.keys() != other.keys():
            found.append(part)
        else:
            found += [f"{part} {name}" for name in one if not torch.equal(one[name], other[name])]
    if a.best != b.best:
        found.append("best weights")
    states = [{k: v for k, v in c.trainer["state"].items() if k != "train_seconds"} for c in (a, b)]
    if states[0] != states[1]:
        found.append("state")
    if a.trainer["proof"] != b.trainer["proof"]:
        found.append("proof")
    return found
