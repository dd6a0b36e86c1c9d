"""Processes that the benchmarks and the tests start: where, with which environment, and how they are ended."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


def kill_tree(process: subprocess.Popen[str]) -> None:
    """SIGKILL the launcher, its ranks and their workers, all at once (the ranks are in sessions of their own)."""
    if process.poll() is None:
        launcher = psutil.Process(process.pid)
        for one in [launcher, *launcher.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def environment_of(process: psutil.Process) -> dict[str, str]:
    """A process's environment; empty where it has ended since it was listed, or is another user's."""
    with suppress(psutil.Error):
        return process.environ()
    return {}


def command_of(process: psutil.Process) -> list[str]:
    """A process's command line; empty where it has ended since it was listed, or is another user's."""
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def children_of(pid: int) -> list[psutil.Process]:
    """The processes that this one has started and that are there; none where it has ended itself."""
    with suppress(psutil.Error):
        return psutil.Process(pid).children()
    return []


def clean_environment() -> dict[str, str]:
    """This environment without what a launcher or W&B left in it, and without a way out to the network."""
    dropped = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in dropped and not name.startswith(("ACCELERATE_", "WANDB_", "TORCHELASTIC_"))
    }
    return kept | {"OMP_NUM_THREADS": "1"}
