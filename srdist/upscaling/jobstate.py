"""The state of a directory job, made of its receipts: which images are done, failed or open."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from srdist.machine.errors import WorkError
from srdist.upscaling.job import Job
from srdist.upscaling.plan import Item, Plan
from srdist.upscaling.receipts import Receipt, Receipts, same_log
from srdist.upscaling.summary import UpscaleReport

LOOKED_AT_A_TIME = 256
"""Outputs that a thread looks for in one go."""
LOOKING_THREADS = 8
"""They wait for the file system, not for a core."""


class Tally:
    """Which images are done, failed or open, by the receipts of all processes."""

    OPEN, DONE, FAILED, UNSEEN = 0, 1, 2, 3
    """UNSEEN: done by its receipt, and nobody has looked whether the output is still there (see `look`)."""
    _OURS, _COUNTED, _NOTED, _MADE_HERE = 1, 2, 4, 8

    def __init__(
        self, plan: Plan, receipts: Receipts, job: Job, *, run: int, since: float = math.inf
    ) -> None:
        """Read all receipts.

        Args:
            run: number of this process's run (claims.Worker): what failed in an earlier one is tried again.
            since: what was made after this time (seconds since 1970) counts as made by this job as well: of ranks that
                are started together one may be through before another has joined.
        """
        self.plan, self.job, self.run, self.since = plan, job, run, since
        self._alone = job.source.is_file()
        self.state = bytearray(len(plan))
        self.computed = 0
        self.computed_pixels = 0
        self.total_pixels = sum(plan.pixels)
        self._receipts = receipts
        self._flags = bytearray(len(plan))
        # Of the last receipt: its place (0: there is none), turn and time; of an output that was said to be done, the length.
        self._place = array("q", bytes(8 * len(plan)))
        self._turn = array("i", bytes(4 * len(plan)))
        self._time = array("d", bytes(8 * len(plan)))
        self._bytes = array("q", bytes(8 * len(plan)))
        self._other_outputs: set[int] = (
            set()
        )  # hashes of what was made of images, or under names, that are not in the plan
        for i, receipt in self._new():
            self.state[i] = self.OPEN  # of several receipts of an image the last one counts
            self._take(i, receipt, done=self.UNSEEN)
        still_open = (i for i, state in enumerate(self.state) if state == self.OPEN)
        self.open_pixels_at_start = self.computed_pixels + sum(plan.pixels[i] for i in still_open)

    def refresh(self) -> None:
        """Take in what all processes have recorded since."""
        for i, receipt in self._new():
            self._take(i, receipt, done=self.DONE)

    def unseen(self, images: Iterable[range] | None = None) -> Iterator[list[int]]:
        """What is UNSEEN, in portions to look at.

        Args:
            images: positions in the plan; None = all.
        """
        for run in images or [range(len(self.plan))]:
            for first in range(run.start, run.stop, LOOKED_AT_A_TIME):
                some = range(first, min(first + LOOKED_AT_A_TIME, run.stop))
                if portion := [i for i in some if self.state[i] == self.UNSEEN]:
                    yield portion

    def missing(self, portion: list[int]) -> list[int]:
        """Those of a portion whose output is not there as its receipt says (from any thread)."""
        outputs = self.plan.inputs.output
        return [i for i in portion if _length(self.job.destination / outputs(i)) != self._bytes[i]]

    def saw(self, portion: list[int], missing: list[int]) -> None:
        """Take in what a look at a portion has shown."""
        for i in portion:
            if self.state[i] == self.UNSEEN:  # else somebody has recorded something since
                self.state[i] = self.OPEN if i in missing else self.DONE

    def look(self) -> None:
        """Look for all outputs that are said to be done, before anything else is done."""
        with ThreadPoolExecutor(LOOKING_THREADS) as pool:
            portions = list(self.unseen())
            for portion, missing in zip(portions, pool.map(self.missing, portions), strict=True):
                self.saw(portion, missing)

    def receipt(self, item: Item) -> Receipt | None:
        """The last word on an image (from any thread)."""
        place = self._place[item.index]
        return self._receipts.at(place) if place else None

    def turn(self, item: Item) -> int:
        """Of the next receipt of an image: greater than in those that were read."""
        return self._turn[item.index] + 1

    def is_ours(self, item: Item) -> bool:
        """Whether a receipt says that srdist has made this image's output, or was about to: whatever came after.

        Of a folder also what was made of an image that is not in it any more; one image alone says nothing of the others
        whose outputs are in DST, and replaces none of them.
        """
        if self._flags[item.index] & self._OURS:
            return True
        return not self._alone and hash(item.output) in self._other_outputs

    def settled_here(self, item: Item, *, by: str) -> None:
        """This process, `by` its name, has recorded what became of an image.

        Raises:
            WorkError: for the second time, because what it records does not come back.
        """
        place = self._place[item.index]
        # Another one may have had the last word, about an input that was changed meanwhile.
        own = not place or self._receipts.writer(place) == by
        if own and self._flags[item.index] & self._MADE_HERE and self.state[item.index] == self.OPEN:
            raise WorkError(f"{self._receipts.folder}: what was recorded of {item.path} cannot be read back")
        self._flags[item.index] |= self._MADE_HERE

    def _new(self) -> Iterator[tuple[int, Receipt]]:
        """The receipts that are the last ones of their images by now."""
        for place, receipt in self._receipts.refresh():
            i = self.plan.inputs.paths.find(receipt.path)
            wrote = receipt.status != "failed"
            if i is None or receipt.output != self.plan.inputs.output(i):
                if wrote:
                    self._other_outputs.add(hash(receipt.output))
            elif wrote:
                self._flags[i] |= self._OURS
            if i is None:
                continue
            turn, time = self._turn[i], self._time[i]
            # In one log the later one; of different logs the one whose writer had read the other's. Clocks decide only
            # between processes of which one had slept, and among receipts older than turns.
            later = same_log(place, self._place[i]) if turn == receipt.turn else receipt.turn > turn
            if later or (turn == receipt.turn and receipt.time >= time):
                self._place[i], self._turn[i], self._time[i] = place, receipt.turn, receipt.time
                yield i, receipt

    def _take(self, i: int, receipt: Receipt, *, done: int) -> None:
        flags = self._flags[i]
        if self._proves(receipt, self.plan.item(i)):
            made_now = receipt.run >= self.run or receipt.time >= self.since
            if made_now and not flags & self._COUNTED:
                self.computed += 1
                self.computed_pixels += receipt.pixels
                flags |= self._COUNTED
            self._flags[i] = flags | self._NOTED if receipt.notes else flags & ~self._NOTED
            self._bytes[i] = receipt.output_bytes
            self.state[i] = done
        elif receipt.status == "failed" and receipt.settings == self.job.settings and receipt.run >= self.run:
            self.state[i] = self.FAILED

    def count(self, state: int) -> int:
        """Images in a state."""
        return self.state.count(state)

    def _proves(self, receipt: Receipt, item: Item) -> bool:
        """Whether the output was made of this very input with these settings."""
        return (
            receipt.status == "done"
            and receipt.settings == self.job.settings
            and receipt.output == item.output
            and receipt.input_bytes == item.size
            and receipt.input_mtime_ns == item.mtime_ns
        )

    def failures(self) -> Iterator[tuple[str, str]]:
        """Path and reason of what has failed: folders that could not be listed, then images in the order of the plan."""
        yield from self.plan.inputs.unreadable
        for i, state in enumerate(self.state):
            if state == self.FAILED:
                item = self.plan.item(i)
                receipt = self.receipt(item)
                yield item.path, receipt.reason if receipt else ""

    def report(self, *, seconds: float) -> UpscaleReport:
        """What has become of the job until now."""
        inputs = self.plan.inputs
        return UpscaleReport(
            images=inputs.images,
            done=self.count(self.DONE),
            failed=self.count(self.FAILED) + inputs.images - len(inputs),
            folders_not_listed=inputs.folders_not_listed,
            computed=self.computed,
            megapixels=self.computed_pixels / 1e6,
            seconds=seconds,
            notes=sum(
                state == self.DONE and bool(flags & self._NOTED)
                for state, flags in zip(self.state, self._flags, strict=True)
            ),
            links_not_followed=inputs.links_not_followed,
            skipped=inputs.skipped,
        )


def is_there(destination: Path, receipt: Receipt) -> bool:
    """Whether the output that a receipt speaks of is there, as long as it says."""
    return _length(destination / receipt.output) == receipt.output_bytes


def _length(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return None
