"""How much memory this process may use: what its control group grants, in a container above all, and the machine's."""

from __future__ import annotations

from pathlib import Path

from srdist.machine.controlgroup import granted


def usable_memory_mb(root: Path = Path("/")) -> float | None:
    """Memory in MB (10^6 bytes) that this process and all others of its control group may use together; None: unknown.

    Args:
        root: where proc and sys lie.
    """
    said = granted("memory", version_2="memory.max", version_1=("memory.limit_in_bytes",), root=root)
    # Without a limit: "max", or in version 1 a number far above any machine's memory.
    limits = [int(limit) for (limit,) in said if limit.isdigit()]
    limits += _of_the_machine(root)
    return min(limits) / 1e6 if limits else None


def _of_the_machine(root: Path) -> list[int]:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return []
    return [1024 * int(line.split()[1]) for line in lines if line.startswith("MemTotal:")]
