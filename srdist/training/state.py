"""Where a run stands: one value that the loop owns, read from the run's folder (saver.py writes it), the same on every rank.

`restore` is a collective. Files are read by the first rank; its failure is raised on all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srdist.config import Config, dump, parse
from srdist.machine import ranks
from srdist.machine.errors import UserError, WorkError
from srdist.machine.files import write_bytes
from srdist.networks.weightfile import WeightsInfo, pack_weights
from srdist.runs import checkpoint
from srdist.runs import folder as runfolder
from srdist.runs.log import RunLog
from srdist.runs.wandb_run import new_id
from srdist.shards.reader import ShardIndex
from srdist.stream.proof import EpochProof
from srdist.training.learner import Learner
from srdist.training.stepvalues import Trace


@dataclass(slots=True)
class Counts:
    """The plain values of a state, stored in trainer.json."""

    step: int = 0
    """Optimizer steps done, refused ones included."""
    best_psnr_y_db: float | None = None
    best_step: int | None = None
    validated_step: int = 0
    """Newest step whose validation is logged."""
    refused_steps: int = 0
    """Steps whose loss or gradient was not finite."""
    refused_in_row: int = 0
    bad_samples: int = 0
    """Damaged samples given weight 0 so far."""
    bad_in_epoch: int = 0
    train_seconds: float = 0.0
    """Seconds in the training loop, over all resumptions."""

    def note_score(self, psnr_y_db: float) -> bool:
        """Note the score of the weights of this step; whether it is the best so far. One that is not finite never is."""
        self.validated_step = self.step
        best = -math.inf if self.best_psnr_y_db is None else self.best_psnr_y_db
        if not (math.isfinite(psnr_y_db) and psnr_y_db > best):
            return False
        self.best_psnr_y_db, self.best_step = psnr_y_db, self.step
        return True


@dataclass(slots=True)
class RunState:
    """All that a checkpoint holds beside the learner's tensors."""

    counts: Counts
    trace: Trace
    """Values of the steps since the last line of the log."""
    proof: EpochProof
    best: bytes | None = None
    """best.safetensors, as bytes; of a new best one on the first rank alone, which writes it."""
    wandb_id: str = ""
    changed: dict[str, list[Any]] | None = None
    """What a resumption changed in the config, {field: [old, new]}; None for a new run."""


def restore(
    config: Config, *, run: Path, index: ShardIndex, learner: Learner, warn: Callable[[str], None]
) -> RunState:
    """The state in which the run folder stands, loaded into `learner` too; that of a new run where it has none.

    Args:
        warn: is told of checkpoints that were skipped.

    Raises:
        UserError: the network, the images, the seed or the like differ from the run's, or only its
            checkpoints are gone.
        DamagedCheckpointError: there are checkpoints, but none verifies.
    """
    newest_good = ranks.main_first(lambda: checkpoint.newest(run / "checkpoints"))
    if newest_good is None:
        ranks.main_first(lambda: runfolder.check_no_weights(run))
        ranks.main_first(lambda: runfolder.check_own_files(run))
        return RunState(Counts(), Trace(), _proof(config, index, step=0))
    path, saved, passed_over = newest_good
    for problem in passed_over:
        warn(f"checkpoint skipped: {problem}")
    trainer = saved.trainer
    old = parse(trainer["config"], source=f"{path}/trainer.json", kind=type(config))
    changed = runfolder.changes(old, config, source=run)
    runfolder.check_manifest(index.manifest_id, trained=trainer["manifest_id"], source=run)
    learner.load_state(saved.model, saved.optimizer)
    counts, trace = _counts(trainer["state"], source=f"{path}/trainer.json"), Trace()
    trace.restore(trainer["trace"])
    proof = _proof(config, index, step=counts.step)
    open_sums = torch.tensor(trainer["proof"], dtype=torch.int64)
    proof.restore(open_sums if ranks.is_main() else torch.zeros_like(open_sums))
    return RunState(counts, trace, proof, saved.best, trainer["wandb_id"], changed)


def refuse_not_finite(tensors: dict[str, Tensor], *, step: int, run: Path) -> None:
    """Never keep what no run can go on from: the good files of before stay. A collective.

    Raises:
        WorkError: a value is not finite, on any rank (buffers may differ between ranks).
    """
    finite = [tensor.isfinite().all() for tensor in tensors.values()]
    # A GPU is asked once for all of them; the few values of the host go there for that.
    answers = torch.stack([each.to(finite[0].device) for each in finite]).tolist()
    broken = [name for name, answer in zip(tensors, answers, strict=True) if not answer]
    error = WorkError(
        f"step {step}: {', '.join(broken[:4])} not finite, so nothing is saved; the last good checkpoint is in "
        f"{run}/checkpoints; lower train.learning_rate and go on from it"
    )
    ranks.raise_everywhere(error if broken else None)


def weights_file(weights: dict[str, Tensor], *, config: Config, manifest_id: str, step: int) -> bytes:
    """A weights file of a run."""
    made_lr = config.data.how_degraded
    info = WeightsInfo(config.model.for_use, made_lr.name, manifest_id, step, made_lr.details)
    return pack_weights(weights, info)


def prepare_folder(
    run: Path, config: Config, state: RunState, log: RunLog, learner: Learner, manifest_id: str
) -> str:
    """Bring a run folder's files to where the run stands; return the W&B id. For the first rank alone."""
    # The first file of a run, which says that those after it are its own.
    wandb_id = runfolder.wandb_id(run, candidate=state.wandb_id or new_id())
    runfolder.clear_stopped(run)
    log.forget_after(state.counts.step)
    every = config.train.log_every
    # With another interval than before nobody knows which rows there should be.
    if "train.log_every" not in (state.changed or {}) and (
        missing := log.missing_rows(state.counts.step, every=every)
    ):
        log.warn(
            f"{run}/metrics.jsonl: {missing} of {state.counts.step // every} rows of training are missing: it was cut or "
            "changed; curves and reports lack them, the training does not"
        )
    write_bytes(run / "config.yaml", dump(config).encode())
    if state.changed is not None:
        # A run that was killed after its checkpoint and before this file would else keep the old one for ever.
        step = state.counts.step
        last = weights_file(learner.weights(), config=config, manifest_id=manifest_id, step=step)
        _write_where_other(run / "last.safetensors", last)
    write_best(state.best, run)
    return wandb_id


def _proof(config: Config, index: ShardIndex, *, step: int) -> EpochProof:
    return EpochProof(index, start=step * config.train.global_batch, patches=config.data.patches_per_image)


def _counts(values: dict[str, Any], *, source: str) -> Counts:
    names = {field.name for field in fields(Counts)}
    if unknown := sorted(values.keys() - names):
        raise UserError(f"{source}: state {unknown[0]} is not known here: written by a newer srdist?")
    return Counts(**values)


def write_best(best: bytes | None, run: Path) -> None:
    """Write best.safetensors, if there is one and it does not stand there already."""
    if best is not None:
        _write_where_other(run / "best.safetensors", best)


def _write_where_other(path: Path, data: bytes) -> None:
    if not path.is_file() or path.read_bytes() != data:
        write_bytes(path, data)
