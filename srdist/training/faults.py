"""Steps that were refused and samples that are damaged: counted, named in the log, and too many of them are the end of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from srdist.config import Config
from srdist.machine import ranks
from srdist.machine.errors import WorkError
from srdist.runs.log import RunLog
from srdist.shards.reader import BadSample, ShardIndex
from srdist.training.state import RunState
from srdist.training.stepvalues import StepValues


class Faults:
    """What a run has met that it could leave out. Its methods are collectives."""

    def __init__(self, state: RunState, config: Config, *, run: Path, index: ShardIndex, log: RunLog) -> None:
        self.state, self.config, self.run, self.index, self.log = state, config, run, index, log

    def judge(self, steps: Sequence[StepValues]) -> None:
        """Count refused steps and name their samples; a float16 factor that was too large is no fault, and is noted alone.

        Raises:
            WorkError: train.max_bad_steps in a row.
        """
        counts, limit = self.state.counts, self.config.train.max_bad_steps
        for step in steps:
            if step.overflowed:
                self.log.row("overflow", step.step, loss_scale=step.loss_scale)
                continue
            counts.refused_in_row = counts.refused_in_row + 1 if step.refused else 0
            if not step.refused:
                continue
            counts.refused_steps += 1
            ids = ranks.gather(self.state.trace.ids_of(step.step)).flatten().tolist()
            keys = [self.index.key(i) for i in ids]
            self.log.row("refused", step.step, **step.losses, **step.norms, keys=keys)
            self.log.warn(
                f"step {step.step}: {_named(step)} not finite, step left out (samples {', '.join([*dict.fromkeys(keys)][:4])}, ...)"
            )
            if counts.refused_in_row >= limit:
                error = WorkError(
                    f"step {step.step}: {_named(step)} not finite {limit} steps in a row (train.max_bad_steps); "
                    f"the last good checkpoint is in {self.run}/checkpoints; lower train.learning_rate and go on from it"
                )
                ranks.raise_everywhere(error)

    def note_bad(self, bad: Sequence[BadSample]) -> None:
        """List the damaged samples of all ranks, met in the step that comes next.

        Raises:
            WorkError: more than data.max_bad_fraction of the set.
        """
        counts, config = self.state.counts, self.config.data
        damaged = ranks.gather_items([asdict(sample) for sample in bad])
        counts.bad_samples += len(damaged)
        counts.bad_in_epoch += len(damaged)
        ranks.main_first(lambda: self.log.bad_samples(counts.step + 1, damaged))
        if counts.bad_in_epoch > config.max_bad_fraction * len(self.index):
            first = damaged[0]
            error = WorkError(
                f"{counts.bad_in_epoch} of {len(self.index)} samples are damaged, above data.max_bad_fraction "
                f"{config.max_bad_fraction} (the newest: shard {first['shard']}, key {first['key']}, offset "
                f"{first['offset']}: {first['reason']}); see {self.run}/bad_samples.jsonl, repack the set"
            )
            ranks.raise_everywhere(error)

    def note_bad_validation(self, bad: Sequence[BadSample], *, images: int) -> None:
        """List the damaged samples of all ranks that were left out of a validation of `images` others.

        Raises:
            WorkError: more than data.max_bad_fraction of those that were to be scored.
        """
        damaged = ranks.gather_items([asdict(sample) for sample in bad])
        if not damaged:
            return
        counts, limit, first = self.state.counts, self.config.data.max_bad_fraction, damaged[0]
        ranks.main_first(lambda: self.log.bad_samples(counts.step, damaged))
        line = (
            f"validation at step {counts.step}: {len(damaged)} of {images + len(damaged)} images are damaged and left out "
            f"(shard {first['shard']}, key {first['key']}, offset {first['offset']}: {first['reason']})"
        )
        self.log.warn(f"{line}; see {self.run}/bad_samples.jsonl")
        if len(damaged) > limit * (images + len(damaged)):
            ranks.raise_everywhere(WorkError(f"{line}: above data.max_bad_fraction {limit}, repack the set"))


def _named(step: StepValues) -> str:
    """Which losses were not finite, or else the gradients of what."""
    return ", ".join(step.not_finite()) or "loss or gradient"
