"""The one training loop: shards in, a run folder with checkpoints, weights, metrics and samples out.

A step is: fetch, agree with the other ranks to go on, forward and backward, guarded optimizer step. Everything
else (log line, validation, checkpoint) happens at step boundaries, on all ranks alike.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import IO, Self

from srdist.config import Config
from srdist.machine import ranks, stopping
from srdist.machine.device import configure_threads, environment, memory_mb, open_accelerator, split_batch
from srdist.machine.errors import UserError, WorkError
from srdist.machine.stopping import StopRequested
from srdist.networks.srcnn import SRCNN, build
from srdist.networks.weightfile import fit_state, load_weights
from srdist.runs import folder as runfolder
from srdist.runs.log import RunLog
from srdist.runs.wandb_run import WandbRun, wanted_mode
from srdist.shards.reader import BadSample, ShardIndex
from srdist.stream.pairs import Pair, TrainStream
from srdist.training.learner import Learner
from srdist.training.schedule import learning_rate
from srdist.training.state import prepare_folder, refuse_not_finite, restore, save, weights_file
from srdist.training.stepvalues import StepValues, mean_losses
from srdist.training.validation import Validator


class Trainer:
    """Trains the network of `config` into the folder `run`, or goes on where that run stands."""

    def __init__(self, config: Config, *, run: Path, quiet: bool) -> None:
        self.config, self.run = config, run
        self.accelerator = open_accelerator(
            precision=config.train.precision, peer_timeout_s=config.train.peer_timeout_s
        )
        self.world = self.accelerator.num_processes
        configure_threads(config.train.threads)
        self.rank_batch, self.accumulation = ranks.together(
            lambda: split_batch(
                config.train.global_batch, world=self.world, rank_batch=config.train.rank_batch
            )
        )
        self._lock: IO[str] | None = None
        ranks.main_first(self._take_lock)
        self.log = RunLog(run, main=ranks.is_main(), quiet=quiet)
        self.index, network, self.validator = ranks.together(self._open_inputs)
        self.learner = Learner(
            network, config.train, self.accelerator, images_per_step=config.train.global_batch // self.world
        )
        self.state = restore(config, run=run, index=self.index, learner=self.learner, warn=self.log.warn)
        self.state.wandb_id = ranks.main_first(lambda: prepare_folder(run, config, self.state, self.log))
        self._since, self._wait_s, self._timed_steps = 0.0, 0.0, 0
        self._counted_until = 0.0
        self._introduce()

    def fit(self) -> bool:
        """Train to the config's last step; False if a stop was asked for and the state is saved."""
        counts, steps = self.state.counts, self.config.train.steps
        if counts.step >= steps and counts.validated_step == counts.step:
            self.log.say(
                f"{self.run} is already at step {counts.step} of {steps}: raise train.steps to go on"
            )
            return True
        stopped: str | None = None
        stopping.begin_training()
        with ranks.together(self._stream) as stream:
            pairs = iter(stream)
            self._since = self._counted_until = time.perf_counter()
            while stopped is None and (counts.step < steps or self._due("validate")):
                stopped = self._validate() if self._due("validate") else self._step(pairs)
        self._count_time()
        if stopped is not None:
            stopped = ranks.broadcast(stopped)
            self._save()
            self.log.say(
                f"stopped at step {counts.step} ({stopped}), saved; the same command goes on from there"
            )
            self.log.row("stop", counts.step, reason=stopped, train_seconds=counts.train_seconds)
            ranks.main_first(lambda: runfolder.mark_stopped(self.run, reason=stopped, step=counts.step))
            return False
        self._save()
        self.log.row("done", counts.step, train_seconds=counts.train_seconds)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Finish the log, leave the process group, let the run folder go."""
        if self.log.wandb is not None:
            self.log.wandb.artifact(self.run / "best.safetensors", name=f"{self.run.name}-best", kind="model")
        self.log.close()
        self.accelerator.end_training()
        if self._lock is not None:
            self._lock.close()

    def _step(self, pairs: Iterator[Pair]) -> str | None:
        """One optimizer step and what is due after it; the reason if a stop was asked for instead."""
        counts, fetched = self.state.counts, []
        bad: list[BadSample] = []
        for i in range(self.accumulation):
            last = i == self.accumulation - 1
            pair, failure = self._fetch(pairs)
            if pair is not None:
                fetched.append((pair.positions.clone(), pair.ids.clone()))
                bad += pair.bad
            if last or pair is None:
                # Before the pass whose end waits for the other ranks: once a step, on every rank.
                stop = self._agree_to_go_on(failure, bad)
                if stop is not None:
                    self.learner.abandon()
                    return stop
            assert pair is not None
            self.learner.accumulate(pair.lr, pair.hr, pair.weight, last=last)
        values = self.learner.update(counts.step, learning_rate(counts.step, self.config.train))
        counts.step += 1
        self._timed_steps += 1
        for positions, ids in fetched:
            self.state.proof.add(positions, ids)
            self.state.trace.add_ids(counts.step, ids)
        self.state.trace.add(counts.step, values)
        self._after_step()
        return None

    def _fetch(self, pairs: Iterator[Pair]) -> tuple[Pair | None, Exception | None]:
        begin = time.perf_counter()
        try:
            return next(pairs), None
        except StopRequested:
            return None, None
        except (UserError, OSError) as error:
            return None, error
        finally:
            self._wait_s += time.perf_counter() - begin

    def _agree_to_go_on(self, failure: Exception | None, bad: list[BadSample]) -> str | None:
        """Raise any rank's failure on all, note damaged samples, return why to stop if any rank was asked to."""
        stop = stopping.requested(self.run if ranks.is_main() else None)
        any_stop, any_failure, any_bad = ranks.any_rank(stop is not None, failure is not None, bool(bad))
        if any_failure:
            ranks.raise_everywhere(failure)
        if any_stop:
            return stop or "another rank was asked to stop"
        if any_bad:
            self._note_bad(bad)
        return None

    def _after_step(self) -> None:
        """What is due at this step boundary, but for the validation."""
        counts, config = self.state.counts, self.config.train
        # A host that computes need not wait to look; a GPU is asked only at log lines.
        if self._due("log") or self._due("checkpoint") or self.accelerator.device.type == "cpu":
            self._judge(self.state.trace.flush())
        for epoch in self.state.proof.finished(counts.step * config.global_batch):
            total = ranks.reduce_sums(self.state.proof.take(epoch))
            ranks.together(partial(self.state.proof.check, epoch, total))
            counts.bad_in_epoch = 0
        if self._due("log"):
            self._log_line()
        if self._due("checkpoint") and not self._due("validate"):
            self._count_time()
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

    # What happens at step boundaries.

    def _validate(self) -> str | None:
        """Score the weights, keep them if they are the best, save; the reason if a stop was asked for instead."""
        counts, begin = self.state.counts, time.perf_counter()
        self._count_time()
        weights = self.learner.weights()
        scores = self.validator.score(weights)
        if scores is None:
            self._counted_until = time.perf_counter()
            return stopping.requested(self.run) or "another rank was asked to stop"
        network, bicubic = scores
        best = counts.note_score(network.psnr_y_db)
        if best:
            refuse_not_finite(weights, step=counts.step, run=self.run)
            self.state.best = weights_file(
                weights, config=self.config, manifest_id=self.index.manifest_id, step=counts.step
            )
        values = asdict(network) | {
            f"bicubic_{name}": value for name, value in asdict(bicubic).items() if name != "images"
        }
        self.log.row("val", counts.step, **values)
        if math.isnan(network.psnr_y_db):
            self.log.warn(
                f"validation at step {counts.step}: PSNR-Y is not a number, so these weights cannot be the best "
                f"(images of more than {2 * self.config.model.scale} pixels a side are needed, without the border)"
            )
        gain = network.psnr_y_db - bicubic.psnr_y_db
        self.log.say(
            f"  validation at step {counts.step}: PSNR-Y {network.psnr_y_db:.2f} dB ({gain:+.2f} over bicubic), SSIM-Y "
            f"{network.ssim_y:.4f}, RMSE {network.rmse:.4f}, {network.images} images{', the best so far' if best else ''}"
        )
        ranks.main_first(lambda: self._draw(f"step {counts.step}"))
        if best or self._due("checkpoint"):
            self._save()
        self._counted_until = time.perf_counter()
        self._since += self._counted_until - begin
        return None

    def _draw(self, title: str) -> None:
        image = self.validator.grid(title=f"{self.run.name}, {title}")
        if image is not None:
            self.log.picture(self.state.counts.step, image)

    def _judge(self, steps: list[StepValues]) -> None:
        """Count refused steps, name their samples, and give up after too many in a row."""
        counts, limit = self.state.counts, self.config.train.max_bad_steps
        for step in steps:
            counts.refused_in_row = counts.refused_in_row + 1 if step.refused else 0
            if not step.refused:
                continue
            counts.refused_steps += 1
            ids = ranks.gather(self.state.trace.ids_of(step.step)).flatten().tolist()
            keys = [self.index.key(i) for i in ids]
            self.log.row("refused", step.step, **step.losses, **step.norms, keys=keys)
            self.log.warn(
                f"step {step.step}: loss or gradient not finite, step left out (samples {', '.join(keys[:4])}, ...)"
            )
            if counts.refused_in_row >= limit:
                error = WorkError(
                    f"step {step.step}: loss or gradient not finite {limit} steps in a row (train.max_bad_steps); "
                    f"the last good checkpoint is in {self.run}/checkpoints; lower train.learning_rate and go on from it"
                )
                ranks.raise_everywhere(error)

    def _note_bad(self, bad: list[BadSample]) -> None:
        """List damaged samples of all ranks, and stop where they are too many."""
        counts, config = self.state.counts, self.config.data
        found = ranks.gather_items([asdict(sample) for sample in bad])
        counts.bad_samples += len(found)
        counts.bad_in_epoch += len(found)
        ranks.main_first(lambda: self.log.bad_samples(self.state.counts.step + 1, found))
        if counts.bad_in_epoch > config.max_bad_fraction * len(self.index):
            first = found[0]
            error = WorkError(
                f"{counts.bad_in_epoch} of {len(self.index)} samples are damaged, above data.max_bad_fraction "
                f"{config.max_bad_fraction} (the newest: shard {first['shard']}, key {first['key']}, offset "
                f"{first['offset']}: {first['reason']}); see {self.run}/bad_samples.jsonl, repack the set"
            )
            ranks.raise_everywhere(error)

    def _log_line(self) -> None:
        counts, config, steps = self.state.counts, self.config.train, self.state.trace.steps
        now = time.perf_counter()
        seconds = max(now - self._since, 1e-9)
        losses, norms = mean_losses(steps), dict(steps[-1].norms)
        loss = losses["loss"]
        # After a resume the line's loss is of more steps than this process has timed.
        images_per_s = self._timed_steps * config.global_batch / seconds
        wait_share = min(1.0, self._wait_s / seconds)
        rate = learning_rate(counts.step - 1, config)
        left = (config.steps - counts.step) * seconds / max(1, self._timed_steps)
        self.log.row(
            "train",
            counts.step,
            loss=losses.pop("loss"),
            loss_last=steps[-1].losses["loss"],
            learning_rate=rate,
            grad_norm=norms.pop("grad_norm"),
            images_per_s=images_per_s,
            data_wait_share=wait_share,
            memory_mb=memory_mb(self.accelerator.device),
            refused_steps=counts.refused_steps,
            bad_samples=counts.bad_samples,
            **losses,
            **norms,
        )
        width = len(str(config.steps))
        self.log.say(
            f"step {counts.step:>{width}}/{config.steps}  loss {loss:.3e}  learning rate {rate:.2e}  "
            f"{images_per_s:7.1f} images/s  waited {wait_share:.1%}  ETA {_clock(left)}"
        )
        self._count_time()
        self.state.trace.clear()
        self._since, self._wait_s, self._timed_steps = now, 0.0, 0

    def _count_time(self) -> None:
        """Take the time since the last call into the run's training time: validation and start-up are not part of it."""
        now = time.perf_counter()
        self.state.counts.train_seconds += now - self._counted_until
        self._counted_until = now

    def _save(self) -> None:
        self._judge(self.state.trace.flush())
        save(self.state, self.learner, run=self.run, config=self.config, manifest_id=self.index.manifest_id)

    def _introduce(self) -> None:
        """Tell what begins or goes on, on the console, in metrics.jsonl and to W&B."""
        changed = self.state.changed
        facts = {
            "world": self.world,
            "rank_batch": self.rank_batch,
            "accumulation": self.accumulation,
            "manifest_id": self.index.manifest_id,
            "train_samples": len(self.index),
            "parameters": sum(parameter.numel() for parameter in self.learner.network.module.parameters()),
            **environment(self.accelerator.device),
        }
        mode = wanted_mode(self.config.log.wandb)
        if ranks.is_main() and mode is not None:
            self.log.wandb = WandbRun(
                self.run,
                run_id=self.state.wandb_id,
                mode=mode,
                project=self.config.log.project,
                facts=self.config.model_dump(mode="json") | facts,
                say=self.log.warn,
            )
            manifest = Path(self.index.folder) / "manifest.json"
            self.log.wandb.artifact(manifest, name=f"shards-{self.index.manifest_id[:12]}", kind="dataset")
        kind = "start" if changed is None else "resume"
        self.log.row(kind, self.state.counts.step, **facts, changed=changed or {})
        begin = "starts" if changed is None else f"resumes at step {self.state.counts.step}"
        config = self.config.train
        self.log.say(
            f"{self.run} {begin}: {self.world} rank{'s' if self.world > 1 else ''} on {self.accelerator.device.type}, "
            f"precision {config.precision}, global batch {config.global_batch} = {self.world} x {self.rank_batch} x "
            f"{self.accumulation} (ranks x batch x accumulation), {len(self.index)} training samples, {config.steps} steps"
        )
        for name, (before, after) in (changed or {}).items():
            self.log.say(f"  {name}: {before} before, {after} now")

    def _open_inputs(self) -> tuple[ShardIndex, SRCNN, Validator]:
        """What this rank reads: the images, the network's first weights, the validation split."""
        config = self.config
        index = ShardIndex.open(config.data.shards, config.data.train_split)
        network = build(config.model, seed=config.train.seed)
        if config.train.init_from is not None:
            start, _ = load_weights(config.train.init_from)
            fit_state(network, start.state_dict(), source=config.train.init_from)
        return index, network, Validator(config, device=self.accelerator.device, run=self.run)

    def _take_lock(self) -> None:
        self._lock = runfolder.lock(self.run)

    def _stream(self) -> TrainStream:
        data, config = self.config.data, self.config.train
        return TrainStream(
            self.index,
            scale=self.config.model.scale,
            kernel=data.kernel,
            hr_patch=data.hr_patch,
            flips=data.flips,
            seed=config.seed,
            order=data.order,
            window_shards=data.window_shards,
            global_batch=config.global_batch,
            rank_batch=self.rank_batch,
            rank=ranks.rank(),
            world=self.world,
            workers=data.workers,
            start=self.state.counts.step * config.global_batch,
            on_bad_sample=data.on_bad_sample,
        )


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
