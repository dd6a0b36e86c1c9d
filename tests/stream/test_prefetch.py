"""Shards fetched ahead: exactly once through a store's faults, within the cache's bound, whoever else uses the cache."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import psutil
import pytest

from srdist.machine.errors import UserError
from srdist.shards import download
from srdist.shards.reader import ShardIndex
from srdist.stream.ahead import Ahead
from srdist.stream.order import OrderMode, make_order
from tests.packed_sets import Packed
from tests.stores import served
from tests.stream.test_pairs import BATCH, assert_equal, global_batches, train_stream

WINDOWS: dict[str, Any] = {"order": "window", "window_shards": 2}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SRDIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.01)
    return tmp_path / "cache"


def _bounded(index: ShardIndex, monkeypatch: pytest.MonkeyPatch, *, shards: float) -> int:
    bound = int(shards * max(shard.bytes for shard in index.entry.shards))
    monkeypatch.setenv("SRDIST_CACHE_GB", f"{bound / 1e9:.12f}")
    return bound


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def _tars(cache: Path) -> set[str]:
    return {path.name for path in cache.rglob("*.tar")}


@contextmanager
def _most_used(cache: Path) -> Iterator[list[int]]:
    """The bytes of all tars on the disk, whole or begun, named or only open, as often as they can be counted."""
    seen, done = [0], Event()

    def count() -> None:
        while not done.is_set():
            used = 0
            for path in [*cache.rglob("*.tar"), *cache.rglob(".*.part")]:
                with suppress(FileNotFoundError):
                    used += path.stat().st_size
            seen.append(used)

    thread = Thread(target=count)
    thread.start()
    yield seen
    done.set()
    thread.join()


def _open_in_processes(cache: Path) -> list[str]:
    processes = psutil.Process().children(recursive=True)
    links = [link for process in processes for link in Path(f"/proc/{process.pid}/fd").iterdir()]
    targets = []
    for link in links:
        with suppress(FileNotFoundError):
            targets.append(os.readlink(link))  # noqa: PTH115 (a deleted file's name is no path)
    return [target for target in targets if str(cache) in target and ".tar" in target]


def test_epochs_come_exactly_once_from_a_faulty_server_through_a_cache_smaller_than_the_set(
    packed: Packed, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "STALL_S", 3.0)
    monkeypatch.setattr(download, "TRIES", 40)  # a slow machine takes some of its own requests for stalled
    local = packed(72)
    bound = _bounded(local, monkeypatch, shards=6.5)
    reference = global_batches(local, steps=6, **WINDOWS)
    with served(Path(local.folder), rate=0.3) as server, _most_used(cache) as used:
        index = ShardIndex.open(server.url, "train")
        assert_equal(reference, global_batches(index, steps=6, workers=2, **WINDOWS))
        assert len(server.met) > 5
    ids = np.concatenate([batch["ids"].numpy() for batch in reference])
    assert Counter(ids.tolist()) == dict.fromkeys(range(72), 2)
    assert 0 < max(used) <= bound


def test_no_worker_holds_a_tar_open_that_the_bounded_cache_may_drop(
    packed: Packed, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = packed(100)
    _bounded(local, monkeypatch, shards=6.5)
    index = ShardIndex.open(f"file://{local.folder}", "train")
    with train_stream(index, workers=2, **WINDOWS) as stream:
        pairs = iter(stream)
        for _ in range(8):
            next(pairs)
        _until(lambda: not _open_in_processes(cache))


def test_what_is_needed_next_is_fetched_before_anybody_reads_and_stays_when_room_is_made(
    packed: Packed, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = packed(100)
    bound = _bounded(local, monkeypatch, shards=6.5)
    index = ShardIndex.open(f"file://{local.folder}", "train")
    order = make_order("window", shard_samples=index.shard_samples, window_shards=2, seed=5)
    sizes = [shard.bytes for shard in index.entry.shards]
    with train_stream(index, **WINDOWS) as stream:
        pairs = iter(stream)
        for step in range(7):
            wanted = Ahead(order, sizes, bound=bound, start=0).wanted(max(step - 2, 0) * BATCH)
            names = {index.entry.shards[shard].file for shard in wanted}
            _until(lambda names=names: names <= _tars(cache))  # type: ignore[misc]
            next(pairs)


@pytest.mark.parametrize("seed", range(12))
def test_the_shards_wanted_are_those_first_needed_as_many_as_fit(seed: int) -> None:
    draw = random.Random(seed)
    shard_samples = [draw.randint(1, 9) for _ in range(draw.randint(1, 12))]
    mode: OrderMode = "window" if seed % 2 else "global"
    fits, position = draw.uniform(0.1, 1.2), draw.randint(0, 200)
    order = make_order(mode, shard_samples=shard_samples, window_shards=3, seed=1)
    sizes = [100 + 7 * samples for samples in shard_samples]
    bound = int(fits * sum(sizes))
    ahead = Ahead(order, sizes, bound=bound, start=position // 2)
    ahead.wanted(position // 2)
    found = ahead.wanted(position)
    needed = order.shards(position, position + 2 * order.epoch_length)
    fitting = [
        shard for place, shard in enumerate(needed) if sum(sizes[s] for s in needed[: place + 1]) <= bound
    ]
    assert found == fitting


def _read_an_epoch(url: str, seen: multiprocessing.Queue[list[int]]) -> None:
    index = ShardIndex.open(url, "train")
    batches = global_batches(index, steps=3, workers=1)
    seen.put([sample for batch in batches for sample in batch["ids"].tolist()])


def test_processes_that_race_for_one_cache_fetch_each_file_once_and_lose_nothing(packed: Packed) -> None:
    local = packed(BATCH * 3)
    context = multiprocessing.get_context("fork")
    with served(Path(local.folder)) as server:
        seen: multiprocessing.Queue[list[int]] = context.Queue()
        racers = [context.Process(target=_read_an_epoch, args=(server.url, seen)) for _ in range(2)]
        for racer in racers:
            racer.start()
        epochs = [seen.get(timeout=60) for _ in racers]
        for racer in racers:
            racer.join(60)
        assert [sorted(epoch) for epoch in epochs] == [list(range(BATCH * 3))] * 2
        fetched = Counter(path for path, _ in server.gets if path.endswith((".tar", ".npy")))
        assert fetched == dict.fromkeys(fetched, 1)
        assert len(fetched) == len(local.entry.shards) + 1


def test_races_within_a_bound_that_holds_for_all_end_and_keep_it(
    packed: Packed, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = packed(72)
    bound = _bounded(local, monkeypatch, shards=6.2)
    index = ShardIndex.open(f"file://{local.folder}", "train")
    with _most_used(cache) as used:
        streams = [train_stream(index, seed=seed, workers=1, **WINDOWS) for seed in (1, 2)]
        pairs = [iter(stream) for stream in streams]
        ids = [[next(each).ids.tolist() for each in pairs] for _ in range(3)]
        for stream in streams:
            stream.close()
    for which in range(2):
        assert sorted(chain.from_iterable(step[which] for step in ids)) == list(range(72))
    assert max(used) <= bound


def test_a_process_killed_in_a_download_leaves_nothing_that_is_trusted(packed: Packed, cache: Path) -> None:
    local = packed(20)
    with served(Path(local.folder), rate=1.0, faults=("stall",), only=".tar") as server:
        index = ShardIndex.open(server.url, "train")
        process = multiprocessing.get_context("fork").Process(target=index.read, args=(15,))
        process.start()
        _until(lambda: "stall" in server.met)
        process.kill()
        process.join()
        assert [path.stat().st_size for path in cache.rglob(".*.part")] == [0]
        server.rate = 0.0
        assert index.read(15) == local.read(15)
    assert not list(cache.rglob(".*.part"))


def test_a_training_goes_on_without_its_prefetcher_and_says_so(
    packed: Packed, capsys: pytest.CaptureFixture[str]
) -> None:
    local = packed(100)
    index = ShardIndex.open(f"file://{local.folder}", "train")
    reference = global_batches(local, steps=4)
    with train_stream(index, workers=0) as stream:
        assert stream._prefetcher is not None
        process = stream._prefetcher._process
        assert process is not None
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        pairs = iter(stream)
        for batch in reference:
            assert next(pairs).ids.tolist() == batch["ids"].tolist()
    told = capsys.readouterr().err
    assert told.count("the prefetcher (process") == 1
    assert "was killed by SIGKILL" in told


def test_a_shard_that_cannot_be_fetched_ends_the_run_when_it_is_needed_with_its_url(
    packed: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = packed(100)
    monkeypatch.setattr(download, "TRIES", 2)
    with served(Path(local.folder), rate=1.0, faults=("busy",), only="train-00003.tar") as server:
        index = ShardIndex.open(server.url, "train")
        with pytest.raises(
            UserError, match=rf"{server.url}/train-00003\.tar: could not be read in 2 tries: .*503"
        ):
            global_batches(index, steps=8, workers=2)


@pytest.mark.parametrize(
    ("data", "shards", "message"),
    [
        ({"order": "global"}, 7.0, "data.order global may read any of the 10 shards"),
        (WINDOWS, 5.0, "3 windows of data.window_shards 2 are in use at a time, 6 shards"),
    ],
)
def test_a_cache_too_small_for_what_is_in_use_at_a_time_is_refused_and_told_what_would_do(
    packed: Packed,
    monkeypatch: pytest.MonkeyPatch,
    data: dict[str, Any],
    shards: float,
    message: str,
) -> None:
    local = packed(100)
    _bounded(local, monkeypatch, shards=shards)
    url = f"file://{local.folder}"
    with pytest.raises(UserError, match=message) as refused:
        train_stream(ShardIndex.open(url, "train"), **data)
    enough = str(refused.value).partition("set it to at least ")[2].partition(",")[0]
    monkeypatch.setenv("SRDIST_CACHE_GB", enough)
    train_stream(ShardIndex.open(url, "train"), **data).close()
