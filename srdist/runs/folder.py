"""A run's folder: one process group at a time, and what may change between a run and its resumption."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srdist.config import Config
from srdist.machine import locks
from srdist.machine.errors import UserError, refuse_url
from srdist.machine.files import write_bytes, write_json

if TYPE_CHECKING:
    from filelock import BaseFileLock

_PATIENCE_S = 5.0
"""A run that was just stopped is still saving: the next one waits this long for the folder."""


class InUseError(UserError):
    """Another process trains in this run folder."""


FROZEN = (
    "model.*",
    "data.train_split",
    "data.hr_patch",
    "data.patches_per_image",
    "data.kernel",
    "data.degradation",
    "data.flips",
    "data.order",
    "data.window_shards",
    "train.seed",
    "train.global_batch",
    "train.loss",
    "train.losses",
    "train.ema_decay",
)
"""Fields that make the run what it is: a resumption that changes one is refused."""
OF_A_RANK = (
    "data.shards",
    "data.workers",
    "train.init_from",
    "train.threads",
    "train.peer_timeout_s",
    "log.wandb",
    "log.project",
)
"""Fields that may differ between the ranks of a run: where things lie on a machine, and how it works."""


def lock(run: Path) -> BaseFileLock:
    """Hold the run folder until the lock is released or this process ends, however it ends.

    Raises:
        InUseError: another process holds it.
        UserError: it is a file, or a FIFO stands in the place of one of its files.
    """
    refuse_url(str(run), "--run is a folder of this machine")
    if run.exists() and not run.is_dir():
        raise UserError(f"{run}: --run is a file, expected a run folder")
    run.mkdir(parents=True, exist_ok=True)
    _refuse_pipes(run)
    path = run / ".lock"
    held = locks.take(path, patience_s=_PATIENCE_S)
    if held is None:
        holder = path.read_text().strip() or "another process"
        raise InUseError(f"{run}: is in use by {holder}; choose another --run, or stop that one first")
    path.write_text(f"process {os.getpid()} on {socket.gethostname()}")
    return held


def _refuse_pipes(run: Path) -> None:
    """A FIFO in the place of the log or of a file of a checkpoint would be waited for, through any signal."""
    for path in sorted(
        [*run.glob("*"), *run.glob(".lock"), *run.glob("checkpoints/*/*"), *run.glob("samples/*")]
    ):
        if path.is_fifo():
            raise UserError(f"{path}: a FIFO, expected a regular file")


def changes(old: Config, new: Config, *, source: Path) -> dict[str, list[Any]]:
    """The fields in which a resumption's config differs, as {field: [old, new]}.

    Raises:
        UserError: a frozen field differs.
    """
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    changed: dict[str, list[Any]] = {}
    for section, fields in after.items():
        for field, value in fields.items():
            if before[section][field] != value:
                name = f"{section}.{field}"
                if name in FROZEN or f"{section}.*" in FROZEN:
                    raise UserError(
                        f"{name}: the run in {source} has {before[section][field]!r}, found {value!r}; "
                        "this field cannot change on resume: choose another --run for a new training"
                    )
                changed[name] = [before[section][field], value]
    return changed


def check_alike(configs: Sequence[Config], manifest_ids: Sequence[str]) -> None:
    """Refuse ranks, told in their order, that would train by other values or on other images than the first one.

    Raises:
        UserError: the first such field, and the rank that has it.
    """
    first = configs[0].model_dump(mode="json")
    for rank, (config, manifest_id) in enumerate(zip(configs, manifest_ids, strict=True)):
        for section, fields in config.model_dump(mode="json").items():
            for field, value in fields.items():
                if f"{section}.{field}" not in OF_A_RANK and first[section][field] != value:
                    raise UserError(
                        f"{section}.{field}: rank {rank} has {value!r}, rank 0 has {first[section][field]!r}: "
                        "all ranks need one config"
                    )
        if manifest_id != manifest_ids[0]:
            raise UserError(
                f"data.shards: rank {rank} has manifest_id {manifest_id[:12]}, rank 0 has {manifest_ids[0][:12]}: "
                "all ranks need the same packed set"
            )


def check_manifest(manifest_id: str, *, trained: str, source: Path) -> None:
    """Refuse to go on with other images than the run was trained on."""
    if manifest_id != trained:
        raise UserError(
            f"data.shards: manifest_id {manifest_id[:12]} differs from {trained[:12]}, which the run in {source} was trained "
            "on; pack the same images again, or choose another --run"
        )


def check_no_weights(run: Path) -> None:
    """Refuse to begin anew over weights: they are saved after their checkpoint, so that was lost or taken away."""
    weights = [name for name in ("best.safetensors", "last.safetensors") if (run / name).exists()]
    if weights:
        raise UserError(
            f"{run}: holds {' and '.join(weights)} but no checkpoint, and a new training would overwrite "
            "them: put checkpoints/ back, choose another --run (train.init_from starts from weights), or "
            "remove the folder"
        )


def check_own_files(run: Path) -> None:
    """Refuse to begin anew over files of another hand: wandb_id.txt is the first file that a training writes."""
    foreign = [name for name in ("config.yaml", "metrics.jsonl") if os.path.lexists(run / name)]
    if foreign and not (run / "wandb_id.txt").exists():
        raise UserError(
            f"{run}: holds {' and '.join(foreign)} that no training wrote (there is no wandb_id.txt), and a new one "
            "would overwrite them: choose another --run, or move them away"
        )


def mark_stopped(run: Path, *, reason: str, step: int) -> None:
    """Leave STOPPED, for scripts that cannot see our exit code through a launcher; take the STOP file away."""
    write_json(run / "STOPPED", {"reason": reason, "step": step})
    (run / "STOP").unlink(missing_ok=True)


def wandb_id(run: Path, *, candidate: str) -> str:
    """The run's W&B id: the one in wandb_id.txt, else `candidate`, which is written there."""
    path = run / "wandb_id.txt"
    if path.is_file() and (run_id := path.read_text(errors="replace").strip()):
        return run_id
    write_bytes(path, f"{candidate}\n".encode())
    return candidate


def clear_stopped(run: Path) -> None:
    """Take STOPPED and a forgotten STOP away: the run goes on."""
    for name in ("STOPPED", "STOP"):
        (run / name).unlink(missing_ok=True)
