"""How far a long command is: one line on a terminal, alike for all of them, and nothing where there is no terminal."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from srdist.machine.clock import clock


class ProgressBar:
    """A context manager: what is done, a bar, M of N, the rate and the time left. It goes when the work is done."""

    def __init__(self, title: str, *, total: int | None = None, visible: bool = True) -> None:
        """Begin to count the time.

        Args:
            total: None = not known yet.
            visible: whether this process is the one that shows it, if there is a terminal.
        """
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            console=console,
            disable=not (visible and console.is_terminal),
            transient=True,
        )
        self._done, self._total, self._began = 0, total, time.monotonic()
        self._task = self._progress.add_task(title, total=total, rate="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, images: int = 1) -> None:
        """So many more are done."""
        self.show(self._done + images, self._total)

    def show(
        self, done: int, total: int | None, *, title: str | None = None, rate: str | None = None
    ) -> None:
        """Draw where the work stands.

        Args:
            title: another than before.
            rate: in words; None = by the number of images.
        """
        self._done, self._total = done, total
        if rate is None:
            seconds = max(time.monotonic() - self._began, 1e-3)
            rate = f"{done / seconds:.1f} images/s"
            if done and total is not None:
                rate += f", {clock(max(total - done, 0) * seconds / done)} left"
        self._progress.update(self._task, description=title, total=total, completed=done, rate=rate)

    def say(self, line: str) -> None:
        """Print a line above the bar where there is one (from any process and any thread)."""
        self._progress.console.print(f"srdist: {line}", markup=False, highlight=False, soft_wrap=True)
