"""A connection to a Ray cluster, and what each process that Ray starts for us gets of it; ray is imported when it is asked for."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from srdist.machine.errors import UserError

KNOCK_S = 10.0
"""Time for the head node to take a connection."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The processes that Ray is asked for, and the share of the cluster of each; a node may hold several."""

    workers: int
    cpus: int
    """Of each: as many threads compute."""
    gpus: float
    """Of each, 0 to 1; with less than 1 several share a GPU."""

    def __str__(self) -> str:
        return f"{self.workers} x {self.cpus} CPUs" + (f" and {self.gpus:g} GPU" if self.gpus else "")


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Be a driver of a Ray cluster; all that this process started there ends with it.

    Args:
        address: host:port, auto (RAY_ADDRESS, else the cluster that was started on this machine) or local (a new one,
            of this machine alone, that ends with this process).

    Raises:
        UserError: ray is not installed, or no cluster of its version answers.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("ray is not installed: pip install 'srdist[ray]'") from error
    # Else it reports home.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or address
    try:
        _knock(address)
        ray.init(address=address, logging_level=logging.WARNING)
    except (OSError, RuntimeError, ValueError) as error:  # a ConnectionError where there is none for auto
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"--address {address}: no Ray cluster could be joined ({said}); on the first machine: ray start --head, "
            "on the others: ray start --address HOST:6379"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Find out whether anybody listens there: Ray tries for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()


def go_to(folder: str) -> None:
    """Make the driver's folder the current one, so that relative paths mean the same here.

    Raises:
        UserError: this node does not have it.
    """
    try:
        os.chdir(folder)
    except OSError as error:
        raise UserError(
            f"{folder}: is not there on node {socket.gethostname()}; all nodes must share the folder of the call"
        ) from error


def here() -> str:
    """The current folder, for `go_to`."""
    return str(Path.cwd())
