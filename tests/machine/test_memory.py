"""How much memory this process may use, by files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from srdist.machine.memory import usable_memory_mb

NO_LIMIT = "9223372036854771712"
"""As version 1 writes it."""


@pytest.mark.parametrize(
    ("groups", "files", "memory_mb"),
    [
        ("0::/a/b", {"a/b/memory.max": "max", "a/memory.max": "2000000000"}, 2000.0),
        ("0::/", {"memory.max": "8000000000"}, 8000.0),
        ("0::/", {"memory.max": "max"}, 65_536.0),
        ("4:memory:/pod/x", {"memory/memory.limit_in_bytes": "1000000000"}, 1000.0),
        (
            "4:memory:/pod/x",
            {
                "memory/memory.limit_in_bytes": NO_LIMIT,
                "memory/pod/memory.limit_in_bytes": "3000000000",
                "memory/pod/x/memory.limit_in_bytes": NO_LIMIT,
            },
            3000.0,
        ),
        ("4:memory:/", {"memory/memory.limit_in_bytes": NO_LIMIT}, 65_536.0),
    ],
)
def test_the_least_limit_around_this_process_counts_and_the_machine_where_there_is_none(
    tmp_path: Path, groups: str, files: dict[str, str], memory_mb: float
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups + "\n")
    (tmp_path / "proc/meminfo").write_text("MemTotal:       64000000 kB\nMemFree:        1 kB\n")
    for name, text in files.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    assert usable_memory_mb(tmp_path) == memory_mb


def test_nothing_is_claimed_where_the_system_does_not_tell(tmp_path: Path) -> None:
    assert usable_memory_mb(tmp_path) is None
