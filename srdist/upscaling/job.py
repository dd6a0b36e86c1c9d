"""A directory of images through a network: each image once, whatever the number of processes, and nothing lost.

In goes a tree of image files, out comes the same tree enlarged. Processes share the work through a folder beside the
outputs (claims.py), each with a pipeline of its own (pipeline.py). `DST/summary.json` and `DST/failures.jsonl` say what became of it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from srdist.images.decode import UnreadableImageError
from srdist.images.photo import WRITABLE, probe_size
from srdist.machine.claims import Worker
from srdist.machine.errors import UserError
from srdist.machine.files import named_file
from srdist.machine.liveness import living
from srdist.networks.enlarger import Enlarger
from srdist.upscaling.imagefile import load, stores
from srdist.upscaling.jobstate import Job, Tally, UpscaleReport, write_job, write_summary
from srdist.upscaling.maker import Maker, Output
from srdist.upscaling.outputs import refuse_overlap, refuse_overlap_below
from srdist.upscaling.pipeline import Pipeline
from srdist.upscaling.plan import Inputs, Plan
from srdist.upscaling.receipts import Receipts
from srdist.upscaling.units import Units

STATE = ".srdist"
"""Folder in DST of the claims and receipts."""
PIXELS_VERSION = "1"
"""Part of the settings digest: raised when a version of srdist would make other pixels of the same input."""


def upscale_file(source: Path, destination: Path, *, enlarger: Enlarger, output: Output) -> tuple[str, ...]:
    """Enlarge one image file into one file, whose suffix says the format; returns what was lost on the way."""
    if destination.exists() and destination.samefile(source):
        raise UserError(f"{destination}: DST is SRC itself")
    if destination.exists() and not output.overwrite:
        raise UserError(f"{destination}: exists already; --overwrite replaces it")
    width, height = probe_size(source)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".srdist-", dir=destination.parent) as scratch:
        raws = (Path(scratch) / f"{i}.raw" for i in itertools.count())
        try:
            loaded = load(source, output_pixels=width * height * enlarger.scale**2)
            (store,) = stores([loaded], enlarger, raws)
        except UnreadableImageError as error:
            raise UnreadableImageError(f"{source}: {error}") from error
        with named_file(destination) as temporary:
            try:
                notes = store(temporary, suffix=destination.suffix.lower(), quality=output.quality)
            except ValueError as error:
                raise UserError(f"{destination}: {error}") from error
    return notes


def upscale_tree(
    source: Path,
    destination: Path,
    *,
    enlarger: Enlarger,
    weights_digest: str,
    output: Output,
    share: float,
    threads: int,
    show: Callable[[Tally], None],
    show_planning: Callable[[int, int], None] = lambda _probed, _images: None,
    tell: Callable[[str], None] = lambda _line: None,
    began: float | None = None,
) -> UpscaleReport:
    """Enlarge all images of a folder (or one file) into `destination`, together with whoever else does the same.

    Returns when every image is done or has failed, whoever did it.

    Args:
        weights_digest: of the network; outputs made with another are made again.
        share: where in the list to begin, 0 to below 1 (Launch.share).
        threads: for decoding, and as many for encoding.
        show: called twice a second or so with the state of the whole job.
        show_planning: called before that, every so often (see Plan).
        tell: called with a line where nothing moves for a minute: who waits for what.
        began: when this process began, in seconds since 1970, for the job's rates; None = now.
    """
    refuse_overlap(source, destination)
    inputs = Inputs(source, output_format=output.format)
    paths = (inputs.output(i) if source.is_file() else inputs.paths[i] for i in range(len(inputs)))
    refuse_overlap_below(source, inputs.folder, paths, destination)
    state = destination / STATE
    began = time.time() if began is None else began
    settings = hashlib.sha256(
        json.dumps([PIXELS_VERSION, weights_digest, output.format, output.quality]).encode()
    ).hexdigest()[:16]
    with Worker(state, purpose=settings) as worker:
        if worker.run_purpose not in ("", settings):
            others = ", ".join(name for name in living(state) if name != worker.name)
            raise UserError(
                f"{destination}: a job with other weights or output options is at work in it ({others}): "
                "wait for its end, or choose another folder"
            )
        plan = Plan(inputs, cache=state / "plans", scratch=worker.scratch, show=show_planning)
        write_job(state, Job(str(source.resolve()), output.format, settings), worker)
        tally = Tally(
            plan,
            Receipts(state / "receipts"),
            settings=settings,
            destination=destination,
            run=worker.run,
        )
        maker = Maker(inputs.folder, destination, tally, worker, output)
        units = Units(maker, share=share)
        Pipeline(maker, units, enlarger=enlarger, threads=threads).run(show, tell=tell)
        report = tally.report(seconds=max(time.time() - began, worker.run_age_s()))
        worker.revive()
        write_summary(destination, report, tally, worker, source=source)
    return report


def is_single_file(source: Path, destination: Path) -> bool:
    """Whether DST means one image file rather than a folder."""
    return source.is_file() and not destination.is_dir() and destination.suffix.lower() in WRITABLE
