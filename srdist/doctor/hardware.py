"""What of the machine this process is granted: devices, cores, memory, room for temporary files."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from srdist.machine.cores import usable_cores
from srdist.machine.device import cpu_name
from srdist.machine.memory import usable_memory_mb


@dataclass(frozen=True, slots=True)
class Device:
    """Where a network can run."""

    name: str
    """As torch has it: cpu, cuda:0."""
    model: str
    memory_mb: float | None
    """Of its own; None: that of the machine."""


def devices() -> tuple[Device, ...]:
    """The GPUs that srdist would use, then the CPU."""
    found = []
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(number)
            found.append(Device(f"cuda:{number}", about.name, about.total_memory / 1e6))
    return (*found, Device("cpu", cpu_name(), None))


@dataclass(frozen=True, slots=True)
class Grants:
    """What a container, a batch system or the affinity leaves to this process."""

    cores: int
    cores_of_machine: int
    memory_mb: float | None
    """None: unknown."""
    temporary: str
    """Folder of temporary files."""
    temporary_free_mb: float

    @classmethod
    def here(cls) -> Grants:
        """Of this process."""
        folder = tempfile.gettempdir()
        return cls(
            cores=usable_cores(),
            cores_of_machine=os.cpu_count() or 1,
            memory_mb=usable_memory_mb(),
            temporary=str(Path(folder)),
            temporary_free_mb=shutil.disk_usage(folder).free / 1e6,
        )
