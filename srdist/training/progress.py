"""The clock of the training loop, and the line of the log that comes of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from srdist.config import TrainConfig
from srdist.machine.clock import clock
from srdist.machine.device import memory_mb
from srdist.runs.log import RunLog
from srdist.training.schedule import learning_rate
from srdist.training.state import RunState
from srdist.training.stepvalues import mean_losses


class Progress:
    """Times steps and waits since the last line, and the training time of the whole run in the state's counts."""

    def __init__(self, state: RunState, config: TrainConfig, *, log: RunLog, device: torch.device) -> None:
        self.state, self.config, self.log, self.device = state, config, log, device
        self._wait_s, self._steps = 0.0, 0
        self._since = self._counted_until = time.perf_counter()

    def start(self) -> None:
        """Start the clock: what came before is no training."""
        self._since = self._counted_until = time.perf_counter()

    def step_done(self) -> None:
        """Note that a step was taken, and show it on a terminal."""
        self._steps += 1
        if self.log.live.due:
            images_per_s, left = self._rate(time.perf_counter())
            rate = f"{images_per_s:.1f} images/s, {clock(left)} left"
            self.log.live.show("training", self.state.counts.step, self.config.steps, rate)

    def _rate(self, now: float) -> tuple[float, float]:
        """Images a second since the last line, of all ranks, and the seconds that the rest takes at this rate."""
        seconds = max(now - self._since, 1e-9)
        left = (self.config.steps - self.state.counts.step) * seconds / max(1, self._steps)
        # After a resume the line's loss is of more steps than this process has timed.
        return self._steps * self.config.global_batch / seconds, left

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time that is spent waiting for data."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._wait_s += time.perf_counter() - begin

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Time that is no training: a validation."""
        self.count()
        begin = self._counted_until
        try:
            yield
        finally:
            self._counted_until = time.perf_counter()
            self._since += self._counted_until - begin

    def count(self) -> None:
        """Take the time since the last call into the run's training time."""
        now = time.perf_counter()
        self.state.counts.train_seconds += now - self._counted_until
        self._counted_until = now

    def line(self) -> dict[str, float]:
        """Log the flushed steps and the times since the last line, and begin anew; the means of the losses, by name."""
        counts, config, steps = self.state.counts, self.config, self.state.trace.steps
        now = time.perf_counter()
        seconds = max(now - self._since, 1e-9)
        means, norms = mean_losses(steps), dict(steps[-1].norms)
        losses = dict(means)
        loss = losses.pop("loss")
        images_per_s, left = self._rate(now)
        wait_share = min(1.0, self._wait_s / seconds)
        rate = learning_rate(counts.step - 1, config)
        self.log.row(
            "train",
            counts.step,
            loss=loss,
            loss_last=steps[-1].losses["loss"],
            learning_rate=rate,
            grad_norm=norms.pop("grad_norm"),
            images_per_s=images_per_s,
            data_wait_share=wait_share,
            memory_mb=memory_mb(self.device),
            refused_steps=counts.refused_steps,
            bad_samples=counts.bad_samples,
            **losses,
            **norms,
        )
        width = len(str(config.steps))
        self.log.say(
            f"step {counts.step:>{width}}/{config.steps}  loss {loss:.3e}  learning rate {rate:.2e}  "
            f"{images_per_s:7.1f} images/s  waited {wait_share:.1%}  ETA {clock(left)}"
        )
        self.count()
        self.state.trace.clear()
        self._since, self._wait_s, self._steps = now, 0.0, 0
        return means
