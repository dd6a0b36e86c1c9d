"""What became of a job, for its user: `summary.json` and `failures.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from srdist import __version__
from srdist.upscaling.job import STATE, Job


@dataclass(frozen=True, slots=True)
class UpscaleReport:
    """What became of a job, all processes together."""

    images: int
    """Done and failed ones, when the job is over."""
    done: int
    """Outputs that are there, from this run or an earlier one."""
    failed: int
    folders_not_listed: int
    computed: int
    """Outputs made since the job began, by all processes."""
    megapixels: float
    """Of the inputs of `computed`."""
    seconds: float
    notes: int
    """Outputs that do not hold all of their input (further frames, transparency): see `notes` in the receipts."""
    links_not_followed: tuple[str, ...]
    skipped: Mapping[str, int]
    """Files that are no images by their suffix, by this suffix."""


def closing_file(destination: Path, name: str) -> Path:
    """Where a closing file stands: in DST, or in its state folder where the images' tree has a folder of that name."""
    return destination / STATE / name if (destination / name).is_dir() else destination / name


def write_summary(
    job: Job,
    report: UpscaleReport,
    failed: Iterable[tuple[str, str]],
    *,
    write: Callable[[Path, bytes], None],
) -> None:
    """Write summary.json and failures.jsonl, whole files both; every process writes the same at its end.

    Args:
        failed: path and reason of each.
        write: writes a whole file.
    """
    failures = (json.dumps({"path": path, "reason": reason}) + "\n" for path, reason in failed)
    write(closing_file(job.destination, "failures.jsonl"), "".join(failures).encode())
    rate = report.computed / report.seconds if report.computed else 0.0
    summary = {
        "srdist_version": __version__,
        "source": str(job.source),
        "settings": job.settings,
        "images": report.images,
        "done": report.done,
        "failed": report.failed,
        "folders_not_listed": report.folders_not_listed,
        "computed": report.computed,
        "seconds": round(report.seconds, 3),
        "images_per_s": round(rate, 3),
        "megapixels_per_s": round(report.megapixels / report.seconds, 4) if report.computed else 0.0,
        "with_notes": report.notes,
        "links_not_followed": list(report.links_not_followed),
        "skipped": dict(report.skipped),
    }
    write(closing_file(job.destination, "summary.json"), json.dumps(summary, indent=2).encode() + b"\n")
