"""The commands: parse the call, hand it to the part that does the work, turn its errors into one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from srdist import __version__
from srdist.errors import told_in_one_line
from srdist.train import command as train_command


class _Group(click.Group):
    """A group whose commands end in one line and an exit code where the user or the machine is at fault."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        with told_in_one_line():
            return super().main(*args, **kwargs)


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
