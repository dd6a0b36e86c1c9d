"""The labs of launch/lab for tests: hosts, and a Slurm cluster, that live in namespaces as long as a `with` block."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil
import pytest

from benchmarks.processes import kill_tree
from tests.conftest import ROOT, clean_environment

SCRIPTS = ROOT / "launch" / "lab"
UP_S = 120.0
"""Time that a lab may take to come up, and to end."""
SLURM = ("slurmctld", "slurmd", "sbatch", "munged", "mungekey")


@dataclass(frozen=True)
class Lab:
    """A lab that is up; every wait in it has a limit."""

    folder: Path
    """Its files: logs, and `h0.pid` and so on, as its own processes see them."""
    env: dict[str, str]

    def start(
        self,
        *command: str | Path,
        host: str | None = None,
        cwd: Path = ROOT,
        env: dict[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """A command on one of the hosts, or beside them; the end of the lab ends it."""
        on = str(SCRIPTS / "on.sh")
        there = [on, "lab", *([on, host] if host else [])]
        return subprocess.Popen(
            [*there, *map(str, command)],
            cwd=cwd,
            env=self.env | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(
        self,
        *command: str | Path,
        host: str | None = None,
        cwd: Path = ROOT,
        env: dict[str, str] | None = None,
        timeout_s: float = 120,
    ) -> str:
        """Run a command to its end, which must be a good one; what it printed."""
        process = self.start(*command, host=host, cwd=cwd, env=env)
        try:
            said, _ = process.communicate(timeout=timeout_s)
        finally:
            kill_tree(process)
        assert process.returncode == 0, f"{command}: exit code {process.returncode}\n{said}"
        return said


@cache
def missing(*programs: str) -> str | None:
    """Why there can be no lab here; None where there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "namespaces need Linux, and to be root"
    for program in ("ip", "unshare", "nsenter", "setpriv", *programs):
        if shutil.which(program, path=_path()) is None:
            return f"no {program} here: launch/README.md says what the labs need"
    try:
        subprocess.run(
            [
                "unshare",
                "--pid",
                "--fork",
                "--mount",
                "--net",
                "--uts",
                "--ipc",
                "mount",
                "-t",
                "proc",
                "proc",
                "/proc",
            ],
            capture_output=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return "namespaces cannot be made here"
    return None


@contextmanager
def hosts(folder: Path, count: int = 2) -> Iterator[Lab]:
    """The hosts h0 to h(count - 1), of launch/lab/hosts.sh."""
    yield from _up(folder, missing(), [str(SCRIPTS / "hosts.sh"), str(count), "cat"], "hosts-are-up", {})


@contextmanager
def slurm(folder: Path, **settings: str) -> Iterator[Lab]:
    """A Slurm cluster on the hosts h0 and h1, of launch/lab/slurm.sh; the settings are variables of that script."""
    own = settings | {"SLURM_CONF": str(folder / "slurm.conf")}
    yield from _up(folder, missing(*SLURM), [str(SCRIPTS / "slurm.sh"), "cat"], "slurm-is-up", own)


def _up(
    folder: Path, why_not: str | None, command: list[str], sign: str, more: dict[str, str]
) -> Iterator[Lab]:
    if why_not:
        pytest.skip(why_not)
    env = clean_environment() | {"ACCELERATE_USE_CPU": "true", "LAB": str(folder), "PATH": _path()} | more
    # It ends when its standard input does: also where this process is killed.
    lab = subprocess.Popen(
        command,
        cwd=ROOT,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until((folder / sign).exists, "the lab", timeout_s=UP_S, process=lab)
        yield Lab(folder, env)
        _, said = lab.communicate(timeout=UP_S)
        assert lab.returncode == 0, said
    finally:
        kill_tree(lab)


def wait_until(
    happened: Callable[[], bool], what: str, *, timeout_s: float, process: subprocess.Popen[str] | None = None
) -> None:
    """Wait for it, as long as the process lives that is to do it."""
    end = time.monotonic() + timeout_s
    while not happened():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"{what}: ended before, with {process.returncode}\n{process.communicate()}")
        assert time.monotonic() < end, f"{what}: waited in vain for {timeout_s} s"
        time.sleep(0.05)


def command_of(process: psutil.Process) -> list[str]:
    """A process's command line, empty where it has just ended."""
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def _path() -> str:
    """This environment's programs first, as after `source .venv/bin/activate`; Debian's daemons lie in sbin."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
