"""The commands `srdist evaluate` and `srdist compare`: how good a network is, in figures and in a figure."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from srdist.cli.completion import complete_weights
from srdist.images.kernels import Kernel
from srdist.machine.errors import UserError
from srdist.settings.places import LOCAL_PATH, refuse_input

if TYPE_CHECKING:
    from srdist.degradations.section import DegradationSection

_MEASURES = "sharpness, spectrum, consistency, lpips, dists, or all that can be taken here"
KERNELS = click.Choice(get_args(Kernel))


def _of_kernel(kernel: Any) -> DegradationSection | None:
    from srdist.degradations.config import KernelConfig

    return KernelConfig(kernel=kernel) if kernel is not None else None


@click.command()
@click.option(
    "--weights",
    shell_complete=complete_weights,
    metavar="W",
    help="Weights file, run folder or the name of bundled weights; without it the resamplings only.",
)
@click.option("--hr", required=True, metavar="DIR", help="Folder of HR images, or of packed shards.")
@click.option(
    "--lr",
    type=LOCAL_PATH,
    help="Folder of LR images of the same names; else LR is made from HR.",
)
@click.option("--split", metavar="NAME", help="Split of packed shards.  [default: test]")
@click.option("--kernel", type=KERNELS, help="Kernel that makes LR.  [default: the weights' own]")
@click.option(
    "--degrade",
    type=click.Choice(["mild", "medium", "strong"]),
    help="Make LR as files of the world are, in one of three ways that are equal for everybody.",
)
@click.option(
    "--scale", type=click.IntRange(2, 8), help="Factor between LR and HR; needed without --weights only."
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="Of the convolutions; auto: what srdist upscale takes on this machine.",
)
@click.option(
    "--measures",
    metavar="A,B,...",
    help=f"Beside PSNR-Y, SSIM-Y and RMSE: {_MEASURES}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
@click.option("--markdown", is_flag=True, help="Print a Markdown table.")
@click.option(
    "--csv",
    "csv_file",
    type=LOCAL_PATH,
    help="Also write the scores of each image to this file; one that is there is replaced.",
)
def evaluate(
    weights: str | None,
    hr: str,
    lr: Path | None,
    split: str | None,
    kernel: Any,
    degrade: Any,
    scale: int | None,
    precision: Any,
    measures: str | None,
    as_json: bool,
    markdown: bool,
    csv_file: Path | None,
) -> None:
    """Score a network on a folder of images or on packed shards, beside the plain resamplings.

    Also runs on several ranks, with the identical result: accelerate launch ... -m srdist evaluate ...
    """
    import json

    from srdist.machine import ranks
    from srdist.machine.files import write_named
    from srdist.networks.weightfile import find_weights
    from srdist.quality import printed
    from srdist.quality import table as qualitytable
    from srdist.quality.measures import parse_names

    made_by = _of_kernel(kernel)
    if degrade is not None:
        from srdist.degradations.fixed import fixed

        if made_by is not None:
            raise UserError(f"--kernel {kernel} and --degrade {degrade} both make LR: leave one out")
        made_by = fixed(degrade)
    if csv_file is not None:
        read = [Path(place) for place in (hr, lr) if place is not None]
        files = (file for place in read for file in (place, *place.rglob("*")))
        refuse_input("--csv", csv_file, chain([find_weights(weights)] if weights else [], files))
    with ranks.process_group() as device:
        table = qualitytable.evaluate(
            qualitytable.Evaluation(
                weights,
                hr,
                lr=lr,
                split=split,
                scale=scale,
                made_by=made_by,
                precision=precision,
                measures=() if measures is None else parse_names(measures),
            ),
            device=device,
            warn=_warn,
        )
        if ranks.is_main():
            if as_json:
                click.echo(json.dumps(printed.as_json(table), allow_nan=False))
            else:
                click.echo(printed.as_markdown(table) if markdown else printed.as_text(table))
            for failure in table.failures:
                click.echo(f"srdist: {failure.name}: {failure.reason}", err=True)
            if table.failures:
                total = len(table.failures) + len(table.rows)
                click.echo(
                    f"srdist: {len(table.failures)} of {total} images could not be evaluated", err=True
                )
            if csv_file is not None:
                write_named(csv_file, printed.as_csv(table).encode())
    if table.failures:
        click.get_current_context().exit(1)


@click.command()
@click.argument("image", type=LOCAL_PATH)
@click.option(
    "--weights",
    metavar="W",
    shell_complete=complete_weights,
    help="Weights file, run folder or the name of bundled weights.",
)
@click.option(
    "--out", required=True, type=LOCAL_PATH, help="The figure, a PNG; one that is there is replaced."
)
@click.option(
    "--methods",
    metavar="A,B,...",
    help="A contact sheet with error maps instead: of resamplings and weights.",
)
@click.option("--kernel", type=KERNELS, help="Kernel that makes LR.  [default: the weights' own]")
@click.option(
    "--scale", type=click.IntRange(2, 8), help="Factor between LR and HR; needed without weights only."
)
@click.option("--measures", metavar="A,B,...", help=f"Below PSNR and RMSE: {_MEASURES}.")
def compare(
    image: Path,
    weights: str | None,
    out: Path,
    methods: str | None,
    kernel: Any,
    scale: int | None,
    measures: str | None,
) -> None:
    """Draw IMAGE, made small, and upscaled again: original | low resolution | bicubic | super resolution, with a zoom.

    The last of --methods is the one that the zoom shows at its best.
    """
    from srdist.machine import ranks
    from srdist.quality.figure import compare as draw
    from srdist.quality.figure import save_figure
    from srdist.quality.measures import parse_names

    names = [name.strip() for name in methods.split(",") if name.strip()] if methods else None
    refuse_input("--out", out, [image])
    with ranks.process_group() as device:
        picture = draw(
            image,
            names,
            weights,
            scale=scale,
            made_by=_of_kernel(kernel),
            measures=() if measures is None else parse_names(measures),
            device=device,
            warn=_warn,
        )
        save_figure(out, picture)
    click.echo(str(out))


def _warn(message: str) -> None:
    from srdist.machine import ranks

    if ranks.is_main():
        click.echo(f"srdist: warning: {message}", err=True)
