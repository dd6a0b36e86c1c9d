"""Which rank is this, and what do all ranks hold together: the only file that asks.

Every function is safe in a single process without torch.distributed. Collectives must be reached by every
rank: "am I main?" may guard files and prints, never one of the functions that reduce or broadcast. They run on
CPU tensors over gloo, beside NCCL where the network trains over that, so that none of them waits for a GPU.
"""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from srdist.machine import arithmetic
from srdist.machine.errors import LostPeerError, OwnError, UserError, system_error
from srdist.machine.launcher import Launch
from srdist.machine.stopping import StopRequested

T = TypeVar("T")

_ON_EVERY_RANK = "raised on every rank"


@contextmanager
def process_group(*, peer_timeout_s: int | None = None) -> Iterator[torch.device]:
    """Join the ranks that a launcher started, if one did, for as long as a command runs; yields this rank's device.

    Args:
        peer_timeout_s: seconds that a rank waits for the others; None: torch's 1,800, or 600 with NCCL.

    Raises:
        UserError: the launcher started several processes that would each be the only one.
    """
    from accelerate import PartialState

    arithmetic.set_for_use()
    take_own_gpu()
    prepare_to_join()
    timeout = {} if peer_timeout_s is None else {"timeout": timedelta(seconds=peer_timeout_s)}
    state = PartialState(cpu=computes_on_cpu(), **timeout)
    check_world(state.num_processes)
    threads = torch.get_num_threads()
    torch.set_num_threads(Launch.of(os.environ).cpus)  # torch's own number is of the host's cores
    try:
        with own_errors_named():
            # Apple's devices have no float64, in which the scores are summed.
            yield torch.device("cpu") if state.device.type == "mps" else state.device
    finally:
        torch.set_num_threads(threads)
        part()


def prepare_to_join() -> None:
    """Call before the process group is made, so that it is gone when the ranks part, and has its sockets while it lasts."""
    if Launch.of(os.environ).joins:
        _allow_all_files()
        # Its functions keep the group that is there when it is first imported, as DDP does, for ever as their default.
        import torch.distributed.nn.functional  # noqa: F401


def _allow_all_files() -> None:
    # Each rank has a connection to every other one, in each group; the usual limit is 1,024 files.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def part() -> None:
    """Leave the process group, if there is one; its threads have ended when this returns.

    One that still runs when the interpreter ends now and then takes the process down with SIGABRT. The group ends with
    its last user: whoever calls this has let go of what is under DDP.
    """
    if joined():
        _control_group.cache_clear()
        gc.collect()  # DDP's modules are in circles
        dist.destroy_process_group()


def computes_on_cpu() -> bool:
    """Whether there is no accelerator, or ACCELERATE_USE_CPU asks to leave it alone."""
    return not torch.accelerator.is_available() or Launch.of(os.environ).on_cpu


def take_own_gpu() -> None:
    """Let accelerate take this process's GPU where its launcher leaves no LOCAL_RANK: else all are on the first one."""
    launch = Launch.of(os.environ)
    launch.pass_on(os.environ)
    if not launch.joins and not computes_on_cpu() and torch.cuda.is_available():
        number = launch.gpu(torch.cuda.device_count())
        torch.cuda.set_device(number)
        os.environ.setdefault("ACCELERATE_TORCH_DEVICE", f"cuda:{number}")


def check_world(joined: int) -> None:
    """Refuse to work with `joined` ranks where the launcher started another number of processes.

    Without this each process would work for itself, and all would write the same files.
    """
    launched = _launched()[1]
    if joined != launched:
        raise UserError(
            f"the launcher started {launched} processes but {joined} found each other; "
            "on a machine without GPUs set ACCELERATE_USE_CPU=true"
        )


@contextmanager
def own_errors_named() -> Iterator[None]:
    """Let each rank tell what it alone has met: its own errors, and the loss of another rank.

    What all ranks raise alike (`together`, `main_first`, `raise_everywhere`) is left to the first rank to tell.

    Raises:
        OwnError: this rank met an error of which the others do not know.
        LostPeerError: the connection to another rank is gone, by what gloo and NCCL say of it.
    """
    try:
        yield
    except (UserError, OSError) as error:
        left_to_the_first = isinstance(error, OwnError) or _ON_EVERY_RANK in getattr(error, "__notes__", ())
        # Before the ranks have joined, what is wrong is wrong on all of them.
        alone = not joined() or dist.get_world_size() == 1
        if left_to_the_first or alone or (isinstance(error, OSError) and error.errno is None):
            raise
        text = system_error(error) if isinstance(error, OSError) else str(error)
        own = OwnError(f"rank {rank()}: {text}")
        own.exit_code = error.exit_code if isinstance(error, UserError) else own.exit_code
        raise own from error
    except RuntimeError as error:
        text = str(error)
        if isinstance(error, dist.DistError) or "gloo" in text or "NCCL" in text:
            raise LostPeerError(
                f"rank {rank()} lost another rank ({text.splitlines()[0][:120]}); see what that one said last; "
                "the same command goes on from the newest checkpoint"
            ) from error
        raise


