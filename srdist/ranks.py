"""Which rank is this, and what do all ranks hold together: the only file that asks.

Every function is safe in a single process without torch.distributed. Collectives must be reached by every
rank: "am I main?" may guard files and prints, never one of the functions that reduce or broadcast.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from srdist.errors import UserError

T = TypeVar("T")


@contextmanager
def process_group() -> Iterator[torch.device]:
    """Join the ranks that a launcher started, if one did, for as long as a command runs; yields this rank's device.

    Raises:
        UserError: the launcher started several processes that would each be the only one.
    """
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes != started:
        raise UserError(
            f"the launcher started {started} processes, but they are no group (found {state.num_processes} rank): "
            "on a machine without GPUs set ACCELERATE_USE_CPU=true"
        )
    try:
        # Apple's devices have no float64, in which the scores are summed.
        yield torch.device("cpu") if state.device.type == "mps" else state.device
    finally:
        state.destroy_process_group()


def rank() -> int:
    """This process's rank, 0 to world()-1."""
    return dist.get_rank() if _joined() else int(os.environ.get("RANK", "0"))


def world() -> int:
    """Number of ranks of this run."""
    return dist.get_world_size() if _joined() else int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """Rank among the processes of this machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_world() -> int:
    """Number of ranks on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this rank prints and writes the run's files."""
    return rank() == 0


def reduce_sums(values: Tensor) -> Tensor:
    """Sum `values` over all ranks; each rank gets the sum. int64 wraps modulo 2**64."""
    if not _joined():
        return values
    total = values.to(_collective_device(), copy=True)
    dist.all_reduce(total, op=dist.ReduceOp.SUM)
    return total.to(values.device)


def any_rank(flag: bool) -> bool:
    """Whether `flag` is set on at least one rank: a collective, so all ranks take the same branch."""
    return bool(reduce_sums(torch.tensor(int(flag), dtype=torch.int64)).item())


def broadcast(value: T) -> T:
    """Rank 0's `value`, on every rank."""
    if not _joined():
        return value
    box: list[T | None] = [value if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(box, src=0, device=_collective_device())
    return cast(T, box[0])


def gather(values: list[T]) -> list[T]:
    """Every rank's `values`, joined in the order of the ranks, on every rank; a rank may have none."""
    if not _joined():
        return values
    boxes: list[list[T]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(boxes, values)
    return [value for box in boxes for value in box]


def main_first(work: Callable[[], T]) -> T:
    """Run `work` on rank 0 and give its result to every rank; rank 0's exception is raised on every rank."""
    result: T | None = None
    failure: Exception | None = None
    if is_main():
        try:
            result = work()
        except Exception as error:  # handed to the other ranks, which would else wait for ever
            failure = error
    result, failure = broadcast((result, failure))
    if failure is not None:
        raise failure
    return cast(T, result)


def barrier() -> None:
    """Wait until every rank is here."""
    if _joined():
        reduce_sums(torch.zeros(1, dtype=torch.int64))


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def _collective_device() -> torch.device:
    return (
        torch.device("cuda", torch.cuda.current_device())
        if dist.get_backend() == "nccl"
        else torch.device("cpu")
    )
