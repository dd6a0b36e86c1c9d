"""One image of a directory job: read, judged by its receipts, and written, with the receipts of that.

Called by the pipeline's threads; what goes wrong with one image becomes its receipt, what would go wrong with the next
one too is raised.
"""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from srdist.images.decode import UnreadableImageError
from srdist.images.photo import OutputFormat
from srdist.machine.claims import Worker
from srdist.machine.files import whole_file
from srdist.upscaling.imagefile import Loaded, Store, load
from srdist.upscaling.jobstate import Tally, is_there
from srdist.upscaling.plan import Item
from srdist.upscaling.receipts import Receipt

_FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
"""Write errors that the next image would meet too: they end the job, and the same command goes on later."""


@dataclass(frozen=True, slots=True)
class Output:
    """How outputs are stored."""

    format: OutputFormat | None = None
    """None = as the input (what cannot be written, GIF, becomes PNG)."""
    quality: int = 95
    """Of JPEG and WebP, 1 to 100."""
    overwrite: bool = False
    """Whether files in DST that no receipt knows may be replaced."""


@dataclass(frozen=True, slots=True)
class Maker:
    """Reads inputs and writes outputs of one job."""

    source: Path
    """What the paths of the plan are relative to."""
    destination: Path
    tally: Tally
    worker: Worker
    output: Output

    def read(self, item: Item, *, output_pixels: int) -> Loaded | None:
        """Load one input; None where there is nothing more to do: it has failed, or only its date is new."""
        known = self.tally.receipt(item)
        ours = known is not None and known.output == item.output and known.status in ("done", "begun")
        target = self.destination / item.output
        if not ours and not self.output.overwrite and target.exists():
            self.fail(item, f"{target}: exists and was not made by srdist; --overwrite replaces it")
            return None
        try:
            loaded = load(self.source / item.path, output_pixels=output_pixels)
        except OSError as error:
            self.fail(item, f"cannot be read: {error.strerror or error}")
            return None
        except UnreadableImageError as error:
            self.fail(item, str(error))
            return None
        if known and known.input_sha256 == loaded.sha256 and self._still_good(known, item):
            self._record(replace(known, input_mtime_ns=item.mtime_ns))
            return None
        return loaded

    def write(self, item: Item, loaded: Loaded, store: Store, *, began: float) -> None:
        """Encode and write one output.

        Args:
            began: when its input began to be read, by time.monotonic().
        """
        target = self.destination / item.output
        suffix = PurePosixPath(item.output).suffix.lower()
        begun = self._receipt(item, input_sha256=loaded.sha256, pixels=loaded.pixel_count)
        try:
            self._record(begun)
            with whole_file(target, scratch=self.worker.scratch) as temporary:
                notes = store(temporary, suffix=suffix, quality=self.output.quality)
                size = temporary.stat().st_size
        except OSError as error:
            if error.errno in _FATAL:
                raise
            self.fail(item, f"{target}: cannot be written: {error.strerror or error}")
            return
        except ValueError as error:
            self.fail(item, str(error))
            return
        seconds = round(time.monotonic() - began, 3)
        self._record(replace(begun, status="done", output_bytes=size, seconds=seconds, notes=notes))

    def fail(self, item: Item, reason: str) -> None:
        """Record that no output is made of this image."""
        self._record(replace(self._receipt(item), status="failed", reason=reason))

    def _record(self, receipt: Receipt) -> None:
        self.worker.record(receipt.line())

    def _still_good(self, known: Receipt, item: Item) -> bool:
        return (
            known.status == "done"
            and known.settings == self.tally.settings
            and known.output == item.output
            and is_there(self.destination, known)
        )

    def _receipt(self, item: Item, *, input_sha256: str = "", pixels: int = 0) -> Receipt:
        return Receipt(
            path=item.path,
            status="begun",
            output=item.output,
            settings=self.tally.settings,
            input_bytes=item.size,
            input_mtime_ns=item.mtime_ns,
            input_sha256=input_sha256,
            pixels=pixels,
        )
