"""Commands as a page shows them, held to what the code takes, without running them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from docsite.pages import ROOT
from srdist import config
from srdist.cli.main import main
from srdist.train import command as train

_BEGINS = re.compile(
    r"(?:[A-Z_]+=\S+ +)*(?:srdist|make|accelerate launch|torchrun|python -m benchmarks) [a-z-]"
)


def commands_of(text: str) -> Iterator[str]:
    """What a page's blocks of code show to be typed, comments taken off."""
    language = None
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            language = line[3:].strip() if language is None else None
        elif language in ("", "bash") and _BEGINS.match(line):
            yield re.sub(r"\s+", " ", re.sub(r"\s#.*", "", line)).strip()


def check(typed: str) -> None:
    """Raise where a command, an option, a value of a choice, a config or a make target that it names is not there."""
    words = shlex.split(typed, comments=True)
    while re.fullmatch(r"[A-Z_]+=\S+", words[0]):
        words = words[1:]
    if words[0] == "make":
        target, makefile = words[1], (ROOT / "Makefile").read_text()
        assert re.search(rf"^{re.escape(target)}:", makefile, flags=re.M), f"no target {target}"
    elif words[0] == "python":
        place = ROOT / words[2].replace(".", "/")
        assert place.with_suffix(".py").exists() or place.is_dir(), typed
    elif "srdist/train.py" in words:
        _check_parsed(train, words[words.index("srdist/train.py") + 1 :])
    else:
        _check_parsed(main, words[words.index("srdist") + 1 :])


def _check_parsed(command: click.Command, arguments: list[str]) -> None:
    while isinstance(command, click.Group):
        assert arguments[0] in command.commands, f"no command {arguments[0]}"
        command, arguments = command.commands[arguments[0]], arguments[1:]
    if any(word in ("--help", "--version") for word in arguments):
        return
    parsed, left, _ = command.make_parser(click.Context(command)).parse_args(list(arguments))
    # What is not given is a mark of click's.
    values: dict[str, Any] = {
        name: value for name, value in parsed.items() if isinstance(value, str | list | tuple)
    }
    assert not left, f"{command.name}: {left} would not be taken"
    for parameter in command.params:
        assert parameter.name is not None
        value = values.get(parameter.name)
        alone = command.name == "upscale" and "--status" in arguments
        assert value is not None or not parameter.required or alone, (
            f"{command.name}: {parameter.name} is missing"
        )
        if isinstance(parameter.type, click.Choice | click.IntRange | click.FloatRange) and value is not None:
            parameter.type.convert(value, parameter, None)
    fields = [*values.get("overrides", ()), *values.get("fields", ())]
    named = values.get("config_path") or values.get("path") or values.get("config")
    path = ROOT / str(named) if named and Path(str(named)).suffix == ".yaml" else None
    if command.name in ("train", "show", "degrade") and (path is None or path.exists()):
        config.load(path, fields)
