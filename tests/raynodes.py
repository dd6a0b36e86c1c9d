"""A Ray cluster on this machine whose nodes can be lost: each a `ray start`, with a raylet and workers of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.processes import command_of
from tests.conftest import ROOT, clean_environment

START_S = 400.0
"""Time for a node to start, at most: Ray takes ten seconds on an idle machine."""


class RayNodes:
    """A context manager: nodes of one CPU each. On leaving, all of their processes are killed."""

    def __init__(self) -> None:
        # Not in the test's own folder: the names of Ray's sockets are long, and a name may have 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self._nodes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> RayNodes:
        return self

    def __exit__(self, *_: object) -> None:
        for node in self._nodes:
            self.lose(node)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        """Of the nodes and of what is run on them."""
        # A busy machine is no failure: Ray gives a node 30 s to start, and takes one that is slow to answer for dead.
        patience = {
            "RAY_raylet_start_wait_time_s": "180",
            "RAY_worker_register_timeout_seconds": "180",
            "RAY_health_check_failure_threshold": "60",
        }
        return (
            clean_environment() | patience | {"RAY_TMPDIR": str(self.folder), "RAY_USAGE_STATS_ENABLED": "0"}
        )

    def at_least(self, count: int) -> None:
        """Have so many nodes: those that are not there are started, the first one of all as the head."""
        while len(self._living()) < count:
            # One after the other: two that start at once may take the same names for their sockets.
            self._start()

    def lose_one_with(self, actor: str) -> None:
        """Lose a node other than the head that an actor of this class works on."""
        for node in self._living()[1:]:
            for process in psutil.Process(node.pid).children(recursive=True):
                if command_of(process)[:1] and command_of(process)[0].startswith(f"ray::{actor}"):
                    self.lose(node)
                    return
        raise AssertionError(f"no node but the head has a {actor}")

    def _living(self) -> list[subprocess.Popen[bytes]]:
        return [node for node in self._nodes if node.poll() is None]

    def _start(self) -> None:
        where = ["--address", self.address]
        if not self._nodes:
            where = ["--head", "--port", self.address.rpartition(":")[2], "--include-dashboard=false"]
        log = self.folder / f"node{len(self._nodes)}.log"
        sizes = ["--num-cpus", "1", "--object-store-memory", "80000000"]
        with log.open("wb") as file:
            node = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", "start", *where, *sizes, "--block"],
                cwd=ROOT,
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._nodes.append(node)
        until = time.monotonic() + START_S
        while b"Ray runtime started" not in log.read_bytes():
            assert node.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)

    def lose(self, node: subprocess.Popen[bytes]) -> None:
        """Kill all processes of a node at once, as if its machine had lost power."""
        if node.poll() is not None:
            return
        processes = [psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)]
        for process in processes:
            if process.is_running():
                process.kill()
        psutil.wait_procs(processes[1:], timeout=10)
        node.wait(10)

    def command(self, *arguments: str | Path) -> list[str]:
        """A call of srdist ray on these nodes, with two workers."""
        return [
            *(sys.executable, "-m", "srdist", "ray", "--address", self.address, "--workers", "2"),
            *map(str, arguments),
        ]
