"""The commands: parse the call, hand it to the part that does the work, turn its errors into one line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from srdist import __version__
from srdist.errors import WorkError, told_in_one_line
from srdist.train import command as train_command

if TYPE_CHECKING:
    from srdist.photo import OutputFormat


class _Group(click.Group):
    """A group whose commands end in one line and an exit code where the user or the machine is at fault."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        with told_in_one_line():
            return super().main(*args, **kwargs)


def _warn(message: str) -> None:
    from srdist import ranks

    if ranks.is_main():
        click.echo(f"srdist: warning: {message}", err=True)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="srdist")
def main() -> None:
    """Train super-resolution networks on any number of GPUs, and upscale directories of images."""


main.add_command(train_command)


@main.group()
def config() -> None:
    """Configs: what a run is made of."""


@config.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="SECTION.FIELD=VALUE", help="Override a field.")
def show(path: Path, overrides: tuple[str, ...]) -> None:
    """Print the resolved config of PATH, every field with its meaning."""
    from srdist.config import describe, load

    section = ""
    for name, value, meaning in describe(load(path, overrides)):
        heading, _, field = name.partition(".")
        if heading != section:
            section = heading
            click.echo(f"{section}:")
        click.echo(f"  {f'{field}: {value}':<34} # {meaning}")


@main.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--images", type=click.Path(path_type=Path), required=True, help="Folder of the images.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to pack into.")
@click.option(
    "--split-file", type=click.Path(path_type=Path), help="The recipe's split file, if not beside the images."
)
@click.option("--allow-partial", is_flag=True, help="Exit 0 although images were left out.")
def pack(recipe: Path, images: Path, out: Path, split_file: Path | None, allow_partial: bool) -> None:
    """Pack the images below a folder into shards, as RECIPE (a YAML file) says."""
    from srdist.data.pack import pack as pack_images
    from srdist.data.recipe import read_recipe

    report = pack_images(read_recipe(recipe), images, out=out, split_file=split_file)
    _say_packed(out, report, allow_partial=allow_partial)


def _say_packed(out: Path, report: Any, *, allow_partial: bool) -> None:
    from srdist.data.manifest import LEFT_OUT

    held = ", ".join(f"{split} {samples:,}" for split, samples in report.samples.items())
    click.echo(f"{out}: {held} in {report.shards} shards, manifest {report.manifest_id[:12]}")
    if report.other_files:
        endings = ", ".join(f"{ending} {count}" for ending, count in report.other_files.items())
        click.echo(f"passed over, being no images by their ending: {endings}")
    if report.left_out:
        reasons = ", ".join(f"{kind} {count:,}" for kind, count in report.left_out.items())
        told = (
            f"{sum(report.left_out.values()):,} images were left out ({reasons}): listed in {out / LEFT_OUT}"
        )
        if not allow_partial:
            raise WorkError(f"{told}; the rest is packed, and --allow-partial takes that for a success")
        click.echo(told)


@main.group()
def shards() -> None:
    """Packed sets: check, describe, index, and show their order."""


