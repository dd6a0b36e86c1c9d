"""The command `srdist blend`: a network between two."""

from __future__ import annotations

import math
from pathlib import Path

import click

from srdist.settings.places import LOCAL_PATH


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--alpha", type=click.FloatRange(0, 1), required=True, help="Share of B: 0 is A, 1 is B.")
@click.option(
    "--out", type=LOCAL_PATH, required=True, help="The .safetensors file; one that is there is replaced."
)
def blend(first: str, second: str, alpha: float, out: Path) -> None:
    """Write a network between A and B, of one shape: a PSNR-trained one and the adversarial one started from it, say.

    A and B are weights files, run folders (their best) or names of bundled weights. Each value is
    (1 - ALPHA) x A + ALPHA x B; the file says what it is made of.
    """
    if math.isnan(alpha):
        raise click.UsageError("--alpha: expected a number from 0 to 1, found nan")
    from srdist.networks.blend import blend as blended

    click.echo(str(blended(first, second, alpha=alpha, out=out)))
