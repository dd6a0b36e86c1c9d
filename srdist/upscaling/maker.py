"""One image of a directory job: read, judged by its receipts, and written, with the receipts of that.

Called by the pipeline's threads; what goes wrong with one image becomes its receipt, what would go wrong with the next
one too is raised.
"""

from __future__ import annotations

import errno
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from srdist.images.decode import UnreadableImageError
from srdist.machine.claims import Worker
from srdist.machine.files import whole_file
from srdist.upscaling.imagefile import Loaded, Store, load
from srdist.upscaling.job import Job
from srdist.upscaling.jobstate import LOOKING_THREADS, Tally, is_there
from srdist.upscaling.plan import Item
from srdist.upscaling.receipts import Receipt

_FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
"""Write errors that the next image would meet too: they end the job, and the same command goes on later."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An image that this process is to make."""

    item: Item
    earlier: Receipt | None
    """Of its output as it is there, if that holds for an input of the same content; None where that is not so."""


@dataclass(frozen=True, slots=True)
class Maker:
    """Reads inputs and writes outputs of one job."""

    job: Job
    tally: Tally
    worker: Worker

    def begin(self, items: list[Item]) -> list[Begun]:
        """Take on the open images of a unit whose receipts have just been read; those that are to be made.

        That their outputs are about to be written is on the disk when this returns, once for all: an output without a
        receipt, after a power cut, would count as a foreign file. Foreign files are told as failures here.
        """
        foreign = self._foreign(items)
        begun: list[Begun] = []
        receipts: list[Receipt] = []
        for item in items:
            earlier = self.tally.receipt(item)
            if item.index in foreign:
                self.tally.settled_here(item, by=self.worker.name)
                target = self.job.destination / item.output
                reason = f"{target}: exists and was not made by srdist of this image; --overwrite replaces it"
                receipts.append(replace(self._receipt(item), status="failed", reason=reason))
            elif earlier and self._may_be_good(earlier, item):
                begun.append(Begun(item, earlier))
            else:
                receipts.append(self._receipt(item))
                begun.append(Begun(item, None))
        self._record(*receipts)
        self.worker.sync()
        return begun

    def read(self, image: Begun, *, output_pixels: int) -> Loaded | None:
        """Load one input; None where there is nothing more to do: it has failed, or only its date is new."""
        item, earlier = image.item, image.earlier
        try:
            loaded = load(self.tally.plan.inputs.folder / item.path, output_pixels=output_pixels)
        except OSError as error:
            self.fail(item, f"cannot be read: {error.strerror or error}")
            return None
        except UnreadableImageError as error:
            self.fail(item, str(error))
            return None
        if earlier and earlier.input_sha256 == loaded.sha256:
            turn = self.tally.turn(item)
            self._record(replace(earlier, input_mtime_ns=item.mtime_ns, turn=turn))
            self.tally.settled_here(item, by=self.worker.name)
            return None
        return loaded

    def write(self, image: Begun, loaded: Loaded, store: Store, *, began: float, births: int) -> bool:
        """Encode and write one output; False where others have taken this process for dead, and it is left to them.

        Args:
            began: when its input began to be read, by time.monotonic().
            births: of the worker at that time.
        """
        item = image.item
        target = self.job.destination / item.output
        suffix = PurePosixPath(item.output).suffix.lower()
        if image.earlier:
            self._record(self._receipt(item))
            self.worker.sync()
        try:
            with whole_file(target, scratch=self.worker.scratch) as temporary:
                notes = store(temporary, suffix=suffix, quality=self.job.output.quality)
                size = temporary.stat().st_size
        except OSError as error:
            if self.worker.was_buried(error, since=births):
                return False
            if error.errno in _FATAL:
                raise
            self.fail(item, f"{target}: cannot be written: {error.strerror or error}")
            return True
        except ValueError as error:
            self.fail(item, str(error))
            return True
        done = self._receipt(item, input_sha256=loaded.sha256, pixels=loaded.pixel_count)
        seconds = round(time.monotonic() - began, 3)
        self._record(replace(done, status="done", output_bytes=size, seconds=seconds, notes=notes))
        self.tally.settled_here(item, by=self.worker.name)
        return True

    def fail(self, item: Item, reason: str) -> None:
        """Record that no output is made of this image."""
        self._record(replace(self._receipt(item), status="failed", reason=reason))
        self.tally.settled_here(item, by=self.worker.name)

    def _record(self, *receipts: Receipt) -> None:
        self.worker.record(b"".join(receipt.line() for receipt in receipts))

    def _foreign(self, items: list[Item]) -> set[int]:
        """Positions of those whose output is there, and no receipt says that it is ours."""
        others = [item for item in items if not self.job.output.overwrite and not self.tally.is_ours(item)]
        if not others:
            return set()
        # In threads: on a shared folder each look is a question to a server.
        with ThreadPoolExecutor(LOOKING_THREADS) as pool:
            there = pool.map(lambda item: (self.job.destination / item.output).exists(), others)
            existing = [item for item, exists in zip(others, there, strict=True) if exists]
        if existing:
            # Made since the logs were read, by a process with another plan: some input was changed meanwhile.
            self.worker.ask_for_logs()
            self.tally.refresh()
        return {item.index for item in existing if not self.tally.is_ours(item)}

    def _may_be_good(self, earlier: Receipt, item: Item) -> bool:
        """Whether the output need not be made again if the input, of another date, has the same content."""
        return (
            earlier.status == "done"
            and earlier.settings == self.job.settings
            and earlier.output == item.output
            and earlier.input_bytes == item.size
            and is_there(self.job.destination, earlier)
        )

    def _receipt(self, item: Item, *, input_sha256: str = "", pixels: int = 0) -> Receipt:
        return Receipt(
            path=item.path,
            status="begun",
            output=item.output,
            settings=self.job.settings,
            input_bytes=item.size,
            input_mtime_ns=item.mtime_ns,
            input_sha256=input_sha256,
            pixels=pixels,
            turn=self.tally.turn(item),
            run=self.worker.run,
        )