@shards.command()
@click.argument("folder", metavar="DIR")
@click.option("--split", default="train", show_default=True, help="Split of the set.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), required=True, help="train.seed of the run.")
@click.option("--from", "start", type=click.IntRange(0), default=0, show_default=True, help="First position.")
@click.option("--count", type=click.IntRange(0), required=True, help="Number of positions.")
@click.option("--order", "mode", type=click.Choice(["global", "window"]), default="global", show_default=True)
@click.option("--window-shards", type=click.IntRange(1), default=8, show_default=True)
def order(folder: str, split: str, seed: int, start: int, count: int, mode: Any, window_shards: int) -> None:
    """Print the keys at positions FROM to FROM + COUNT of the training stream, one a line."""
    import numpy as np

    from srdist.data.order import make_order
    from srdist.data.shards import ShardIndex

    index = ShardIndex.open(folder, split)
    chosen = make_order(mode, shard_samples=index.shard_samples, window_shards=window_shards, seed=seed)
    for first in range(start, start + count, 10_000):
        for sample_id in chosen.ids(np.arange(first, min(first + 10_000, start + count))).tolist():
            click.echo(index.key(sample_id))


@shards.command()
@click.argument("folder", metavar="DIR")
def verify(folder: str) -> None:
    """Check every byte of a set: manifest, index, tars, and each image's checksum and pixels."""
    from srdist.data.verify import verify as verify_set
    from srdist.errors import WorkError

    report = verify_set(folder)
    for problem in report.problems:
        click.echo(problem)
    looked_at = (
        f"{folder}: {report.samples:,} samples in {report.shards} shards, manifest {report.manifest_id}"
    )
    if report.problems:
        raise WorkError(f"{looked_at}: {len(report.problems):,} problems")
    click.echo(f"{looked_at}: all right")


@shards.command()
@click.argument("folder", metavar="DIR")
def info(folder: str) -> None:
    """Describe a set: where it is from, its splits and their images, and what was left out."""
    from srdist.data.remote import Place
    from srdist.data.shards import read_manifest

    manifest = read_manifest(Place(folder))
    packed = "packed by srdist" if manifest.made_by == "pack" else "indexed, of another tool's tars"
    click.echo(f"{folder}: {manifest.source.name}, {manifest.source.images:,} images, {packed}")
    click.echo(f"manifest {manifest.manifest_id}")
    for name, entry in manifest.splits.items():
        (low_h, high_h), (low_w, high_w) = entry.heights, entry.widths
        sizes = (
            f"{low_w}x{low_h}"
            if (low_w, low_h) == (high_w, high_h)
            else f"{low_w}x{low_h} to {high_w}x{high_h}"
        )
        total = sum(shard.bytes for shard in entry.shards)
        click.echo(
            f"{name:<8} {entry.samples:>12,} samples  {len(entry.shards):>6,} shards  {total / 1e6:>12,.1f} MB  {sizes}"
        )
    for kind, count in manifest.left_out.items():
        click.echo(f"left out {count:>12,} images, {kind}")


@shards.command(name="index")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--split", help="Put all tars into this split (default: by their names).")
@click.option("--member", help="Take only members with this ending after the key, as in jpg or hr.png.")
@click.option("--allow-partial", is_flag=True, help="Exit 0 although images were left out.")
def index_command(folder: Path, split: str | None, member: str | None, allow_partial: bool) -> None:
    """Write index and manifest from the tars of DIR, also of tars that another tool wrote."""
    from srdist.data.indexing import index_tars

    _say_packed(folder, index_tars(folder, split=split, member=member), allow_partial=allow_partial)


KERNELS = click.Choice(["bicubic", "bilinear", "nearest", "box", "lanczos"])


@main.command()
@click.option(
    "--weights",
    metavar="W",
    help="Weights file, run folder or shipped name; without it the resamplings only.",
)
@click.option("--hr", required=True, metavar="DIR", help="Folder of HR images, or of packed shards.")
@click.option(
    "--lr",
    type=click.Path(path_type=Path),
    help="Folder of LR images of the same names; else LR is made from HR.",
)
@click.option("--split", metavar="NAME", help="Split of packed shards.  [default: test]")
@click.option("--kernel", type=KERNELS, help="Kernel that makes LR.  [default: the weights' own]")
@click.option(
    "--scale", type=click.IntRange(2, 8), help="Factor between LR and HR; needed without --weights only."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
@click.option("--markdown", is_flag=True, help="Print a Markdown table.")
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(path_type=Path),
    help="Also write the scores of each image to this file.",
)
def evaluate(
    weights: str | None,
    hr: str,
    lr: Path | None,
    split: str | None,
    kernel: Any,
    scale: int | None,
    as_json: bool,
    markdown: bool,
    csv_file: Path | None,
) -> None:
    """Score a network on a folder of images or on packed shards, beside the plain resamplings.

    Also runs on several ranks, with the identical result: accelerate launch ... -m srdist evaluate ...
    """
    import json

    from srdist import qualitytable, ranks
    from srdist.wholefile import write_bytes

    with ranks.process_group() as device:
        table = qualitytable.evaluate(
            weights, hr, lr=lr, split=split, scale=scale, kernel=kernel, device=device, warn=_warn
        )
        if ranks.is_main():
            if as_json:
                click.echo(json.dumps(qualitytable.as_json(table), allow_nan=False))
            else:
                click.echo(qualitytable.as_markdown(table) if markdown else qualitytable.as_text(table))
            for failure in table.failures:
                click.echo(f"srdist: {failure.name}: {failure.reason}", err=True)
            if table.failures:
                total = len(table.failures) + len(table.rows)
                click.echo(
                    f"srdist: {len(table.failures)} of {total} images could not be evaluated", err=True
                )
            if csv_file is not None:
                write_bytes(csv_file, qualitytable.as_csv(table).encode())
    if table.failures:
        click.get_current_context().exit(1)


@main.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--weights", metavar="W", help="Weights file, run folder or shipped name.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The figure, a PNG.")
@click.option(
    "--methods",
    metavar="A,B,...",
    help="A contact sheet with error maps instead: of resamplings and weights.",
)
@click.option("--kernel", type=KERNELS, help="Kernel that makes LR.  [default: the weights' own]")
@click.option(
    "--scale", type=click.IntRange(2, 8), help="Factor between LR and HR; needed without weights only."
)
def compare(
    image: Path, weights: str | None, out: Path, methods: str | None, kernel: Any, scale: int | None
) -> None:
    """Draw IMAGE, made small, and enlarged again: original | low resolution | bicubic | super resolution, with a zoom.

    The last of --methods is the one that the zoom shows at its best.
    """
    from srdist import ranks
    from srdist.compare import compare as draw
    from srdist.compare import save_figure

    names = [name.strip() for name in methods.split(",") if name.strip()] if methods else None
    with ranks.process_group() as device:
        picture = draw(image, names, weights, scale=scale, kernel=kernel, device=device, warn=_warn)
        save_figure(out, picture)
    click.echo(str(out))


def _status(context: click.Context, _option: click.Parameter, dst: Path | None) -> None:
    if dst is not None:
        from srdist.upscalecommand import status

        context.exit(status(dst))


@main.command()
@click.argument("src", type=click.Path(path_type=Path))
@click.argument("dst", type=click.Path(path_type=Path))
@click.option(
    "--status",
    type=click.Path(path_type=Path),
    metavar="DST",
    is_eager=True,
    expose_value=False,
    callback=_status,
    help="Say how far the job in DST is, and do nothing.",
)
@click.option(
    "--weights",
    default="srcnn_x2",
    show_default=True,
    metavar="W",
    help="Weights file, run folder or shipped name.",
)
@click.option(
    "--tile", default="auto", show_default=True, metavar="N|auto", help="Side of a tile in input pixels."
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
    "--shard", metavar="I/N", help="Begin at the I-th of N parts, I from 0 (processes sharing one DST)."
)
def upscale(
    src: Path,
    dst: Path,
    weights: str,
    tile: str,
    overwrite: bool,
    output_format: OutputFormat | None,
    quality: int,
    shard: str | None,
) -> None:
    """Enlarge the images of folder SRC, and all below it, into the same tree under DST.

    SRC may be one image; then DST may be one too. Run it with `accelerate launch -m srdist upscale ...` on several
    GPUs or cores, or several times at once on one DST: each image is made once. The same command again makes what is
    missing or has changed. DST/failures.jsonl lists what could not be done, and the exit code is then 1.
    """
    from srdist.upscalecommand import run

    sys.exit(
        run(
            src,
            dst,
            weights=weights,
            tile=tile,
            shard=shard,
            output_format=output_format,
            quality=quality,
            overwrite=overwrite,
        )
    )


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The HTML file.  [default: report.html in RUN]")
def report(run: Path, out: Path | None) -> None:
    """Show the run in folder RUN as one HTML file: curves, samples, scores, sessions, config. Works offline."""
    from srdist.report import write_report

    click.echo(str(write_report(run, out)))


@main.command()
@click.argument("weights")
@click.option("--onnx", "out", required=True, type=click.Path(path_type=Path), help="The ONNX file to write.")
def export(weights: str, out: Path) -> None:
    """Write WEIGHTS (a file, run folder or shipped name) in another format, for programs without torch."""
    from srdist.onnxfile import export_onnx
    from srdist.weightfile import load_weights

    network, info = load_weights(weights)
    export_onnx(network, info, out)
    click.echo(str(out))
