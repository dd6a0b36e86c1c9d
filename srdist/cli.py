"""The commands: parse the call, hand it to the part that does the work, turn its errors into one line."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from srdist import __version__
from srdist.errors import UserError

if TYPE_CHECKING:
    from srdist.photo import OutputFormat


class _Group(click.Group):
    """A group whose commands end in one line and an exit code where the user or the machine is at fault."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except UserError as error:
            _fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            _fail("interrupted", 130)
        except BrokenPipeError:
            # The reader of our output has gone (`srdist ... | head`): nothing is left to say.
            sys.stderr.close()
            sys.exit(1)
        except OSError as error:
            if error.errno is None:
                raise
            place = f"{error.filename}: " if error.filename else ""
            _fail(f"{place}{error.strerror}{_ADVICE.get(error.errno, '')}", 1)


_ADVICE = {
    errno.ENOSPC: ": free some room and run the same command again",
    errno.EACCES: ": check the owner and mode of the file or folder",
}


def _fail(message: str, exit_code: int) -> None:
    click.echo(f"srdist: {' '.join(message.split())}", err=True)
    sys.exit(exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="srdist")
def main() -> None:
    """Train super-resolution networks on any number of GPUs, and upscale directories of images."""


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
@click.argument("src", type=click.Path(path_type=Path))
@click.argument("dst", type=click.Path(path_type=Path))
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
