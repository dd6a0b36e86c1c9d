"""The machine under a run: how a batch is shared out, which threads a rank takes."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.utils import KwargsHandler

from srdist.machine import device
from srdist.machine.cores import usable_cores
from srdist.machine.device import (
    configure_threads,
    environment,
    memory_mb,
    open_accelerator,
    split_batch,
)
from srdist.machine.errors import UserError


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("global_batch", "world", "rank_batch", "shares"),
    [(16, 1, None, (16, 1)), (16, 4, None, (4, 1)), (16, 2, 4, (4, 2)), (16, 2, 8, (8, 1))],
)
def test_a_batch_is_shared_out_whole(
    global_batch: int, world: int, rank_batch: int | None, shares: tuple[int, int]
) -> None:
    found = split_batch(global_batch, world=world, rank_batch=rank_batch)
    assert found == shares
    assert found[0] * found[1] * world == global_batch


@pytest.mark.parametrize(
    ("global_batch", "world", "rank_batch", "message"),
    [
        (16, 3, None, "16 cannot be shared out over 3 ranks; the nearest that can is 15"),
        (17, 3, None, "17 cannot be shared out over 3 ranks; the nearest that can is 18"),
        (1, 4, None, "1 cannot be shared out over 4 ranks; the nearest that can is 4"),
        (16, 2, 5, "16 cannot be shared out over 2 ranks x rank_batch 5; the nearest that can is 20"),
    ],
)
def test_a_batch_that_cannot_be_shared_out_is_refused_with_the_nearest_that_can(
    global_batch: int, world: int, rank_batch: int | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        split_batch(global_batch, world=world, rank_batch=rank_batch)


@pytest.mark.usefixtures("threads")
def test_threads_are_those_asked_for_or_this_ranks_share_of_the_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert configure_threads(3) == torch.get_num_threads() == 3
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", str(usable_cores()))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(usable_cores()))
    assert configure_threads(None) == torch.get_num_threads() == 1


@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_what_needs_a_gpu_is_refused_on_a_cpu(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(UserError, match=rf"train\.precision: {precision} needs a GPU"):
        open_accelerator(precision=precision, deterministic=False, peer_timeout_s=10)


@pytest.mark.usefixtures("threads")
def test_the_facts_of_the_machine_are_those_of_this_process() -> None:
    configure_threads(1)
    facts = environment(torch.device("cpu"))
    assert (facts["device"], facts["cores"], facts["threads"]) == ("cpu", usable_cores(), 1)
    assert facts["torch"] == torch.__version__
    assert facts["device_name"]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own account is Linux's")
def test_memory_is_the_most_that_this_process_had_in_mb() -> None:
    status = Path("/proc/self/status").read_text()
    (most_kib,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    assert memory_mb(torch.device("cpu")) == pytest.approx(int(most_kib) * 1024 / 1e6, rel=0.02)


@pytest.mark.parametrize("seconds", [10, 600, 1800])
def test_a_rank_waits_for_others_as_long_as_the_config_says(
    monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """Accelerate left its own default, 600 s, to torch, whose default is 1,800."""
    passed_on: dict[str, Any] = {}

    def stand_in(*, kwargs_handlers: list[KwargsHandler], **_: object) -> SimpleNamespace:
        passed_on.update(kwargs_handlers[0].to_kwargs())
        return SimpleNamespace(num_processes=1)

    monkeypatch.setattr(device, "Accelerator", stand_in)
    open_accelerator(precision="fp32", deterministic=False, peer_timeout_s=seconds)
    assert passed_on["timeout"].total_seconds() == pytest.approx(seconds, abs=0.01)
