"""Checkpoints of a run: folders that are whole and verified, or skipped.

`checkpoints/step-00001000/` holds model.safetensors, optimizer.safetensors, best.safetensors (the best weights
so far, where there are any), trainer.json (everything else, as plain values) and manifest.json (size and sha256
of the others, written last). A folder is written under a temporary name, synced and renamed; what replaces a
folder of the same step first moves that one to `step-00001000.replaced`, which counts as a checkpoint too, so
that at every moment the newest good state can be found.

No random generator is saved: all randomness is a function of (seed, epoch, sample id).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from srdist.machine.errors import WorkError
from srdist.machine.files import named_in_errors, sync
from srdist.machine.plainjson import parse_json

FORMAT = 1
_FOLDER = re.compile(r"step-(\d{8,})(\.replaced)?")


class DamagedCheckpointError(WorkError):
    """A checkpoint folder that does not verify; the message says what is wrong with which file."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint folder holds."""

    model: dict[str, Tensor]
    """Weights by their state-dict name, and `ema.NAME` for the running average where there is one."""
    optimizer: dict[str, Tensor]
    """Optimizer state by parameter: `conv1.weight/exp_avg`."""
    trainer: dict[str, Any]
    """Step, samples seen, best score and the like: JSON values."""
    best: bytes | None
    """The bytes of best.safetensors."""


def write(folder: Path, checkpoint: Checkpoint, *, step: int) -> Path:
    """Write `step-{step}` under `folder` (the run's checkpoints folder), whole or not at all; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{step:08d}"
    temporary = folder / f".{target.name}.{os.getpid()}.tmp"
    files = {
        "model.safetensors": save(checkpoint.model),
        "optimizer.safetensors": save(checkpoint.optimizer),
        "trainer.json": json.dumps(checkpoint.trainer, indent=2, allow_nan=False).encode(),
    }
    if checkpoint.best is not None:
        files["best.safetensors"] = checkpoint.best
    manifest = {
        "format": FORMAT,
        "step": step,
        "files": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()
        },
    }
    try:
        with named_in_errors(target):
            temporary.mkdir()
            for name, data in files.items():
                _write_synced(temporary / name, data)
            _write_synced(temporary / "manifest.json", json.dumps(manifest, indent=2).encode())
            sync(temporary)
            _publish(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def read(folder: Path) -> Checkpoint:
    """Read one `step-*` folder after checking every file against its manifest.

    Raises:
        DamagedCheckpointError: a file is missing, cannot be read, is of another size or hash, or cannot be parsed.
    """
    try:
        manifest = parse_json((folder / "manifest.json").read_bytes())
        if manifest["format"] != FORMAT:
            raise DamagedCheckpointError(f"{folder}: format {manifest['format']}, expected {FORMAT}")
        listed = manifest["files"]
        files = {name: (folder / name).read_bytes() for name in listed}
        for name, data in files.items():
            if (
                len(data) != listed[name]["bytes"]
                or hashlib.sha256(data).hexdigest() != listed[name]["sha256"]
            ):
                raise DamagedCheckpointError(f"{folder / name}: differs from what manifest.json says")
        return Checkpoint(
            model=load(files["model.safetensors"]),
            optimizer=load(files["optimizer.safetensors"]),
            trainer=parse_json(files["trainer.json"]),
            best=files.get("best.safetensors"),
        )
    except FileNotFoundError as error:
        raise DamagedCheckpointError(f"{error.filename}: missing") from error
    except OSError as error:
        raise DamagedCheckpointError(f"{error.filename or folder}: {error.strerror or error}") from error
    except DamagedCheckpointError:
        raise
    # ValueError: no JSON, no UTF-8, a file name with a zero byte.
    except (KeyError, TypeError, AttributeError, ValueError, SafetensorError) as error:
        raise DamagedCheckpointError(f"{folder}: cannot be parsed: {error!r}") from error


def any_in(folder: Path) -> bool:
    """Whether there is a checkpoint under `folder`, damaged or not."""
    return bool(_folders(folder))


def newest(folder: Path) -> tuple[Path, Checkpoint, list[str]] | None:
    """The newest checkpoint under `folder` that verifies, and why newer ones were skipped.

    None where there is no checkpoint at all.

    Raises:
        DamagedCheckpointError: there are checkpoints, but none verifies.
    """
    passed_over: list[str] = []
    for candidate in reversed(_folders(folder)):
        try:
            return candidate, read(candidate), passed_over
        except DamagedCheckpointError as error:
            passed_over.append(str(error))
    if passed_over:
        raise DamagedCheckpointError(
            f"{folder}: no checkpoint verifies ({'; '.join(passed_over)}); "
            "restore one, or remove the folder to start anew"
        )
    return None


def prune(folder: Path, *, keep: int, best_step: int | None) -> None:
    """Remove all but the newest `keep` checkpoints and the one of `best_step`, and what crashes left behind."""
    published = {path.name for path in _folders(folder)}
    # A folder moved aside counts until the one that replaces it is there.
    folders = [
        path
        for path in _folders(folder)
        if path.name.removesuffix(".replaced") not in published - {path.name}
    ]
    kept = {path.name for path in folders[-keep:]} | {f"step-{best_step or 0:08d}"}
    for path in folder.iterdir():
        if path.name not in kept and (_FOLDER.fullmatch(path.name) or path.name.startswith(".step-")):
            shutil.rmtree(path, ignore_errors=True)


def _folders(folder: Path) -> list[Path]:
    """Published checkpoint folders, oldest first; of one step the replaced one first."""
    if not folder.is_dir():
        return []
    matches = [
        (match, path)
        for path in folder.iterdir()
        if (match := _FOLDER.fullmatch(path.name)) and path.is_dir()
    ]
    return [path for match, path in sorted(matches, key=lambda pair: (int(pair[0][1]), pair[0][2] is None))]


def _publish(temporary: Path, target: Path) -> None:
    replaced = target.with_name(target.name + ".replaced")
    if target.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        target.rename(replaced)
    temporary.rename(target)
    sync(target.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
