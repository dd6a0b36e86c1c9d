"""What ranks hold together: values, and the errors that one of them meets."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch.multiprocessing.spawn import spawn

from srdist.machine import ranks
from srdist.machine.errors import OwnError, UserError, WorkError
from srdist.quality.scores import PairLike, baselines, score_pairs


def _raised_by(work: Callable[[], object]) -> str:
    """What a rank would end with, as `kind: message`."""
    try:
        with ranks.own_errors_named():
            work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def _only_rank_1(error: Exception) -> None:
    if ranks.rank() == 1:
        raise error


def _damaged_pairs() -> Iterator[PairLike]:
    _only_rank_1(WorkError("train-00000.tar: sample b at offset 512: not a JPEG"))
    yield from ()


def _asked_ahead(rank: int) -> list[bool]:
    answer = ranks.any_rank_soon(rank == 0, False)
    # What comes in between does not get mixed up with it.
    assert ranks.any_rank(rank == 1, True) == [True, True]
    return answer()


def _a_rank(rank: int, world: int, port: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    cpu = torch.device("cpu")
    told = [
        _raised_by(lambda: ranks.together(lambda: _only_rank_1(UserError("set: no such folder")))),
        _raised_by(lambda: ranks.together(lambda: _only_rank_1(OSError(5, "Input/output error", "a.tar")))),
        _raised_by(lambda: score_pairs(baselines(scale=2), _damaged_pairs(), scale=2, device=cpu)),
        _raised_by(lambda: _only_rank_1(FileNotFoundError(2, "No such file or directory", "b.tar"))),
        str(ranks.together(ranks.rank)),
        str(ranks.any_rank(rank == 1, False)),
        str(_asked_ahead(rank)),
        str(ranks.gather_items([rank])),
    ]
    Path(folder, str(rank)).write_text("\n".join(told))
    torch.distributed.destroy_process_group()


def test_what_one_rank_meets_is_raised_on_all_or_told_by_that_rank(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(_a_rank, args=(2, port, str(tmp_path)), nprocs=2)  # type: ignore[no-untyped-call]
    first, second = ((tmp_path / str(rank)).read_text().splitlines() for rank in range(2))
    assert first[:3] == second[:3]
    assert first[:3] == [
        "UserError: set: no such folder",
        "OSError: [Errno 5] Input/output error: 'a.tar'",
        "WorkError: train-00000.tar: sample b at offset 512: not a JPEG",
    ]
    assert first[3] == "nothing"
    assert second[3] == "OwnError: rank 1: b.tar: No such file or directory"
    assert (first[4], second[4]) == ("0", "1")
    assert first[5:] == second[5:] == ["[True, False]", "[True, False]", "[0, 1]"]


def test_alone_an_error_stays_what_it_is() -> None:
    with pytest.raises(UserError, match="wrong") as found, ranks.own_errors_named():
        raise UserError("wrong")
    assert not isinstance(found.value, OwnError)


def test_a_lost_connection_is_told_as_a_lost_rank() -> None:
    with pytest.raises(OwnError, match="rank 0 lost another rank"), ranks.own_errors_named():
        raise RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer")


def test_a_rank_that_a_script_has_numbered_takes_the_gpu_that_slurm_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "to be put back")
    monkeypatch.delenv("LOCAL_RANK")
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("SLURM_LOCALID", "1")):
        monkeypatch.setenv(name, value)
    ranks.take_own_gpu()
    assert os.environ["LOCAL_RANK"] == "1"


def test_a_rank_may_open_a_connection_to_each_of_thousands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
        ranks.prepare_to_join()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
