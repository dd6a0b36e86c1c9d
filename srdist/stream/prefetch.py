"""A process that fetches the shards of a remote set ahead of the training; one a machine.

It learns from the training how far that is, and keeps in the cache what is needed next. Nothing depends on it: whoever
needs a shard that is not there fetches it, and where this process has died everybody does.
"""

from __future__ import annotations

import math
import mmap
import multiprocessing
import os
import sys
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from multiprocessing.process import BaseProcess

import numpy as np
from jaxtyping import Int64

from srdist.machine.errors import UserError, WorkError, system_error
from srdist.machine.forked import how_it_ended, live_for_parent, signals_held
from srdist.shards.reader import ShardIndex
from srdist.stream.ahead import Ahead
from srdist.stream.config import DataConfig
from srdist.stream.order import Order

AT_A_TIME = 4
"""Tars that are fetched together: one alone waits for the server's answers most of the time."""
LOOK_S = 0.2
_NOT_BEGUN = -1
AGAIN_S = 30.0
"""After which a tar that could not be fetched is asked for again."""


class Prefetcher:
    """Walks `order` ahead of a training, of whose position it is told: from the first word on, and not before."""

    def __init__(self, index: ShardIndex, order: Order) -> None:
        # Anonymous shared memory: the process reads what this one writes.
        self._position = np.frombuffer(mmap.mmap(-1, 8), np.int64)
        self._position[0] = _NOT_BEGUN
        process = multiprocessing.get_context("fork").Process(
            target=_live, args=(index, order, self._position, os.getpid()), daemon=True
        )
        with signals_held():
            process.start()
        self._process: BaseProcess | None = process
        self.close = weakref.finalize(self, _end, process)

    def at(self, position: int) -> None:
        """Tell where the training is; a process that has died is told of, once."""
        self._position[0] = position
        if self._process is not None and not self._process.is_alive():
            if self._process.exitcode:
                print(
                    f"srdist: warning: the prefetcher (process {self._process.pid}) "
                    f"{how_it_ended(self._process.exitcode)}: shards are fetched when they are needed",
                    file=sys.stderr,
                    flush=True,
                )
            self._process = None


def wanted_here(index: ShardIndex) -> bool:
    """Whether there is something to fetch, and a way to start the process."""
    return index.place.remote and "fork" in multiprocessing.get_all_start_methods()


def refuse_small_cache(index: ShardIndex, data: DataConfig, *, global_batch: int) -> None:
    """Refuse a bound on the cache of a remote set below what is in use at a time: every tar would come again and again.

    Raises:
        UserError: the bound is too small; the message says what would do.
    """
    cache, sizes = index.place.cache, [shard.bytes for shard in index.entry.shards]
    if cache is None or cache.bound is None or sum(sizes) <= cache.bound:
        return
    found = f"SRDIST_CACHE_GB: found {cache.bound / 1e9:g}, but"
    if data.order == "global":
        raise UserError(
            f"{found} data.order global may read any of the {len(sizes)} shards of {index.folder} at any time: set it to at "
            f"least {_gigabytes(sum(sizes))}, or data.order to window"
        )
    # A batch may reach into the next window, or beyond.
    smallest = min(index.shard_samples) * data.window_shards * data.patches_per_image
    windows = 1 + -(-global_batch // smallest)
    shards = min(windows * data.window_shards, len(sizes))
    needed = sum(sorted(sizes)[-shards:])
    if needed > cache.bound:
        raise UserError(
            f"{found} {windows} windows of data.window_shards {data.window_shards} are in use at a time, {shards} shards of "
            f"{index.folder}: set it to at least {_gigabytes(needed)}, or take fewer shards a window"
        )


def _gigabytes(size: int) -> str:
    """A number that SRDIST_CACHE_GB may be set to, not below `size` bytes."""
    digits = 4
    return f"{math.ceil(size / 10**9 * 10**digits) / 10**digits:g}" if size >= 10**7 else f"{size / 1e9:.9f}"


def _live(index: ShardIndex, order: Order, position: Int64[np.ndarray, " one"], parent: int) -> None:
    live_for_parent()
    entries = index.entry.shards
    assert index.place.cache is not None
    while position[0] == _NOT_BEGUN and os.getppid() == parent:
        time.sleep(LOOK_S)
    ahead = Ahead(
        order,
        [entry.bytes for entry in entries],
        bound=index.place.cache.bound,
        start=int(position[0]),
    )
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        fetching = _Fetching(index, pool)
        try:
            while os.getppid() == parent:
                fetching.step(ahead.wanted(int(position[0])))
        except OSError as error:
            _warn(f"nothing is fetched ahead any more: {system_error(error)}")
        except UserError as error:
            _warn(f"nothing is fetched ahead any more: {error}")


class _Fetching:
    """The tars that are on their way, those that are there, and those that did not come."""

    def __init__(self, index: ShardIndex, pool: ThreadPoolExecutor) -> None:
        self._index, self._pool = index, pool
        self._coming: dict[Future[None], int] = {}
        self._there: set[int] = set()
        self._again_at: dict[int, float] = {}

    def step(self, wanted: list[int]) -> None:
        """Fetch what is wanted and not there; return when something has changed, or soon."""
        cache, entries = self._index.place.cache, self._index.entry.shards
        assert cache is not None
        if cache.bound is not None:  # others may have dropped some
            self._there = {shard for shard in wanted if cache.path(entries[shard]).exists()}
        for shard in self._missing(wanted):
            if len(self._coming) == AT_A_TIME:
                break
            if cache.bound is not None:
                cache.touch([entries[each] for each in wanted])
            self._coming[self._pool.submit(self._fetch, shard)] = shard
        if not self._coming:
            time.sleep(LOOK_S)
            return
        for done in wait(self._coming, LOOK_S, FIRST_COMPLETED).done:
            self._take(done)

    def _missing(self, wanted: list[int]) -> Iterator[int]:
        coming, now = set(self._coming.values()), time.monotonic()
        for shard in wanted:
            if shard not in self._there and shard not in coming and self._again_at.get(shard, now) <= now:
                yield shard

    def _fetch(self, shard: int) -> None:
        os.close(self._index.place.open(self._index.entry.shards[shard]))

    def _take(self, done: Future[None]) -> None:
        shard = self._coming.pop(done)
        try:
            done.result()
        except WorkError as error:  # whoever needs it will be told, and stops
            _warn(str(error))
            self._again_at[shard] = time.monotonic() + AGAIN_S
        else:
            self._there.add(shard)


def _warn(line: str) -> None:
    print(f"srdist: warning: {line}", file=sys.stderr, flush=True)


def _end(process: BaseProcess) -> None:
    # At once: what it has half fetched is gone on with by the next one.
    process.kill()
    process.join()
    process.close()
