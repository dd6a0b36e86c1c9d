"""The commands `srdist pack` and `srdist shards`: images into packed sets, and what packed sets hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from srdist.machine.errors import UserError, WorkError
from srdist.machine.redaction import redacted
from srdist.settings.places import LOCAL_PATH, PLACE


@click.command()
@click.argument("recipe", type=LOCAL_PATH)
@click.option("--images", type=LOCAL_PATH, required=True, help="Folder of the images.")
@click.option(
    "--lr",
    type=LOCAL_PATH,
    help="Folder of their LR images, of the same names: packs pairs.  [default: HR alone]",
)
@click.option("--out", type=PLACE, required=True, help="Folder, or fsspec URL, to pack into.")
@click.option("--split-file", type=LOCAL_PATH, help="The recipe's split file, if not beside the images.")
@click.option("--allow-partial", is_flag=True, help="Exit 0 although images were left out.")
def pack(
    recipe: Path, images: Path, lr: Path | None, out: Path | str, split_file: Path | None, allow_partial: bool
) -> None:
    """Pack the images below a folder into shards, as RECIPE (a YAML file) says."""
    from srdist.shards.pack import pack as pack_images
    from srdist.shards.recipe import read_recipe

    what = read_recipe(recipe)
    if isinstance(out, str):
        from srdist.shards.upload import pack_to_store

        report = pack_to_store(what, images, out=out, lr=lr, split_file=split_file)
    else:
        report = pack_images(what, images, out=out, lr=lr, split_file=split_file)
    _say_packed(str(out), report, allow_partial=allow_partial)


def _say_packed(out: str, report: Any, *, allow_partial: bool) -> None:
    from srdist.images.folder import describe_others
    from srdist.shards.manifest import LEFT_OUT
    from srdist.shards.remote import Place

    place = Place(out)
    held = ", ".join(f"{split} {samples:,}" for split, samples in report.samples.items())
    pairs = f", pairs x{report.lr_scale}" if report.lr_scale is not None else ""
    click.echo(f"{place.shown}: {held} in {report.shards} shards{pairs}, manifest {report.manifest_id[:12]}")
    if report.other_files:
        click.echo(f"skipped: not an image extension: {describe_others(report.other_files)}")
    asked = report.left_out_as_asked
    if asked:
        click.echo(f"{_left_out(asked)} as the recipe says: listed in {place.path_of(LEFT_OUT)}")
    if unasked := {kind: count for kind, count in report.left_out.items() if kind not in asked}:
        summary = f"{_left_out(unasked)}: listed in {place.path_of(LEFT_OUT)}"
        if not allow_partial:
            raise WorkError(f"{summary}; the rest is packed, and --allow-partial takes that for a success")
        click.echo(summary)


def _left_out(counts: dict[str, int]) -> str:
    reasons = ", ".join(f"{kind} {count:,}" for kind, count in counts.items())
    return f"{sum(counts.values()):,} images were left out ({reasons})"


@click.group()
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
@click.option("--patches-per-image", "patches", type=click.IntRange(1, 4096), default=1, show_default=True)
def order(
    folder: str, split: str, seed: int, start: int, count: int, mode: Any, window_shards: int, patches: int
) -> None:
    """Print the keys at positions FROM to FROM + COUNT of the training stream, one a line."""
    import numpy as np

    from srdist.shards.reader import ShardIndex
    from srdist.stream.order import MAX_POSITION, make_order

    if start + count > MAX_POSITION:
        raise UserError(f"--from {start} --count {count}: positions are below 2^63 - 1 = {MAX_POSITION}")
    index = ShardIndex.open(folder, split)
    chosen = make_order(
        mode,
        shard_samples=index.shard_samples,
        window_shards=window_shards,
        seed=seed,
        patches_per_image=patches,
    )
    for first in range(start, start + count, 10_000):
        for sample_id in chosen.ids(np.arange(first, min(first + 10_000, start + count))).tolist():
            click.echo(index.key(sample_id))


@shards.command()
@click.argument("folder", metavar="DIR")
def verify(folder: str) -> None:
    """Check every byte of a set: manifest, index, tars, and each image's checksum and pixels."""
    from srdist.shards.verify import verify as verify_set

    report = verify_set(folder)
    for problem in report.problems:
        click.echo(problem)
    looked_at = f"{redacted(folder)}: {report.samples:,} samples in {report.shards} shards, manifest {report.manifest_id}"
    if report.problems:
        raise WorkError(f"{looked_at}: {len(report.problems):,} problems")
    click.echo(f"{looked_at}: all right")


@shards.command()
@click.argument("folder", metavar="DIR")
def info(folder: str) -> None:
    """Describe a set: where it is from, its splits and their images, and what was left out."""
    from srdist.shards.reader import read_manifest
    from srdist.shards.remote import Place

    manifest = read_manifest(Place(folder))
    packed = "packed by srdist" if manifest.made_by == "pack" else "indexed, of another tool's tars"
    what = f"{manifest.source.images:,} images"
    if manifest.lr_scale is not None:
        what += f", pairs of HR and LR at x{manifest.lr_scale}"
    click.echo(f"{redacted(folder)}: {manifest.source.name}, {what}, {packed}")
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
@click.argument("folder", metavar="DIR", type=LOCAL_PATH)
@click.option("--split", help="Put all tars into this split (default: by their names).")
@click.option("--member", help="Take only members with this ending after the key, as in jpg or hr.png.")
@click.option(
    "--lr-member", help="Index pairs: the ending of the LR image beside each --member, as in lr.png or lr.*."
)
@click.option(
    "--scale", type=click.IntRange(2, 8), help="Of the pairs, where not all have one; the rest is left out."
)
@click.option("--allow-partial", is_flag=True, help="Exit 0 although images were left out.")
def index_command(
    folder: Path,
    split: str | None,
    member: str | None,
    lr_member: str | None,
    scale: int | None,
    allow_partial: bool,
) -> None:
    """Write index and manifest from the tars of DIR, also of tars that another tool wrote."""
    from srdist.shards.indexing import index_tars

    report = index_tars(folder, split=split, member=member, lr_member=lr_member, scale=scale)
    _say_packed(str(folder), report, allow_partial=allow_partial)
