"""The commands: parse the call, hand it to the part that does the work, turn its errors into one line."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Any

import click

from srdist import __version__
from srdist.errors import UserError


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


def _warn(message: str) -> None:
    from srdist import ranks

    if ranks.is_main():
        click.echo(f"srdist: warning: {message}", err=True)


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


KERNELS = click.Choice(["bicubic", "bilinear", "nearest", "box", "lanczos"])


@main.command()
@click.option(
    "--weights",
    metavar="W",
    help="Weights file, run folder or shipped name; without it the resamplings only.",
)
@click.option("--hr", required=True, type=click.Path(path_type=Path), help="Folder of HR images.")
@click.option(
    "--lr",
    type=click.Path(path_type=Path),
    help="Folder of LR images of the same names; else LR is made from HR.",
)
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
    hr: Path,
    lr: Path | None,
    kernel: Any,
    scale: int | None,
    as_json: bool,
    markdown: bool,
    csv_file: Path | None,
) -> None:
    """Score a network on a folder of images, beside the plain resamplings.

    Also runs on several ranks, with the identical result: accelerate launch ... -m srdist evaluate ...
    """
    import json

    from srdist import qualitytable, ranks
    from srdist.wholefile import write_bytes

    with ranks.process_group() as device:
        table = qualitytable.evaluate(
            weights, hr, lr=lr, scale=scale, kernel=kernel, device=device, warn=_warn
        )
        if ranks.is_main():
            if csv_file is not None:
                write_bytes(csv_file, qualitytable.as_csv(table).encode())
            if as_json:
                click.echo(json.dumps(qualitytable.as_json(table), allow_nan=False))
            else:
                click.echo(qualitytable.as_markdown(table) if markdown else qualitytable.as_text(table))
            for failure in table.failures:
                click.echo(f"srdist: {failure.name}: {failure.reason}", err=True)
    if table.failures:
        _fail(
            f"{len(table.failures)} of {len(table.failures) + len(table.rows)} images could not be evaluated",
            1,
        )


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
