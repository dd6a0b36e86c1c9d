"""The command `srdist degrade`: what a config's degradation makes of images, to be looked at."""

from __future__ import annotations

from pathlib import Path

import click

from srdist.machine.errors import WorkError
from srdist.settings.places import LOCAL_PATH


@click.command()
@click.argument("source", metavar="IMAGE|FOLDER", type=LOCAL_PATH)
@click.option("--config", type=LOCAL_PATH, required=True, help="The run's config.")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.FIELD=VALUE", help="Override a field.")
@click.option("--out", type=LOCAL_PATH, required=True, help="Folder for patches and sheet.")
@click.option("--count", type=click.IntRange(1, 1000), default=12, show_default=True, help="Patches in all.")
def degrade(source: Path, config: Path, overrides: tuple[str, ...], out: Path, count: int) -> None:
    """Write what training by a config would see of IMAGE, or of the images in FOLDER: patches as PNG, and a sheet.

    OUT/sheet.png shows LR beside HR with what was drawn under each pair; OUT/lr and OUT/hr have the patches, and
    OUT/drawn.jsonl has the words. With data.hr_patch null the images are whole.
    """
    from srdist.config import load
    from srdist.images.decode import UnreadableImageError, decode_rgb
    from srdist.images.folder import read_regular
    from srdist.quality.degraded import Degraded, degraded_patches, write_patches
    from srdist.quality.testset import find_images

    run = load(config, overrides)
    degradation = run.data.how_degraded.build(scale=run.model.scale)
    files, failures = find_images(source)
    chosen = list(files.items())[:count]
    complaints = [f"{failure.name}: {failure.reason}" for failure in failures]
    patches: list[Degraded] = []
    for place, (name, path) in enumerate(chosen):
        mine = count // len(chosen) + (place < count % len(chosen))
        try:
            image = decode_rgb(read_regular(path)).permute(1, 2, 0).contiguous().numpy()
            patches += degraded_patches(name, image, degradation, hr_patch=run.data.hr_patch, count=mine)
        except UnreadableImageError as error:
            complaints.append(f"{name}: {error}")
        except OSError as error:
            complaints.append(f"{name}: {error.strerror or error}")
    if patches:
        title = f"LR | HR   {run.data.how_degraded.name}, x{run.model.scale}"
        write_patches(patches, out, title=title)
        click.echo(f"{out / 'sheet.png'}: {len(patches)} patches")
    for line in complaints:
        click.echo(f"srdist: {line}", err=True)
    if complaints:
        raise WorkError(
            f"{source}: {len(complaints)} of {len(chosen) + len(failures)} images could not be used"
        )
