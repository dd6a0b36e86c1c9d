"""What is to be done: which images, through which network, into which folder. One frozen value, made once, that all parts are handed.

Apart from doing it, so that whoever only asks how far a job is (`--status`) has the same value: it is kept in DST.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from srdist.images.folder import read_regular
from srdist.images.formats import FOREIGN_SUFFIXES, IMAGE_SUFFIXES
from srdist.images.photo import WRITABLE, OutputFormat
from srdist.machine.errors import UserError, refuse_url
from srdist.machine.plainjson import parse_json
from srdist.upscaling.outputs import refuse_overlap

_ONLY_READ = (IMAGE_SUFFIXES | FOREIGN_SUFFIXES) - WRITABLE.keys()
STATE = ".srdist"
"""Folder in DST of the claims and receipts."""
PIXELS_VERSION = "1"
"""Part of the settings digest: raised when a version of srdist would make other pixels of the same input."""


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
class Job:
    """A folder of images, or one image, to be upscaled."""

    source: Path
    destination: Path
    output: Output
    settings: str
    """Digest of the weights and the output options: outputs made with others are made again."""
    share: float = 0.0
    """Where in the list to begin, 0 to below 1 (Launch.share)."""

    @classmethod
    def of(
        cls,
        source: Path,
        destination: Path,
        *,
        output: Output,
        weights_digest: str,
        precision: str = "auto",
        share: float = 0.0,
    ) -> Job:
        """The job of a call.

        Args:
            precision: as asked for, and part of the settings: what `auto` takes depends on the machine, and what one machine
                has made by it counts on all.

        Raises:
            UserError: SRC is missing, or DST is, holds or lies in it, or is a file that is not meant.
        """
        refuse_url(str(source), "SRC is a folder or an image file")
        refuse_url(str(destination), "DST is a folder or an image file")
        refuse_overlap(source, destination)
        options = [PIXELS_VERSION, weights_digest, output.format, output.quality]
        digested = json.dumps(options if precision == "auto" else [*options, precision])
        job = cls(source, destination, output, hashlib.sha256(digested.encode()).hexdigest()[:16], share)
        if job.into_one_file:
            suffix = destination.suffix.lower()
            if output.format and WRITABLE[suffix] != WRITABLE[f".{output.format}"]:
                raise UserError(f"{destination}: its suffix and --format {output.format} do not agree")
        elif destination.exists() and not destination.is_dir():
            raise UserError(f"{destination}: is a file, expected a folder")
        elif source.is_file() and not destination.exists() and destination.suffix.lower() in _ONLY_READ:
            raise UserError(
                f"{destination}: {destination.suffix} is not written, expected a name that ends in {', '.join(WRITABLE)}, "
                "or a folder"
            )
        return job

    @property
    def into_one_file(self) -> bool:
        """Whether DST means one image file rather than a folder."""
        suffix = self.destination.suffix.lower()
        return self.source.is_file() and not self.destination.is_dir() and suffix in WRITABLE

    @property
    def state(self) -> Path:
        """Folder in DST of the claims and receipts."""
        return self.destination / STATE


def write_job(job: Job, *, write: Callable[[Path, bytes], None]) -> None:
    """Keep the job in its state folder."""
    values = {"source": str(job.source.resolve()), "format": job.output.format, "settings": job.settings}
    write(job.state / "job.json", json.dumps(values).encode() + b"\n")


def read_job(destination: Path) -> Job:
    """The job that was last begun in this folder; a UserError where there is none."""
    try:
        values = parse_json(read_regular(destination / STATE / "job.json"))
        source, kind, settings = values["source"], values["format"], values["settings"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{destination}: no upscale job has been begun here") from error
    kinds = (None, *get_args(OutputFormat))
    if not (isinstance(source, str) and isinstance(settings, str) and kind in kinds):
        raise UserError(
            f"{destination / STATE / 'job.json'}: is damaged; the next srdist upscale writes it anew"
        )
    if not Path(source).exists():
        raise UserError(f"{source}: the SRC of {destination} is not there any more")
    return Job(Path(source), destination, Output(kind), settings)
