"""Arguments of commands that are a file or a folder of this machine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from srdist.machine.errors import UserError, refuse_url


class _LocalPath(click.Path):
    """A path; a URL, which would become a folder named after it, is refused without its password."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path of `value`.

        Raises:
            UserError: it is a URL.
        """
        name = param.opts[0] if isinstance(param, click.Option) else "this argument"
        refuse_url(str(value), f"{name} is a file or a folder of this machine")
        return super().convert(value, param, ctx)


def refuse_input(option: str, out: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output that is one of the files read for it: a file that was there is replaced.

    Raises:
        UserError: `out` is one of `inputs`, by whatever path or link.
    """
    if out.exists() and any(path.exists() and out.samefile(path) for path in inputs):
        raise UserError(f"{option} {out}: is a file that is read for it: give another one")


class _Place(click.ParamType[Path | str]):
    """A folder of this machine, as a Path, or an fsspec URL, as it stands."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A Path, or the URL."""
        return value if "://" in str(value) else LOCAL_PATH.convert(value, param, ctx)


PLACE = _Place()
LOCAL_PATH = _LocalPath(path_type=Path)
