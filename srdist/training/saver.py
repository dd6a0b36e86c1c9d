"""Checkpoints and weights of a run, written by a thread of the first rank while training goes on.

Training stands still for a copy of the state in the host's memory, and no longer. What a kill leaves is what it would
leave of a write in training itself: every file whole or as it was before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

from torch import Tensor

from srdist.config import Config
from srdist.machine import ranks
from srdist.machine.files import sync, write_bytes
from srdist.runs import checkpoint
from srdist.training.hostcopies import HostCopies
from srdist.training.learner import Learner
from srdist.training.state import RunState, refuse_not_finite, weights_file, write_best


class Saver:
    """Saves a run's state, one write at a time. What a write meets is the end of the run: nothing is written after it."""

    def __init__(self, learner: Learner, *, run: Path, config: Config, manifest_id: str) -> None:
        self._learner, self._run, self._config, self._manifest_id = learner, run, config, manifest_id
        self._copies = HostCopies()
        self._thread: Thread | None = None
        self._failure: Exception | None = None
        self._told = False

    def begin(self, state: RunState) -> None:
        """Copy the state, once the write before is done, and begin to write a checkpoint, last.safetensors and best.safetensors.

        A collective.

        Raises:
            WorkError: a value of the learner is not finite; nothing is written.
            Exception: what a write before has met.
        """
        open_sums = ranks.reduce_sums(state.proof.open_sums()).tolist()
        model, optimizer = self._learner.state()
        refuse_not_finite(model | optimizer, step=state.counts.step, run=self._run)
        trainer: dict[str, Any] = {
            "state": asdict(state.counts),
            # The stream's position: the whole state of the loader.
            "samples_seen": state.counts.step * self._config.train.global_batch,
            "proof": open_sums,
            "trace": state.trace.dump(),
            "config": self._config.model_dump(mode="json"),
            "manifest_id": self._manifest_id,
            "world": ranks.world(),
            "wandb_id": state.wandb_id,
        }

        def begin() -> None:
            self._join()
            copies = self._copies.take(model | optimizer)
            content = checkpoint.Checkpoint(
                model={name: copies[name] for name in model},
                optimizer={name: copies[name] for name in optimizer},
                trainer=trainer,
                best=state.best,
            )
            # Here, as some networks draw from torch's own generator to make them, which training draws from too.
            weights = self._learner.for_use(content.model)
            best_step = state.counts.best_step
            self._start(partial(self._write, content, weights, step=state.counts.step, best_step=best_step))

        ranks.main_first(begin)

    def wait(self) -> None:
        """Wait until what was begun is written. A collective.

        Raises:
            Exception: what the write has met, on every rank.
        """
        ranks.main_first(self._join)

    def failure(self) -> Exception | None:
        """What a write has met, for whoever ends the run for it."""
        self._told |= self._failure is not None
        return self._failure

    def close(self) -> Exception | None:
        """Wait for the write on this rank alone; what it has met, if nobody was told."""
        if self._thread is not None:
            self._thread.join()
        return None if self._told else self._failure

    def _start(self, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except Exception as error:  # told by the thread that trains
                self._failure = error

        # A daemon: whoever interrupts a run twice does not want to wait for it.
        self._thread = Thread(target=run, name="checkpoint", daemon=True)
        self._thread.start()

    def _join(self) -> None:
        self.close()
        if (failure := self.failure()) is not None:
            raise failure

    def _write(
        self,
        content: checkpoint.Checkpoint,
        weights: dict[str, Tensor],
        *,
        step: int,
        best_step: int | None,
    ) -> None:
        run, folder = self._run, self._run / "checkpoints"
        last = weights_file(weights, config=self._config, manifest_id=self._manifest_id, step=step)
        # Rows of steps that no resumption takes again.
        for log in (run / "metrics.jsonl", run / "bad_samples.jsonl"):
            if log.exists():
                sync(log)
        sync(run)
        checkpoint.write(folder, content, step=step)
        write_bytes(run / "last.safetensors", last)
        write_best(content.best, run)
        checkpoint.prune(folder, keep=self._config.train.keep_checkpoints, best_step=best_step)
