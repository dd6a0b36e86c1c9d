"""Worker processes: what happens to them and to the run when one, or the parent, is killed or signalled."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import psutil
import pytest
import torch

from benchmarks.processes import command_of
from srdist.degradations.kernel import KernelDegradation
from srdist.machine import waiting
from srdist.machine.errors import UserError, WorkError
from srdist.machine.stopping import StopRequested
from srdist.stream import ring
from srdist.stream.pairs import EvalStream
from srdist.stream.ring import DEPTH
from srdist.stream.share import Share
from tests.conftest import ROOT, clean_environment
from tests.packed_sets import Packed
from tests.stream.test_pairs import train_stream

PROGRAM = """
import os, signal, sys, time
from srdist.shards.reader import ShardIndex
from tests.stream.test_pairs import train_stream

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    stream = train_stream(ShardIndex.open(sys.argv[1], "train"), workers=2)
    pairs = iter(stream)
    next(pairs)
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            sys.exit()
        for _ in range(50):
            next(pairs)
        print("made", flush=True)
"""


def _start(folder: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, folder],
        cwd=ROOT,
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _workers() -> list[psutil.Process]:
    """The data workers of this process: forks of it, beside what other tests may have started for good."""
    me = psutil.Process()
    return [child for child in me.children() if command_of(child) == me.cmdline()]


def _soon(condition: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def test_a_worker_killed_with_9_ends_the_iteration_with_one_clear_line(packed: Packed) -> None:
    with train_stream(packed(50), workers=2) as stream:
        pairs = iter(stream)
        next(pairs)
        workers = _workers()
        assert len(workers) == 2
        workers[0].kill()
        start = time.monotonic()
        with pytest.raises(
            WorkError, match=rf"data worker \(process {workers[0].pid}\) was killed by SIGKILL"
        ):
            list(islice(pairs, 10))
        assert time.monotonic() - start < 30
    assert _workers() == []


def test_batches_that_the_memory_of_the_control_group_cannot_hold_are_refused_before_a_worker_starts(
    packed: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = packed(50)
    monkeypatch.setattr(ring, "usable_memory_mb", lambda: 0.01)
    with pytest.raises(
        UserError, match=r"data\.workers: 4 batches of .* and 0 MB are there for this process"
    ):
        train_stream(index, workers=2)
    assert _workers() == []


def test_a_worker_that_stands_still_is_waited_for_and_one_killed_meanwhile_is_noticed(packed: Packed) -> None:
    with train_stream(packed(50), workers=1) as stream:
        pairs = iter(stream)
        next(pairs)
        worker = _workers()[0]
        worker.suspend()
        helper = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {worker.pid}"])
        with pytest.raises(WorkError, match="SIGKILL"):
            list(islice(pairs, DEPTH + 1))
        helper.wait()


def test_a_stop_is_heard_while_a_worker_stands_still_and_no_process_stays(packed: Packed) -> None:
    asked_at = time.monotonic() + 0.3
    with train_stream(packed(50), workers=2, should_stop=lambda: time.monotonic() > asked_at) as stream:
        pairs = iter(stream)
        next(pairs)
        for worker in _workers():
            worker.suspend()
        with pytest.raises(StopRequested):
            list(islice(pairs, 2 * DEPTH + 1))
        assert time.monotonic() - asked_at < 30
    # Those that stood still end like the others: nobody waits for them.
    assert time.monotonic() - asked_at < 30
    assert _workers() == []


def test_after_a_minute_it_is_said_which_worker_is_waited_for_and_why(
    packed: Packed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "SAID_AFTER_S", 0.3)
    monkeypatch.setattr(waiting, "LOOK_UP_S", 0.1)
    with train_stream(packed(50), workers=1, rank=0, world=1) as stream:
        pairs = iter(stream)
        next(pairs)
        (worker,) = _workers()
        worker.suspend()
        helper = subprocess.Popen(["sh", "-c", f"sleep 3; kill -CONT {worker.pid}"])
        list(islice(pairs, 3 * DEPTH))
        helper.wait()
    (line, *_) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        rf"srdist: warning: rank 0 waits for batch \d of data worker 0 \(process {worker.pid}, stopped by a signal "
        rf"or a debugger: `kill -CONT {worker.pid}` lets it go on\) \(\d s so far\)",
        line,
    )


def test_no_worker_outlives_a_parent_that_is_killed_with_9(packed: Packed) -> None:
    process = _start(packed(50).folder)
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 2
    process.kill()
    process.communicate()
    assert _soon(lambda: not any(worker.is_running() for worker in workers))


def test_signals_to_the_process_group_leave_the_workers_to_their_parent_which_ends_at_once(
    packed: Packed,
) -> None:
    process = _start(packed(50).folder)
    workers = psutil.Process(process.pid).children()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        os.killpg(process.pid, number)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "made\n"
    assert all(worker.is_running() for worker in workers)
    # It ends without closing its stream.
    start = time.monotonic()
    process.communicate("end\n", timeout=60)
    assert process.returncode == 0
    assert time.monotonic() - start < 30
    assert not any(worker.is_running() for worker in workers)


def test_memory_and_open_files_do_not_grow_with_the_batches(packed: Packed) -> None:
    me = psutil.Process()
    with train_stream(packed(50), workers=2) as stream:
        pairs = iter(stream)
        for _ in range(50):
            next(pairs)
        processes = [me, *_workers()]
        before = [(process.memory_info().rss, process.num_fds()) for process in processes]
        for _ in range(500):
            next(pairs)
        after = [(process.memory_info().rss, process.num_fds()) for process in processes]
    for (rss_before, fds_before), (rss_after, fds_after) in zip(before, after, strict=True):
        assert rss_after - rss_before < 4e6
        assert fds_after == fds_before
    assert _workers() == []


def test_a_shard_removed_during_training_is_never_skipped(packed: Packed) -> None:
    index = packed(50)
    Path(index.shard_path(2)).unlink()
    with (
        train_stream(index, workers=2, on_bad_sample="skip") as stream,
        pytest.raises(WorkError, match=r"train-00002.tar: a shard of the set cannot be opened"),
    ):
        list(islice(stream, 5))


def test_an_evaluation_is_read_again_by_the_same_workers_and_its_memory_is_given_back(packed: Packed) -> None:
    with EvalStream(
        packed(30), KernelDegradation(2, "bicubic"), Share(), batch=4, workers=2, limit=27
    ) as stream:
        workers = _workers()
        assert len(workers) == 2
        first, second = ([(pair.ids.tolist(), pair.lr.clone()) for pair in stream] for _ in range(2))
        assert _workers() == workers
        assert not stream.memory.any()
    assert [ids for ids, _ in first] == [ids for ids, _ in second]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(first, second, strict=True))
