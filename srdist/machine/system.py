"""Which operating systems srdist runs on. It imports nothing that another one may lack: its line comes before all else."""

from __future__ import annotations

import sys

_OTHERS = {
    "win32": "Windows: install it in WSL 2 (https://learn.microsoft.com/windows/wsl), which is Linux",
    "darwin": "macOS: take a container or a virtual machine with Linux",
}


def refuse_other_systems() -> None:
    """End the process with one line and exit code 2 where this is not Linux: locks, signals and memory are Linux's."""
    if sys.platform != "linux":
        where = _OTHERS.get(sys.platform, f"{sys.platform}: take a container or a virtual machine with Linux")
        print(f"srdist: runs on Linux, and has not been tried on {where}", file=sys.stderr)
        sys.exit(2)
