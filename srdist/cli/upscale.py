"""`srdist upscale` as a process: options checked, network and device set up, progress and the closing line printed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from srdist.images.folder import describe_others
from srdist.images.photo import OutputFormat
from srdist.machine import stopping
from srdist.machine.clock import clock
from srdist.machine.device import configure_threads, pick_device
from srdist.machine.errors import OwnError, UserError, system_error
from srdist.machine.files import whole_file
from srdist.machine.launcher import Launch
from srdist.machine.liveness import living, process_began
from srdist.machine.progressbar import ProgressBar
from srdist.networks.foreign import load_network
from srdist.networks.precision import Precision, name_of
from srdist.networks.tilednetwork import TiledNetwork
from srdist.networks.weightfile import note_on
from srdist.upscaling.job import Job, Output, read_job
from srdist.upscaling.jobstate import Tally
from srdist.upscaling.plan import Inputs, Plan
from srdist.upscaling.receipts import Receipt, Receipts
from srdist.upscaling.summary import UpscaleReport, closing_file
from srdist.upscaling.tree import Watch, upscale_file, upscale_tree

RECENT_S = 60.0
"""Time over which `--status` takes the rate."""


def run(
    source: Path,
    destination: Path,
    *,
    weights: str,
    tile: str,
    precision: Precision,
    part: str | None,
    output_format: OutputFormat | None,
    quality: int,
    overwrite: bool,
) -> int:
    """Do what the command line says; the exit code, 0 or 1 (see cli.upscale)."""
    launch = Launch.of(os.environ, part_of=_parse_part(part))
    tile_side = parse_tile(tile)
    cores = configure_threads(None)
    network = load_network(weights)
    if (note := note_on(weights)) is not None and launch.rank == 0:
        click.echo(f"srdist: warning: {note}", err=True)
    output = Output(output_format, quality, overwrite)
    job = Job.of(
        source,
        destination,
        output=output,
        weights_digest=network.digest(),
        precision=precision,
        share=launch.share,
    )
    main = launch.rank == 0
    bar = ProgressBar("listing images", visible=main)
    tiled = TiledNetwork(
        network, device=pick_device(launch), tile=tile_side, precision=precision, tell=bar.say
    )
    if job.into_one_file:
        for note in upscale_file(job, tiled):
            click.echo(f"srdist: {source}: {note}", err=True)
        return 0
    with stopping.ending("the same command goes on"), bar:
        try:
            report = upscale_tree(
                job,
                tiled,
                threads=max(2, cores),
                watch=Shown(bar),
                began=process_began(),
                together=launch.world > 1,
            )
        except OSError as error:
            if error.errno is None:
                raise
            raise OwnError(system_error(error)) from error  # ranks do not talk here: each tells its own
    if main:
        click.echo(describe(report, destination, scale=network.scale, numbers=name_of(tiled.number_type)))
        return 1 if report.failed or report.folders_not_listed else 0
    # The first rank's exit code is the launch's: a launcher stops all ranks as soon as one exits with another than 0.
    return 0


def status(destination: Path) -> int:
    """Print how far the job in DST is; 0 where all is done, else 1."""
    job = read_job(destination)

    def write(path: Path, data: bytes) -> None:
        with whole_file(path, scratch=job.state) as temporary:
            temporary.write_bytes(data)

    plan = Plan(Inputs(job), cache=job.state / "plans", write=write)
    tally = Tally(plan, Receipts(job.state / "receipts"), job, run=0)
    tally.look()
    report, remaining = tally.report(seconds=0.0), tally.count(Tally.OPEN)
    workers = living(job.state)
    click.echo(
        f"{destination}: {report.done} of {report.images} images done, {report.failed} failed, {remaining} to do"
    )
    click.echo(f"{len(workers)} processes at work" + "".join(f"\n  {name}" for name in workers))
    recent = _recently_done(job.state) if workers else []
    if recent:
        seconds = max(time.time() - min(r.time - r.seconds for r in recent), 1.0)
        pixels_per_s = sum(r.pixels for r in recent) / seconds
        open_pixels = sum(
            pixels for pixels, kind in zip(plan.pixels, tally.state, strict=True) if kind == Tally.OPEN
        )
        click.echo(
            f"of late {len(recent) / seconds:.1f} images/s, {pixels_per_s / 1e6:.2f} input megapixels/s, "
            f"{clock(open_pixels / max(pixels_per_s, 1e-9))} left"
        )
    for path, reason in tally.failures():
        click.echo(f"failed: {path}: {reason}")
    return 1 if remaining or report.failed or report.folders_not_listed else 0


def _recently_done(state: Path) -> list[Receipt]:
    since = time.time() - RECENT_S
    receipts = (receipt for _, receipt in Receipts(state / "receipts").refresh())
    return [receipt for receipt in receipts if receipt.status == "done" and receipt.time > since]


def describe(report: UpscaleReport, destination: Path, *, scale: int, numbers: str = "fp32") -> str:
    """The closing line, and what the user should know of."""
    parts = [f"{report.done} of {report.images} images x{scale} in {destination}"]
    if report.done > report.computed:
        parts.append(f"{report.done - report.computed} were there already")
    if report.computed:
        parts.append(
            f"{report.computed} made in {report.seconds:.1f} s: {report.computed / report.seconds:.1f} images/s, "
            f"{report.megapixels / report.seconds:.2f} input megapixels/s, computed in "
            f"{numbers}"
        )
    lines = ["; ".join(parts)]
    if report.notes:
        lines.append(
            f"{report.notes} outputs do not hold all of their input: see notes in {destination}/.srdist/receipts"
        )
    if report.links_not_followed:
        lines.append(f"links that lead back up were not followed: {', '.join(report.links_not_followed)}")
    if report.skipped:
        lines.append(f"skipped: not an image extension: {describe_others(report.skipped)}")
    if report.failed:
        lines.append(f"{report.failed} failed: see {closing_file(destination, 'failures.jsonl')}")
    if count := report.folders_not_listed:
        folders = "folder" if count == 1 else "folders"
        lines.append(
            f"{count} {folders} could not be listed: see {closing_file(destination, 'failures.jsonl')}"
        )
    return "\n".join(lines)


class Shown(Watch):
    """The whole job on a progress bar."""

    def __init__(self, bar: ProgressBar) -> None:
        self._bar = bar
        self._began = time.monotonic()

    def planning(self, probed: int, images: int) -> None:
        """Draw how many images' sizes are known."""
        self._bar.show(probed, images, title="reading sizes", rate="")

    def tell(self, line: str) -> None:
        """Say it, above the bar."""
        self._bar.say(line)

    def working(self, tally: Tally) -> None:
        """Draw the job's state: images and megapixels a second, and the time left by pixels."""
        seconds = max(time.monotonic() - self._began, 1e-3)
        made = tally.computed_pixels
        rate = f"{tally.computed / seconds:.1f} images/s, {made / 1e6 / seconds:.2f} MP/s"
        if made:
            rate += f", {clock(max(tally.open_pixels_at_start - made, 0) * seconds / made)} left"
        settled = len(tally.plan) - tally.count(Tally.OPEN)
        self._bar.show(settled, len(tally.plan), title="upscaling", rate=rate)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()  # isdigit holds for superscripts too, which int() refuses


def parse_tile(text: str) -> int | None:
    """Side of a tile in input pixels, None for auto; a UserError for anything else."""
    if text == "auto":
        return None
    if not _is_number(text) or int(text) < 1:
        raise UserError(f"--tile {text}: expected auto or a number of input pixels, 1 or more")
    return int(text)


def _parse_part(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    index, slash, count = text.partition("/")
    if not (slash and _is_number(index) and _is_number(count) and int(index) < int(count)):
        raise UserError(f"--part {text}: expected I/N with I from 0 to N-1, as in 0/4")
    return int(index), int(count)
