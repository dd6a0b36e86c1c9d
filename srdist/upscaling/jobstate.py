"""The state of a directory job, made of its receipts: which images are done, failed or open, and the summary of it."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from srdist import __version__
from srdist.images.photo import OutputFormat
from srdist.machine.claims import Worker
from srdist.machine.errors import UserError
from srdist.machine.files import whole_file
from srdist.upscaling.plan import Item, Plan
from srdist.upscaling.receipts import Receipt, Receipts


@dataclass(frozen=True, slots=True)
class UpscaleReport:
    """What became of a job, all processes together."""

    images: int
    done: int
    """Outputs that are there, from this run or an earlier one."""
    failed: int
    """Images, and folders that could not be listed."""
    computed: int
    """Outputs made since the job began, by all processes."""
    megapixels: float
    """Of the inputs of `computed`."""
    seconds: float
    notes: int
    """Outputs that do not hold all of their input (further frames, transparency): see `notes` in the receipts."""
    links_not_followed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """What a folder of outputs is made of: kept in it, so that a look at the folder alone tells how far it is."""

    source: str
    """SRC, absolute."""
    format: OutputFormat | None
    settings: str


def write_job(state: Path, job: Job, worker: Worker) -> None:
    """Keep `job` in the state folder."""
    with whole_file(state / "job.json", scratch=worker.scratch) as temporary:
        temporary.write_text(json.dumps(asdict(job)) + "\n")


def read_job(state: Path) -> Job:
    """The job that was last begun in this state folder; a UserError where there is none."""
    try:
        return Job(**json.loads((state / "job.json").read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{state.parent}: no upscale job has been begun here") from error


class Tally:
    """Which images are done, failed or open, by the receipts of all processes."""

    OPEN, DONE, FAILED = 0, 1, 2

    def __init__(
        self, plan: Plan, receipts: Receipts, *, settings: str, destination: Path, since: float
    ) -> None:
        """Read all receipts, and look for the outputs that they speak of.

        Args:
            since: when this job began, in seconds since 1970: what failed before is tried again.
        """
        self.plan = plan
        self.settings = settings
        self.since = since
        self.state = bytearray(len(plan))
        self.with_notes = 0
        self.computed = 0
        self.computed_pixels = 0
        self.total_pixels = sum(plan.pixels)
        self._receipts = receipts
        self._place = array("q", bytes(8 * len(plan)))  # of the last receipt; 0 = none
        self._time = array("d", bytes(8 * len(plan)))  # which it was written at
        for _ in self._new():
            pass  # of several receipts of an image the last one counts, whichever log is read first
        for i, place in enumerate(self._place):
            receipt = receipts.at(place) if place else None
            if receipt and (receipt.status != "done" or is_there(destination, receipt)):
                self._take(i, receipt)
        still_open = (i for i, state in enumerate(self.state) if state == self.OPEN)
        self.open_pixels_at_start = self.computed_pixels + sum(plan.pixels[i] for i in still_open)

    def refresh(self) -> None:
        """Take in what all processes have recorded since."""
        for i, receipt in self._new():
            self._take(i, receipt)

    def receipt(self, item: Item) -> Receipt | None:
        """The last word on an image (from any thread)."""
        place = self._place[item.index]
        return self._receipts.at(place) if place else None

    def _new(self) -> Iterator[tuple[int, Receipt]]:
        for place, receipt in self._receipts.refresh():
            i = self.plan.inputs.paths.find(receipt.path)
            if i is not None and receipt.time >= self._time[i]:
                self._place[i], self._time[i] = place, receipt.time
                yield i, receipt

    def _take(self, i: int, receipt: Receipt) -> None:
        if self._proves(receipt, self.plan.item(i)):
            if self.state[i] != self.DONE and receipt.time >= self.since:
                self.computed += 1
                self.computed_pixels += receipt.pixels
            if self.state[i] != self.DONE:
                self.with_notes += bool(receipt.notes)
            self.state[i] = self.DONE
        elif receipt.status == "failed" and receipt.settings == self.settings and receipt.time >= self.since:
            self.state[i] = self.FAILED

    def count(self, state: int) -> int:
        """Images in a state."""
        return self.state.count(state)

    def _proves(self, receipt: Receipt, item: Item) -> bool:
        """Whether the output was made of this very input with these settings."""
        return (
            receipt.status == "done"
            and receipt.settings == self.settings
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
                known = self.receipt(item)
                yield item.path, known.reason if known else ""

    def report(self, *, seconds: float) -> UpscaleReport:
        return UpscaleReport(
            images=len(self.plan),
            done=self.count(self.DONE),
            failed=self.count(self.FAILED) + len(self.plan.inputs.unreadable),
            computed=self.computed,
            megapixels=self.computed_pixels / 1e6,
            seconds=seconds,
            notes=self.with_notes,
            links_not_followed=self.plan.inputs.links_not_followed,
        )


def is_there(destination: Path, receipt: Receipt) -> bool:
    """Whether the output that a receipt speaks of is there, as long as it says."""
    try:
        return (destination / receipt.output).stat().st_size == receipt.output_bytes
    except OSError:
        return False


def write_summary(
    destination: Path, report: UpscaleReport, tally: Tally, worker: Worker, *, source: Path
) -> None:
    """Write summary.json and failures.jsonl, whole files both; every process writes the same at its end."""
    failures = whole_file(destination / "failures.jsonl", scratch=worker.scratch)
    with failures as temporary, temporary.open("w") as file:
        file.writelines(
            json.dumps({"path": path, "reason": reason}) + "\n" for path, reason in tally.failures()
        )
    rate = report.computed / report.seconds if report.computed else 0.0
    summary = {
        "srdist_version": __version__,
        "source": str(source),
        "settings": tally.settings,
        "images": report.images,
        "done": report.done,
        "failed": report.failed,
        "computed": report.computed,
        "seconds": round(report.seconds, 3),
        "images_per_s": round(rate, 3),
        "megapixels_per_s": round(report.megapixels / report.seconds, 4) if report.computed else 0.0,
        "with_notes": report.notes,
        "links_not_followed": list(report.links_not_followed),
    }
    with whole_file(destination / "summary.json", scratch=worker.scratch) as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n")