def rank() -> int:
    """This process's rank, 0 to world()-1."""
    return dist.get_rank() if joined() else _launched()[0]


def world() -> int:
    """Number of ranks of this run."""
    return dist.get_world_size() if joined() else _launched()[1]


def is_main() -> bool:
    """Whether this rank prints and writes the run's files."""
    return rank() == 0


def gather(values: Tensor) -> Tensor:
    """The CPU tensors `values` of all ranks, [world, *shape], in rank order, on every rank."""
    if not joined():
        return values.unsqueeze(0)
    parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, values.contiguous(), group=_control_group())
    return torch.stack(parts)


def gather_items(items: list[T]) -> list[T]:
    """The items (anything that pickles) of all ranks in one list, in rank order, on every rank."""
    if not joined():
        return list(items)
    lists: list[list[T]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(lists, items, group=_control_group())
    return [item for part in lists for item in part]


def reduce_sums(values: Tensor) -> Tensor:
    """Sum the small CPU tensors `values` over all ranks; each rank gets the sum. int64 wraps modulo 2**64.

    Added in rank order, so that a sum of floats is the same bits however the vector was cut: gloo's own
    reduction adds in an order that depends on the length.
    """
    return gather(values).sum(0)


def any_rank(*flags: bool) -> list[bool]:
    """For each flag, whether it is set on at least one rank: so that all ranks take the same branch."""
    return [bool(count) for count in reduce_sums(torch.tensor(flags, dtype=torch.int64))]


def any_rank_soon(*flags: bool) -> Callable[[], list[bool]]:
    """As any_rank, without waiting for the other ranks: what is returned waits, and gives the answer.

    Every rank asks for the answer before the next collective that is to come after it.
    """
    if not joined():
        return lambda: list(flags)
    values = torch.tensor(flags, dtype=torch.int64)
    parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    work = dist.all_gather(parts, values, group=_control_group(), async_op=True)

    def answer() -> list[bool]:
        work.wait()
        return [bool(count) for count in torch.stack(parts).sum(0)]

    return answer


def broadcast(value: T) -> T:
    """Rank 0's `value` (anything that pickles), on every rank."""
    if not joined():
        return value
    box: list[T | None] = [value if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(box, src=0, group=_control_group())
    return cast(T, box[0])


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
        raise _noted(failure)
    return cast(T, result)


def together(work: Callable[[], T]) -> T:
    """Run `work`, in which no rank waits for another, on every rank; what one of them meets is raised on all."""
    result: T | None = None
    failure: Exception | None = None
    try:
        result = work()
    except (UserError, OSError, StopRequested) as error:
        failure = error
    raise_everywhere(failure)
    return cast(T, result)


def held(work: Callable[[], T]) -> Callable[[], T]:
    """Run `work` now, as long as the ranks have not found each other; what is returned gives its result, or raises what it met.

    For `together`, afterwards: all ranks then raise alike, where one that ended at once would be waited for.
    """
    try:
        result = work()
    except (UserError, OSError, StopRequested) as error:
        failure = error

        def fails() -> T:
            raise failure

        return fails
    return lambda: result


def raise_everywhere(error: Exception | None) -> None:
    """Raise the lowest failed rank's `error` on every rank; nothing where no rank has one."""
    if not joined():
        errors = [error]
    else:
        errors = [None] * dist.get_world_size()
        dist.all_gather_object(errors, error, group=_control_group())
    for one in errors:
        if one is not None:
            raise _noted(one)


def _noted(error: Exception) -> Exception:
    error.add_note(_ON_EVERY_RANK)
    return error


def _launched() -> tuple[int, int]:
    """Rank and number of the ranks that are to find each other, before they have."""
    launch = Launch.of(os.environ)
    return (launch.rank, launch.world) if launch.joins else (0, 1)


def joined() -> bool:
    """Whether the ranks have found each other; in a single process they never do."""
    return dist.is_available() and dist.is_initialized()


@cache
def _control_group() -> dist.ProcessGroup | None:
    # None is the default group. Made on first use, inside a collective, so every rank makes it together.
    return None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")
