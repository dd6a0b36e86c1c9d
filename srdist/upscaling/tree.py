"""A directory of images through a network: each image once, whatever the number of processes, and nothing lost.

In goes a tree of image files, out comes the same tree upscaled. Processes share the work through a folder beside the
outputs (claims.py), each with a pipeline of its own (pipeline.py). `DST/summary.json` and `DST/failures.jsonl` say what became of it.
"""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from srdist.images.decode import UnreadableImageError
from srdist.images.photo import probe_size
from srdist.machine.claims import Worker
from srdist.machine.errors import UserError
from srdist.machine.files import named_file
from srdist.machine.liveness import living
from srdist.networks.tilednetwork import TiledNetwork
from srdist.upscaling.imagefile import load, stores
from srdist.upscaling.job import Job, write_job
from srdist.upscaling.jobstate import Tally
from srdist.upscaling.maker import Maker
from srdist.upscaling.outputs import refuse_overlap_below
from srdist.upscaling.pipeline import Pipeline
from srdist.upscaling.plan import Inputs, Plan
from srdist.upscaling.receipts import Receipts
from srdist.upscaling.summary import UpscaleReport, write_summary
from srdist.upscaling.units import Units


class Watch:
    """Who looks on while a job is done; this one does nothing of what it sees."""

    def planning(self, probed: int, images: int) -> None:
        """Called every so often while sizes are read."""

    def working(self, tally: Tally) -> None:
        """Called twice a second or so with the state of the whole job."""

    def tell(self, line: str) -> None:
        """Called, from any thread, where nothing moves for a minute: who waits for what."""


def upscale_file(job: Job, tiled: TiledNetwork) -> tuple[str, ...]:
    """Upscale one image file into one file, whose suffix says the format; returns what was lost on the way."""
    source, destination = job.source, job.destination
    if destination.exists() and destination.samefile(source):
        raise UserError(f"{destination}: DST is SRC itself")
    if destination.exists() and not job.output.overwrite:
        raise UserError(f"{destination}: exists already; --overwrite replaces it")
    width, height = probe_size(source)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".srdist-", dir=destination.parent) as scratch:
        raws = (Path(scratch) / f"{i}.raw" for i in itertools.count())
        try:
            loaded = load(source, output_pixels=width * height * tiled.scale**2)
            (store,) = stores([loaded], tiled, raws)
        except UnreadableImageError as error:
            raise UnreadableImageError(f"{source}: {error}") from error
        with named_file(destination) as temporary:
            try:
                notes = store(temporary, suffix=destination.suffix.lower(), quality=job.output.quality)
            except ValueError as error:
                raise UserError(f"{destination}: {error}") from error
    return notes


def upscale_tree(
    job: Job,
    tiled: TiledNetwork,
    *,
    threads: int,
    watch: Watch | None = None,
    began: float | None = None,
    together: bool = False,
) -> UpscaleReport:
    """Upscale all images of a folder (or one file) into a folder, together with whoever else does the same.

    Returns when every image is done or has failed, whoever did it.

    Args:
        threads: for decoding, and as many for encoding.
        watch: None = nobody.
        began: when this process began, in seconds since 1970, for the job's rates; None = now.
        together: whether other ranks were started with this one: what they have made is made by this job.
    """
    watch = watch or Watch()
    began = time.time() if began is None else began
    with taking_part(job, watch=watch, since=began if together else math.inf) as maker:
        Pipeline(maker, Units(maker), tiled=tiled, threads=threads).run(watch.working, tell=watch.tell)
        return conclude(maker, began=began)


@contextmanager
def taking_part(job: Job, *, watch: Watch | None = None, since: float = math.inf) -> Iterator[Maker]:
    """This process among those that do a job: they know of it, and it knows the plan and what has been done.

    Args:
        since: as of Tally.

    Raises:
        UserError: SRC and DST overlap, or another job is at work in DST.
    """
    watch = watch or Watch()
    inputs = Inputs(job)
    paths = (inputs.output(i) if job.source.is_file() else inputs.paths[i] for i in range(len(inputs)))
    refuse_overlap_below(job.source, inputs.folder, paths, job.destination)
    purpose = f"{job.settings} {inputs.folder.resolve()}"
    with Worker(job.state, purpose=purpose) as worker:
        _refuse_another_job(job, worker, purpose)
        plan = Plan(inputs, cache=job.state / "plans", write=worker.write, show=watch.planning)
        write_job(job, write=worker.write)
        tally = Tally(plan, Receipts(job.state / "receipts"), job, run=worker.run, since=since)
        yield Maker(job, tally, worker)


def conclude(maker: Maker, *, began: float) -> UpscaleReport:
    """Write summary.json and failures.jsonl; what has become of the job.

    Args:
        began: when this process began, in seconds since 1970.
    """
    tally, worker = maker.tally, maker.worker
    report = tally.report(seconds=max(time.time() - began, worker.run_age_s()))
    write_summary(maker.job, report, tally.failures(), write=worker.write)
    return report


def _refuse_another_job(job: Job, worker: Worker, purpose: str) -> None:
    if worker.run_purpose in ("", purpose):
        return
    others = ", ".join(name for name in living(job.state) if name != worker.name)
    settings, _, folder = worker.run_purpose.partition(" ")
    what = (
        "with other weights or output options" if settings != job.settings else f"on the images of {folder}"
    )
    raise UserError(
        f"{job.destination}: a job {what} is at work in it ({others}): wait for its end, or choose another folder"
    )
