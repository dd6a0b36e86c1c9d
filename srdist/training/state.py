"""Keeping a run: its state taken over from its folder and saved there, the same on every rank.

Apart from the loop, since it is what a resumption and the loop must agree on.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import asdict, dataclass
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
from srdist.shards.reader import ShardIndex
from srdist.stream.proof import EpochProof
from srdist.training.learner import Learner
from srdist.training.stepvalues import Trace


@dataclass(slots=True)
class TrainState:
    """Where the run stands: plain values, the same on every rank, stored in trainer.json."""

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


class Keeper:
    """The state of the run in folder `run`, and its way to the disk and back.

    Every method is a collective. Files are written by the first rank; its failure is raised on all.
    """

    def __init__(
        self, config: Config, *, run: Path, learner: Learner, index: ShardIndex, log: RunLog
    ) -> None:
        self.config, self.run, self.learner, self.index, self.log = config, run, learner, index, log
        self.state, self.trace = TrainState(), Trace()
        self.best: bytes | None = None
        """best.safetensors, as bytes."""
        self.wandb_id = ""
        self.proof = EpochProof(index, start=0)

    @property
    def samples_seen(self) -> int:
        """The stream's position: the whole state of the loader."""
        return self.state.step * self.config.train.global_batch

    def take_over(self) -> dict[str, list[Any]] | None:
        """Go on where the folder stands; the changed fields as {field: [old, new]}, or None for a new run.

        Raises:
            UserError: the network, the images, the seed or the like differ from the run's, or only its
                checkpoints are gone.
            DamagedCheckpointError: there are checkpoints, but none verifies.
        """
        found = ranks.main_first(lambda: checkpoint.newest(self.run / "checkpoints"))
        if found is None:
            ranks.main_first(self._refuse_a_start_over_weights)
            self.wandb_id = ranks.main_first(lambda: self._prepare_folder(None))
            return None
        path, saved, passed_over = found
        for problem in passed_over:
            self.log.warn(f"checkpoint passed over: {problem}")
        old = parse(saved.trainer["config"], source=f"{path}/trainer.json")
        changed = runfolder.changes(old, self.config, source=self.run)
        runfolder.check_manifest(
            self.index.manifest_id, trained=saved.trainer["manifest_id"], source=self.run
        )
        self.learner.load_state(saved.model, saved.optimizer)
        self.state = TrainState(**saved.trainer["state"])
        self.trace.restore(saved.trainer["trace"])
        self.best = saved.best
        self.proof = EpochProof(self.index, start=self.samples_seen)
        open_sums = torch.tensor(saved.trainer["proof"], dtype=torch.int64)
        self.proof.restore(open_sums if ranks.is_main() else torch.zeros_like(open_sums))
        self.wandb_id = ranks.main_first(lambda: self._prepare_folder(saved.trainer["wandb_id"]))
        return changed

    def save(self) -> None:
        """Write a checkpoint, last.safetensors and best.safetensors, each whole."""
        open_sums = ranks.reduce_sums(self.proof.open_sums()).tolist()
        model, optimizer = self.learner.state()
        self._refuse_not_finite(model | optimizer)
        trainer: dict[str, Any] = {
            "state": asdict(self.state),
            "samples_seen": self.samples_seen,
            "proof": open_sums,
            "trace": self.trace.dump(),
            "config": self.config.model_dump(mode="json"),
            "manifest_id": self.index.manifest_id,
            "world": ranks.world(),
            "wandb_id": self.wandb_id,
        }
        content = checkpoint.Checkpoint(model=model, optimizer=optimizer, trainer=trainer, best=self.best)
        last = self.pack(self.learner.weights())

        def write() -> None:
            folder = self.run / "checkpoints"
            checkpoint.write(folder, content, step=self.state.step)
            write_bytes(self.run / "last.safetensors", last)
            self._write_best()
            checkpoint.prune(folder, keep=self.config.train.keep_checkpoints, best_step=self.state.best_step)

        ranks.main_first(write)

    def note_score(self, weights: dict[str, Tensor], psnr_y_db: float) -> bool:
        """Keep `weights` if their score is the best so far; whether it is. A score that is not finite never is."""
        state = self.state
        state.validated_step = state.step
        best = -math.inf if state.best_psnr_y_db is None else state.best_psnr_y_db
        if not (math.isfinite(psnr_y_db) and psnr_y_db > best):
            return False
        self._refuse_not_finite(weights)
        state.best_psnr_y_db, state.best_step = psnr_y_db, state.step
        self.best = self.pack(weights)
        return True

    def pack(self, weights: dict[str, Tensor]) -> bytes:
        """A weights file of this run at this step."""
        info = WeightsInfo(
            self.config.model, self.config.data.kernel, self.index.manifest_id, self.state.step
        )
        return pack_weights(weights, info)

    def _refuse_not_finite(self, tensors: dict[str, Tensor]) -> None:
        """Never write what no run can go on from: the good files of before stay. A collective."""
        broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
        error = WorkError(
            f"step {self.state.step}: {', '.join(broken[:4])} not finite, so nothing is saved; the last good "
            f"checkpoint is in {self.run}/checkpoints; lower train.learning_rate and go on from it"
        )
        # Buffers may differ between ranks.
        ranks.raise_everywhere(error if broken else None)

    def _refuse_a_start_over_weights(self) -> None:
        """Weights are saved after their checkpoint: where there are some without one, it was lost or taken away."""
        found = [name for name in ("best.safetensors", "last.safetensors") if (self.run / name).exists()]
        if found:
            raise UserError(
                f"{self.run}: holds {' and '.join(found)} but no checkpoint, and a new training would overwrite "
                "them: put checkpoints/ back, choose another --run (train.init_from starts from weights), or "
                "remove the folder"
            )

    def _prepare_folder(self, known_id: str | None) -> str:
        """Bring the folder's files to where the run stands; return the W&B id."""
        runfolder.clear_stopped(self.run)
        self.log.forget_after(self.state.step)
        write_bytes(self.run / "config.yaml", dump(self.config).encode())
        self._write_best()
        return runfolder.wandb_id(self.run, candidate=known_id or secrets.token_hex(4))

    def _write_best(self) -> None:
        if self.best is not None:
            write_bytes(self.run / "best.safetensors", self.best)
