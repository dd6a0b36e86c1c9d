"""`python -m docsite [OUT]`: build the docs site into OUT, by default dist/site."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from docsite.building import BuildError, build
from docsite.pages import ROOT, BrokenLinkError


@click.command()
@click.argument("out", type=click.Path(path_type=Path), default=ROOT / "dist/site")
def main(out: Path) -> None:
    """Build the docs site into folder OUT, by default dist/site, in the place of an earlier one."""
    try:
        build(out)
    except (BrokenLinkError, BuildError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    print(f"open {out}/index.html, or for its search: python3 -m http.server --directory {out}")


if __name__ == "__main__":
    main()
