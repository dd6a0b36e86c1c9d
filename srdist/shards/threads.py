"""Work on many items in threads: results in order, a bounded number of items waiting, progress on a terminal."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 16
"""Items that wait for each thread, at most: one that waits takes 2 kB, and ten million of them took 20 GB."""


def in_threads(work: Callable[[T], R], items: Sequence[T], threads: int, title: str) -> Iterator[R]:
    """The results of `work` in the order of `items`, with progress on a terminal.

    Threads, because reading, decoding and hashing let go of the interpreter's lock.
    """
    columns: tuple[Any, ...] = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        Progress(
            *columns,
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        ) as progress,
        ThreadPoolExecutor(threads) as pool,
    ):
        task = progress.add_task(title, total=len(items))
        try:
            waiting: deque[Future[R]] = deque()
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= AHEAD * threads:
                    yield waiting.popleft().result()
                    progress.advance(task)
            while waiting:
                yield waiting.popleft().result()
                progress.advance(task)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
