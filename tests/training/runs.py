"""Training runs as processes, as benchmarks/survival.py starts them too."""

from __future__ import annotations

from benchmarks.runs import BIN, Launch, different_states, kill_tree
from srdist.runs.checkpoint import Checkpoint

__all__ = ["BIN", "Launch", "assert_equal_states", "kill_tree"]


def assert_equal_states(a: Checkpoint, b: Checkpoint) -> None:
    """Weights, optimizer and best weights are the same bits, and so is what the state counts."""
    assert different_states(a, b) == []
