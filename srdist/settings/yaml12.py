"""YAML files as YAML 1.2 means them: what a user typed, as plain values, or an error that names the file."""

from __future__ import annotations

import os
import re
import select
import stat
from pathlib import Path
from typing import Any

import yaml

from srdist.machine.errors import UserError

WRITER_S = 10.0
"""A FIFO in a file's place must be written to within this time."""
MAX_BYTES = 1 << 20
MAX_DEPTH = 20
"""Lists and mappings inside of each other."""
MAX_VALUES = 10_000
"""With what aliases stand for counted each time."""


class _Loader(yaml.SafeLoader):
    """YAML whose numbers and truth values are YAML 1.2's: 1e-4 is a number, `no` and 12:30 are words; no key twice.

    Aliases are taken, but ten lines of them may stand for more values than there is memory: all is counted.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._values = 0
        self._values_of: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        before = self._values
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested more than {MAX_DEPTH} deep", mark)
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is None:
            return None
        if is_alias and node not in self._values_of:
            raise yaml.composer.ComposerError(None, None, "an alias inside of what it stands for", mark)
        self._values += self._values_of[node] if is_alias else 1
        if self._values > MAX_VALUES:
            raise yaml.composer.ComposerError(None, None, f"more than {MAX_VALUES:,} values", mark)
        self._values_of[node] = self._values - before
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for i, key in enumerate(keys):
            if key.value in {earlier.value for earlier in keys[:i]}:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} twice", key.start_mark)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag.removeprefix("tag:yaml.org,2002:") not in ("bool", "float", "int", "timestamp")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
    list("-+0123456789."),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")
)


def parse_yaml(text: str, *, source: str) -> Any:
    """Parse YAML text; a syntax error is a UserError that names `source` and the line."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number of 5,000 digits
        raise UserError(f"{source}: not YAML: {' '.join(str(error).split())}") from error


def read_yaml(path: Path) -> Any:
    """Parse a YAML file."""
    try:
        data = _read(path)
        if len(data) > MAX_BYTES:
            raise UserError(f"{path}: more than {MAX_BYTES:,} bytes, expected a YAML file of settings")
        return parse_yaml(data.decode("utf-8-sig"), source=str(path))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: is a folder, expected a YAML file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text, expected a YAML file") from error


def _read(path: Path) -> bytes:
    # Not blocking: opening a FIFO waits for whoever writes to it, as `<(...)` of a shell does at once, and else for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            if not select.select([file], [], [], WRITER_S)[0]:
                raise UserError(f"{path}: is a FIFO that nobody writes to, expected a YAML file")
            os.set_blocking(descriptor, True)
        return file.read(MAX_BYTES + 1)
