"""The machine under a run: Accelerate's process group, threads, memory, and the facts that explain a number."""

from __future__ import annotations

import os
import platform
import resource
import warnings
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.state import AcceleratorState

from srdist import __version__
from srdist.machine import arithmetic, ranks
from srdist.machine.cores import usable_cores
from srdist.machine.errors import UserError
from srdist.machine.launcher import Launch
from srdist.machine.ranks import computes_on_cpu


def open_accelerator(*, precision: str, deterministic: bool, peer_timeout_s: int) -> Accelerator:
    """Join the ranks that the launcher started: DDP over NCCL on GPUs, over gloo on CPUs.

    Args:
        precision: fp32, tf32, bf16 or fp16.
        deterministic: whether only algorithms are taken that give the same bits each time.
        peer_timeout_s: seconds that a rank waits for the others before the run ends with an error.

    Raises:
        UserError: fp16 or tf32 on a CPU, or a launcher whose processes do not find each other.
    """
    on_cpu = ranks.computes_on_cpu()
    if precision in ("fp16", "tf32") and on_cpu:
        raise UserError(
            f"train.precision: {precision} needs a GPU (a CPU would silently compute in fp32); take bf16 or fp32"
        )
    arithmetic.set_for_training(tf32=precision == "tf32", deterministic=deterministic)
    ranks.take_own_gpu()
    ranks.prepare_to_join()
    # Said of filters of side 1 or of one input channel, whose strides mean nothing.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    # Accelerate keeps the precision of a process's first Accelerator, and refuses a second one with another.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        cpu=on_cpu,
        mixed_precision=mixed_precision(precision),
        kwargs_handlers=[
            # Accelerate passes on what differs from its own default of 600 s: torch's is 1,800.
            InitProcessGroupKwargs(timeout=timedelta(seconds=peer_timeout_s, milliseconds=1)),
            # One copy of the gradients instead of two.
            DistributedDataParallelKwargs(gradient_as_bucket_view=True),
        ],
    )
    ranks.check_world(accelerator.num_processes)
    return accelerator


def mixed_precision(precision: str) -> str:
    """What Accelerate calls a precision: "no" where all is of 32 bits."""
    return "no" if precision in ("fp32", "tf32") else precision


def configure_threads(threads: int | None) -> int:
    """Set torch's CPU threads of this rank; None shares the usable cores out among the ranks of this machine."""
    count = threads or Launch.of(os.environ).cpus
    torch.set_num_threads(count)
    return count


def split_batch(global_batch: int, *, world: int, rank_batch: int | None) -> tuple[int, int]:
    """Images per rank and forward pass, and forward passes per step.

    Raises:
        UserError: the global batch cannot be shared out; the message has the nearest that can.
    """
    unit = world * (rank_batch or 1)
    if global_batch % unit:
        lower, upper = global_batch // unit * unit, -(-global_batch // unit) * unit
        nearest = upper if lower == 0 or upper - global_batch < global_batch - lower else lower
        shared = f"{world} ranks" + (f" x rank_batch {rank_batch}" if rank_batch else "")
        raise UserError(
            f"train.global_batch: {global_batch} cannot be shared out over {shared}; the nearest that can is {nearest}"
        )
    per_rank = global_batch // world
    return (rank_batch or per_rank), per_rank // (rank_batch or per_rank)


def memory_mb(device: torch.device) -> float:
    """Most memory used so far, in MB: of the device on a GPU, of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    # ru_maxrss is in KiB on Linux and in bytes on macOS.
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def environment(device: torch.device) -> dict[str, Any]:
    """What a reader of the numbers needs to know of this machine."""
    import accelerate

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    return {
        "srdist": __version__,
        "torch": torch.__version__,
        "accelerate": accelerate.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": str(device.type),
        "device_name": name,
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
    }


def cpu_name() -> str:
    """Model of this machine's processor, as its maker calls it."""
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123 (no pathlib for a kernel file)
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def pick_device(launch: Launch) -> torch.device:
    """This process's own GPU, or the CPU, to use a network on."""
    arithmetic.set_for_use()
    if not computes_on_cpu() and torch.cuda.is_available():
        return torch.device("cuda", launch.gpu(torch.cuda.device_count()))
    return torch.device("cpu")
