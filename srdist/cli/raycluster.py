"""`srdist ray upscale`: the options of `srdist upscale`, on the nodes of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from srdist.machine import stopping
from srdist.machine.errors import UserError
from srdist.machine.raycluster import Grant, connected, here


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    required=True,
    metavar="N",
    help="Processes (actors).",
)
@click.option(
    "--cpus",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Of each: Ray keeps them for it, and it computes with as many threads.",
)
@click.option(
    "--gpus",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    metavar="N",
    help="Of each, 0 to 1: a part of one is for several processes to a GPU.",
)
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    metavar="N",
    help="Times that units are handed out again after the process that had them was lost.",
)
@click.option(
    "--address",
    default="auto",
    show_default=True,
    metavar="HOST:PORT|auto|local",
    help="Of the cluster; auto: RAY_ADDRESS, else the one started here; local: this machine alone.",
)
@click.pass_context
def ray(context: click.Context, /, workers: int, cpus: int, gpus: float, retries: int, address: str) -> None:
    """Work on a Ray cluster, which starts the processes (pip install 'srdist[ray]').

    All nodes must have srdist, and share the folders of the call.
    """
    context.obj = Grant(workers, cpus, gpus), retries, address


def with_options_of(like: click.Command, callback: Callable[..., None], what: str) -> click.Command:
    """A command of the same name and options as another, which does its work on the cluster."""
    params = [param for param in like.params if param.expose_value]
    return click.Command(
        like.name,
        callback=callback,
        params=params,
        help=f"{what}\n\nThe options are those of srdist {like.name}.",
    )


@click.pass_obj
def upscale_on_cluster(
    obj: tuple[Grant, int, str],
    /,
    src: Path,
    dst: Path,
    weights: str,
    tile: str,
    precision: Any,
    overwrite: bool,
    output_format: Any,
    quality: int,
    part: str | None,
) -> None:
    from srdist.cli.upscale import Shown, describe, parse_tile
    from srdist.machine.liveness import process_began
    from srdist.machine.progressbar import ProgressBar
    from srdist.networks.foreign import load_network
    from srdist.upscaling.job import Job, Output
    from srdist.upscaling.raycluster import Order, upscale_on_ray

    grant, retries, address = obj
    if part is not None:
        raise UserError(f"--part {part}: the actors share the images out by themselves")
    tile_side = parse_tile(tile)
    network = load_network(weights)
    digest = network.digest()
    job = Job.of(
        src, dst, output=Output(output_format, quality, overwrite), weights_digest=digest, precision=precision
    )
    if not src.is_dir():
        raise UserError(f"{src}: is one image; expected a folder (srdist upscale makes a single image here)")
    order = Order(job, weights, digest, tile_side, precision, here())
    with (
        connected(address),
        stopping.ending("the same command goes on"),
        ProgressBar("listing images", visible=True) as bar,
    ):
        report, numbers = upscale_on_ray(
            order, grant, retries=retries, watch=Shown(bar), began=process_began()
        )
    click.echo(describe(report, dst, scale=network.scale, numbers=numbers))
    click.get_current_context().exit(1 if report.failed or report.folders_not_listed else 0)
