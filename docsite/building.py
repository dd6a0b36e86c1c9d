"""The pages through Zensical: one folder of HTML. A warning is an error."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from docsite import commands, fields, pages

MARK = ".srdist-site"
"""The file that tells a site from other folders."""


class BuildError(RuntimeError):
    """Zensical warned or failed: what it said."""


def build(out: Path) -> None:
    """Write the site into folder `out`, in the place of what an earlier build left there.

    Raises:
        BrokenLinkError: a page links to a file that is not there.
        BuildError: Zensical warned or failed, or `out` holds something else.
    """
    if out.exists() and not (out.is_dir() and ((out / MARK).exists() or not any(out.iterdir()))):
        raise BuildError(f"{out}: is no site of an earlier build and not empty: remove it, or choose another")
    with tempfile.TemporaryDirectory(prefix="srdist-site-") as name:
        project = Path(name)
        shutil.copyfile(Path(__file__).parent / "zensical.toml", project / "zensical.toml")
        pages.lay_out(project / "docs")
        shutil.copyfile(Path(__file__).parent / "site.css", project / "docs/site.css")
        reference = project / "docs/reference"
        reference.mkdir()
        for file, text in {"commands.md": commands.reference(), **fields.pages()}.items():
            (reference / file).write_text(text, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "zensical", "build", "--strict"],
            cwd=project,
            env=os.environ | {"NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            # What follows says where in Zensical.
            said = (done.stdout + done.stderr).partition("Traceback")[0]
            raise BuildError(re.sub(r"\x1b\[[0-9;]*m", "", said).strip())
        if out.exists():
            shutil.rmtree(out)
        shutil.copytree(project / "site", out)
        (out / MARK).touch()
