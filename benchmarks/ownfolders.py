"""Folders of a benchmark's own: nothing of it lands in the machine's temporary directory or in a user's caches."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

TEMPORARY = ("TMPDIR", "TEMP", "TMP")
CACHES = (
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "MPLCONFIGDIR",
    # torch
    "TORCH_HOME",
    "TORCHINDUCTOR_CACHE_DIR",
    "TRITON_CACHE_DIR",
    # datasets and its hub; the first does not move those that a user has named
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_DATASETS_CACHE",
    "HF_MODULES_CACHE",
    "HF_ASSETS_CACHE",
    "HF_XET_CACHE",
    # litdata: empties the folder `data` of the temporary directory, whoever's files are in it, without the last one
    "DATA_OPTIMIZER_CACHE_FOLDER",
    "DATA_OPTIMIZER_DATA_CACHE_FOLDER",
    # webdataset
    "WDS_CACHE",
    # W&B
    "WANDB_DIR",
    "WANDB_CACHE_DIR",
    "WANDB_CONFIG_DIR",
    "WANDB_DATA_DIR",
    "WANDB_ARTIFACT_DIR",
)
"""Where the contestants, and what they stand on, put what they keep, and what they clean."""


def own_folders(folder: Path, *, home: bool = True) -> dict[str, str]:
    """Variables that give a process a temporary directory, caches and, if asked, a home in `folder`, and none beside it."""
    # Numbers, not names: multiprocessing's sockets lie in TMPDIR, and a path to one may have 107 characters.
    names = (*CACHES, *(("HOME",) if home else ()))
    own = dict.fromkeys(TEMPORARY, folder / "0") | {name: folder / str(n) for n, name in enumerate(names, 1)}
    for path in own.values():
        path.mkdir(parents=True, exist_ok=True)
    return {variable: str(path) for variable, path in own.items()}


@contextmanager
def working_folder() -> Iterator[Path]:
    """A folder for what a benchmark writes; until it goes at the end, this process and those that it starts keep to it.

    It goes on SIGTERM as well. HOME stays: git and ssh look there, and read only.
    """
    before = signal.signal(signal.SIGTERM, _end)
    try:
        with tempfile.TemporaryDirectory(prefix="srdist-") as name:
            own = own_folders(Path(name) / "own", home=False)
            found = {variable: os.environ.get(variable) for variable in own}
            os.environ.update(own)
            tempfile.tempdir = own["TMPDIR"]
            try:
                yield Path(name)
            finally:
                tempfile.tempdir = None
                for variable, value in found.items():
                    os.environ.pop(variable)
                    if value is not None:
                        os.environ[variable] = value
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
