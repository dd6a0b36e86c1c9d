"""Work on many items in threads: results in order, a bounded number of items waiting, progress on a terminal."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from srdist.machine.progressbar import ProgressBar

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 16
"""Items that wait for each thread, at most: one that waits takes 2 kB, and ten million of them took 20 GB."""


def in_threads(work: Callable[[T], R], items: Sequence[T], threads: int, title: str) -> Iterator[R]:
    """The results of `work` in the order of `items`, with progress on a terminal.

    Threads, because reading, decoding and hashing let go of the interpreter's lock.
    """
    with ProgressBar(title, total=len(items)) as bar, ThreadPoolExecutor(threads) as pool:
        try:
            waiting: deque[Future[R]] = deque()
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= AHEAD * threads:
                    yield waiting.popleft().result()
                    bar.advance()
            while waiting:
                yield waiting.popleft().result()
                bar.advance()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
