"""`python -m docsite [OUT]`: build the docs site into OUT, by default dist/site."""

from __future__ import annotations

import sys
from pathlib import Path

from docsite.building import BuildError, build
from docsite.pages import ROOT, BrokenLinkError


def main(arguments: list[str]) -> int:
    """The exit code: 1 where a page is wrong."""
    out = Path(arguments[0]) if arguments else ROOT / "dist/site"
    try:
        build(out)
    except (BrokenLinkError, BuildError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"open {out}/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
