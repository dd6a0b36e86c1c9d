"""Arguments of commands that are a file or a folder of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from srdist.machine.errors import refuse_url


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


LOCAL_PATH = _LocalPath(path_type=Path)
