"""The commands: parse the call, hand it to the part that does the work, turn its errors into one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from srdist.cli.blend import blend
from srdist.cli.completion import complete_weights, completion
from srdist.cli.degrade import degrade as degrade_command
from srdist.cli.doctor import doctor, version_lines
from srdist.cli.quality import compare, evaluate
from srdist.cli.raycluster import ray, upscale_on_cluster, with_options_of
from srdist.cli.shards import pack, shards
from srdist.cli.sweep import sweep
from srdist.machine import stopping
from srdist.machine.errors import errors_in_one_line
from srdist.machine.redaction import redacted
from srdist.settings.places import LOCAL_PATH, refuse_input
from srdist.train import command as train_command

if TYPE_CHECKING:
    from srdist.images.photo import OutputFormat


class _Group(click.Group):
    """A group whose commands end in one line and an exit code where the user or the machine is at fault."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _redacted_usage():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        # Inside of click's own main, which would end an interrupt with exit code 1.
        with _redacted_usage(), stopping.ending(), errors_in_one_line():
            return super().invoke(ctx)


@contextmanager
def _redacted_usage() -> Iterator[None]:
    """Click's own errors repeat what was typed."""
    try:
        yield
    except click.UsageError as error:
        error.message = redacted(error.message)  # type: ignore[misc]  # final for readers; what else it says stays
        raise


def _version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        for line in version_lines():
            click.echo(line)
        context.exit()


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Say which srdist, torch and devices these are.",
)
def main() -> None:
    """Train super-resolution networks on any number of GPUs, and upscale directories of images."""


for command in (
    pack,
    shards,
    evaluate,
    compare,
    sweep,
    train_command,
    degrade_command,
    blend,
    doctor,
    completion,
    ray,
):
    main.add_command(command)


@main.group()
def config() -> None:
    """Configs: what a run is made of."""


@config.command()
@click.argument("path", type=LOCAL_PATH)
@click.argument("fields", nargs=-1, metavar="[SECTION.FIELD=VALUE]...")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.FIELD=VALUE", help="Override a field.")
def show(path: Path, fields: tuple[str, ...], overrides: tuple[str, ...]) -> None:
    """Print the resolved config of PATH, every field with its meaning."""
    from srdist.config import describe, load

    section = ""
    for name, value, meaning in describe(load(path, (*overrides, *fields))):
        heading, _, field = name.partition(".")
        if heading != section:
            section = heading
            click.echo(f"{section}:")
        click.echo(f"  {f'{field}: {value}':<34} # {meaning}")


def _status(context: click.Context, _option: click.Parameter, dst: Path | None) -> None:
    if dst is not None:
        from srdist.cli.upscale import status

        context.exit(status(dst))


@main.command()
@click.argument("src", type=click.Path(path_type=Path))
@click.argument("dst", type=click.Path(path_type=Path))
@click.option(
    "--status",
    type=LOCAL_PATH,
    metavar="DST",
    is_eager=True,
    expose_value=False,
    callback=_status,
    help="Say how far the job in DST is, and do nothing.",
)
@click.option(
    "--weights",
    default="fast_x2",
    show_default=True,
    metavar="W",
    shell_complete=complete_weights,
    help="Weights file, run folder or the name of bundled weights.",
)
@click.option(
    "--tile", default="auto", show_default=True, metavar="N|auto", help="Side of a tile in input pixels."
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="Of the convolutions; auto: bf16 where the device has it natively, else fp32.",
)
@click.option("--overwrite", is_flag=True, help="Also replace files in DST that srdist did not make.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["png", "jpg", "webp"]),
    help="Of the outputs [default: as input].",
)
@click.option(
    "--quality", type=click.IntRange(1, 100), default=95, show_default=True, help="Of JPEG and WebP."
)
@click.option(
    "--part",
    "--shard",
    metavar="I/N",
    help="Begin at the I-th of N parts, I from 0 (processes sharing one DST).",
)
def upscale(
    src: Path,
    dst: Path,
    weights: str,
    tile: str,
    precision: Any,
    overwrite: bool,
    output_format: OutputFormat | None,
    quality: int,
    part: str | None,
) -> None:
    """Upscale the images of folder SRC, and all below it, into the same tree under DST.

    SRC may be one image; then DST may be one too. Run it with `accelerate launch -m srdist upscale ...` on several
    GPUs or cores, or several times at once on one DST: each image is made once. The same command again makes what is
    missing or has changed. DST/failures.jsonl lists what could not be done, and the exit code is then 1.
    """
    from srdist.cli.upscale import run

    sys.exit(
        run(
            src,
            dst,
            weights=weights,
            tile=tile,
            precision=precision,
            part=part,
            output_format=output_format,
            quality=quality,
            overwrite=overwrite,
        )
    )


ray.add_command(
    with_options_of(upscale, upscale_on_cluster, "Upscale the images of folder SRC on actors of the cluster.")
)


@main.command()
@click.argument("runs", nargs=-1, required=True, type=LOCAL_PATH, metavar="RUN...")
@click.option(
    "--out",
    type=LOCAL_PATH,
    help="The HTML file; one that is there is replaced. Needed for several runs.  [default: report.html in RUN]",
)
def report(runs: tuple[Path, ...], out: Path | None) -> None:
    """Show the run or the sweep in folder RUN as one HTML file, or several runs side by side. Works offline.

    A run: curves, samples, scores, sessions, config. A sweep: what mattered, the curves of all trials, what became of
    each. Several runs: one table, their curves laid over one another, the same samples, what their configs differ in.
    """
    from srdist.report.page import write_report
    from srdist.report.sidebyside import write_side_by_side
    from srdist.report.sweeppage import write_sweep_report
    from srdist.report.sweeprecord import is_sweep

    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        refuse_input("--out", out, (path for run in runs for path in run.rglob("*") if path.is_file()))
    if len(runs) > 1:
        if out is None:
            raise click.UsageError(f"--out FILE is needed for {len(runs)} runs: each has its own report.html")
        click.echo(str(write_side_by_side(runs, out)))
        return
    (run,) = runs
    click.echo(str(write_sweep_report(run, out) if is_sweep(run) else write_report(run, out)))


@main.command()
@click.argument("weights", shell_complete=complete_weights)
@click.option(
    "--onnx", type=LOCAL_PATH, help="An ONNX file, for programs without torch; one that is there is replaced."
)
@click.option(
    "--spandrel",
    type=LOCAL_PATH,
    help="A .safetensors file for programs built on spandrel (chaiNNer, ComfyUI and others); one that is there is replaced.",
)
def export(weights: str, onnx: Path | None, spandrel: Path | None) -> None:
    """Write WEIGHTS (a file, run folder or the name of bundled weights) in a format of other programs."""
    if (onnx is None) == (spandrel is None):
        raise click.UsageError("give one of --onnx FILE and --spandrel FILE")
    from srdist.networks.onnxfile import export_onnx
    from srdist.networks.spandrelfile import export_spandrel
    from srdist.networks.weightfile import find_weights, load_weights

    out = onnx or spandrel
    assert out is not None
    refuse_input("--onnx" if onnx else "--spandrel", out, [find_weights(weights)])
    network, info = load_weights(weights)
    if onnx is not None:
        export_onnx(network, info, onnx)
    else:
        export_spandrel(network, info, out)
    click.echo(str(out))
