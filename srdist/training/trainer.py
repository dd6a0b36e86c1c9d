"""The one training loop: shards in, a run folder with checkpoints, weights, metrics and samples out.

A step is: fetch and agree with the other ranks to go on, one step ahead; forward and backward; guarded optimizer step.
Everything else (log line, validation, checkpoint) happens at step boundaries, on all ranks alike.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from torch import Tensor

from srdist.config import Config
from srdist.machine import ranks, stopping
from srdist.machine.device import configure_threads, environment, open_accelerator
from srdist.quality.scores import Scores
from srdist.runs import checkpoint
from srdist.runs import folder as runfolder
from srdist.runs.log import RunLog
from srdist.stream.share import Share
from srdist.training.announce import tell_network, tell_scores, tell_start
from srdist.training.beginning import Beginning, begin_network
from srdist.training.draws import seed_draws
from srdist.training.faults import Faults
from srdist.training.feed import Feed
from srdist.training.inputs import Inputs
from srdist.training.learner import Learner
from srdist.training.progress import Progress
from srdist.training.result import RunResult
from srdist.training.saver import Saver
from srdist.training.schedule import learning_rate
from srdist.training.signs import Signs
from srdist.training.state import prepare_folder, refuse_not_finite, restore, weights_file
from srdist.training.validation import Validator

if TYPE_CHECKING:
    from filelock import BaseFileLock

Watch = Callable[[int, Scores], str | None]


class Trainer:
    """Trains the network of `config` into the folder `run`, or goes on where that run stands.

    Args:
        watch: is shown the step and the scores of each validation but the last step's, on the first rank; a
            reason to stop stops the run as a signal does.
        show_samples: whether the sample grid of each validation is shown on the terminal, too.
    """

    def __init__(
        self,
        config: Config,
        *,
        run: Path,
        quiet: bool,
        watch: Watch | None = None,
        show_samples: bool = False,
    ) -> None:
        self.config, self.run, self.watch = config, run, watch
        self._scores: Scores | None = None
        self._parts = not ranks.joined()
        self._lock: BaseFileLock | None = None
        self._requested = stopping.Requests(run if ranks.is_main() else None)
        # The process may go on to another training, and another process to this one: nothing is left open on an error.
        with ExitStack() as opened:
            share = Share(ranks.rank(), ranks.world())
            # Before anything else, and whatever is wrong is told when all ranks can hear it.
            inputs = ranks.held(
                lambda: opened.enter_context(Inputs(config, share, should_stop=self._should_stop))
            )
            self.accelerator = open_accelerator(
                precision=config.train.precision,
                deterministic=config.train.deterministic,
                peer_timeout_s=config.train.peer_timeout_s,
            )
            configure_threads(config.train.threads)
            opened.callback(self._unlock)
            ranks.main_first(self._take_lock)
            self.log = RunLog(run, main=ranks.is_main(), quiet=quiet, show_samples=show_samples)
            opened.callback(self.log.close)
            self._resumes = ranks.main_first(lambda: checkpoint.any_in(run / "checkpoints"))
            self.inputs = ranks.together(inputs)
            said = ranks.gather_items([(config, self.inputs.index.manifest_id)])
            ranks.together(lambda: runfolder.check_alike(*zip(*said, strict=True)))
            self._open()
            opened.pop_all()

    def _open(self) -> None:
        config, run = self.config, self.run
        self.rank_batch, self.accumulation = self.inputs.rank_batch, self.inputs.accumulation
        self.index = self.inputs.index
        self.beginning, self.validator = ranks.together(self._begin)
        self.learner = Learner(
            self.beginning.network,
            config.train,
            self.accelerator,
            images_per_step=self.rank_batch * self.accumulation,
            lr_shape=(self.rank_batch, *self.inputs.lr_size),
        )
        self.state = restore(config, run=run, index=self.index, learner=self.learner, warn=self.log.warn)
        self.state.wandb_id = ranks.main_first(
            lambda: prepare_folder(run, config, self.state, self.log, self.learner, self.index.manifest_id)
        )
        self.progress = Progress(self.state, config.train, log=self.log, device=self.accelerator.device)
        self.saver = Saver(self.learner, run=run, config=config, manifest_id=self.index.manifest_id)
        self.signs = Signs(config.train.all_losses, self.log)
        self.faults = Faults(self.state, config, run=run, index=self.index, log=self.log)
        facts = {
            "world": ranks.world(),
            "rank_batch": self.rank_batch,
            "accumulation": self.accumulation,
            "manifest_id": self.index.manifest_id,
            "train_samples": len(self.index),
            "parameters": sum(parameter.numel() for parameter in self.learner.network.module.parameters()),
            **({"frozen": self.beginning.frozen} if self.beginning.frozen else {}),
            **environment(self.accelerator.device),
        }
        tell_start(self.log, run, config, self.state, facts)
        tell_network(self.log, config, self.beginning, device=self.accelerator.device.type)
        for note in self.learner.losses.notes:
            self.log.say(f"  {note}")

    def fit(self) -> RunResult:
        """Train to the config's last step, or until somebody asks for a stop; the state is saved either way."""
        counts, steps = self.state.counts, self.config.train.steps
        if counts.step >= steps and counts.validated_step == counts.step:
            self.log.say(
                f"{self.run} is already at step {counts.step} of {steps}: raise train.steps to go on"
            )
            return self._result(None)
        stopped: str | None = None
        stopping.begin_training()
        self.inputs.stream.begin_at(counts.step * self.config.train.global_batch)
        with self.inputs, self._feed() as feed:
            self.progress.start()
            while stopped is None and (counts.step < steps or self._due("validate")):
                stopped = self._validate() if self._due("validate") else self._step(feed)
        self.progress.count()
        if stopped is not None:
            stopped = ranks.broadcast(stopped)
            self._save()
            self.saver.wait()
            self.log.say(
                f"stopped at step {counts.step} ({stopped}), saved; the same command goes on from there"
            )
            self.log.row("stop", counts.step, reason=stopped, train_seconds=counts.train_seconds)
            ranks.main_first(lambda: runfolder.mark_stopped(self.run, reason=stopped, step=counts.step))
            return self._result(stopped)
        self._save()
        self.saver.wait()
        self.log.row("done", counts.step, train_seconds=counts.train_seconds)
        return self._result(None)

    def _result(self, stopped: str | None) -> RunResult:
        counts = self.state.counts
        return RunResult(counts.step, stopped, self._scores, counts.best_psnr_y_db, counts.best_step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the workers, finish the log, leave the process group if this Trainer joined it, let the run folder go."""
        self.inputs.close()
        if kind is not KeyboardInterrupt and (failure := self.saver.close()) is not None:
            self.log.warn(f"{self.run}: the last checkpoint was not written: {failure}")
        if self.log.wandb is not None:
            self.log.wandb.artifact(self.run / "best.safetensors", name=f"{self.run.name}-best", kind="model")
        self.log.close()
        if self._parts:
            if kind is None:  # else its threads may wait for a rank that is gone
                del self.learner, self.saver
                self.accelerator.free_memory()
            ranks.part()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def _step(self, feed: Feed) -> str | None:
        """One optimizer step and what is due after it; the reason if a stop was asked for instead."""
        counts, step = self.state.counts, feed.next()
        if step.any_failure:
            ranks.raise_everywhere(step.failure)
        if step.any_stop:
            return step.stop or self._why_stopped()
        if step.any_bad:
            self.faults.note_bad(step.bad)
        feed.ready()
        if counts.step + 1 < self.config.train.steps:
            feed.look_ahead()
        self.learner.begin(counts.step)
        for i, pair in enumerate(step.pairs):
            seed_draws(self.config.train.seed, step=counts.step, rank=ranks.rank(), part=i)
            self.learner.accumulate(pair.lr, pair.hr, pair.weight, last=i == self.accumulation - 1)
        values = self.learner.update(counts.step, learning_rate(counts.step, self.config.train))
        counts.step += 1
        self.progress.step_done()
        for pair in step.pairs:
            self.state.proof.add(pair.positions, pair.ids)
            self.state.trace.add_ids(counts.step, pair.ids)
        self.state.trace.add(counts.step, values)
        self._after_step()
        return None

    def _after_step(self) -> None:
        """What is due at this step boundary, but for the validation."""
        counts, config = self.state.counts, self.config.train
        # Neither the device nor the other ranks are waited for in between.
        if self._due("log") or self._due("checkpoint"):
            self.faults.judge(self.state.trace.flush())
        for epoch in self.state.proof.finished(counts.step * config.global_batch):
            total = ranks.reduce_sums(self.state.proof.take(epoch))
            ranks.together(partial(self.state.proof.check, epoch, total))
            counts.bad_in_epoch = 0
        if self._due("log"):
            first_step = self.state.trace.steps[0].step
            self.signs.notice(self.progress.line(), first_step=first_step, step=counts.step)
        if self._due("checkpoint") and not self._due("validate"):
            self.progress.count()
            self._save()

    def _due(self, what: str) -> bool:
        counts, config = self.state.counts, self.config.train
        every = {
            "log": config.log_every,
            "validate": config.validate_every,
            "checkpoint": config.checkpoint_every,
        }
        now = counts.step > 0 and (counts.step % every[what] == 0 or counts.step == config.steps)
        return now and (what != "validate" or counts.validated_step != counts.step)

    def _why_stopped(self) -> str:
        return stopping.requested(self.run) or "another rank was asked to stop"

    # What happens at step boundaries.

    def _validate(self) -> str | None:
        """Score the weights, keep them if they are the best, save; the reason if a stop was asked for meanwhile."""
        with self.progress.apart():
            weights = self.learner.common_weights()
            scores = self.validator.score(weights)
            if scores is None:
                return self._why_stopped()
            self.faults.note_bad_validation(self.validator.bad, images=scores[0].images)
            return self._note_scores(weights, *scores)

    def _note_scores(self, weights: dict[str, Tensor], network: Scores, bicubic: Scores) -> str | None:
        counts = self.state.counts
        best = counts.note_score(network.psnr_y_db)
        if best:
            refuse_not_finite(weights, step=counts.step, run=self.run)
            if ranks.is_main():
                self.state.best = weights_file(
                    weights, config=self.config, manifest_id=self.index.manifest_id, step=counts.step
                )
        tell_scores(self.log, counts.step, network, bicubic, best=best)
        ranks.main_first(lambda: self._draw(f"step {counts.step}"))
        if best or self._due("checkpoint"):
            self._save()
        self._scores = network
        if self.watch is None or counts.step >= self.config.train.steps:
            return None
        watch = self.watch
        return ranks.main_first(lambda: watch(counts.step, network))

    def _draw(self, title: str) -> None:
        image = self.validator.grid(title=f"{self.run.name}, {title}")
        if image is not None:
            self.log.picture(self.state.counts.step, image)

    def _save(self) -> None:
        self.faults.judge(self.state.trace.flush())
        self.saver.begin(self.state)

    def _begin(self) -> tuple[Beginning, Validator]:
        """The network's first weights, and what will score it."""
        beginning = begin_network(self.config, rank_batch=self.rank_batch, resumes=self._resumes)
        return beginning, Validator(
            self.config,
            self.inputs.val_stream,
            index=self.inputs.val_index,
            device=self.accelerator.device,
            run=self.run,
        )

    def _take_lock(self) -> None:
        self._lock = runfolder.lock(self.run)

    def _feed(self) -> Feed:
        stream = self.inputs.stream
        return Feed(
            iter(stream),
            memory=stream.memory,
            device=self.accelerator.device,
            micro_batches=self.accumulation,
            requested=self._requested,
            failed=self.saver.failure,
            waiting=self.progress.waiting,
        )

    def _should_stop(self) -> bool:
        return self._requested() is not None
