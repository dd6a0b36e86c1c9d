"""The reference of the commands, made of the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from srdist.cli.main import main


def commands(group: click.Group = main, path: str = "srdist") -> Iterator[tuple[str, click.Command]]:
    """Every command as what one types, and the command: `srdist shards order`."""
    for name in sorted(group.commands):
        command = group.commands[name]
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def reference() -> str:
    """The page."""
    parts = [
        "# Commands",
        "This page is made of the commands themselves, each time the site is built."
        " `srdist COMMAND --help` prints the same.",
    ]
    for typed, command in commands():
        context = click.Context(command, info_name=typed)
        usage = " ".join([typed, *command.collect_usage_pieces(context)])
        parts += [f"## {typed}", f"```\n{usage}\n```", _paragraphs(command.help or "")]
        rows = [_row(option, context) for option in command.params if isinstance(option, click.Option)]
        if rows:
            parts.append("\n".join(["| option | meaning |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _row(option: click.Option, context: click.Context) -> str:
    names = "`, `".join(sorted(option.opts, key=len))
    meaning = [(option.help or "").replace("  [default:", " [default:")]
    takes = ""
    match option.type:
        case _ if option.is_flag:
            pass
        case click.Choice(choices=choices):
            takes = " ..."
            meaning.append("One of " + ", ".join(f"`{choice}`" for choice in choices) + ".")
        case click.IntRange(min=least, max=most) | click.FloatRange(min=least, max=most):
            takes = " N"
            meaning.append(f"A number from {least} to {most}.")
        case _:
            takes = " " + option.make_metavar(context).replace("|", " or ")
    if option.required:
        meaning.append("Must be given.")
    elif option.show_default and option.default is not None:
        meaning.append(f"Default: `{option.default}`.")
    return f"| `{names}{takes}` | {cell(' '.join(meaning))} |"


def _paragraphs(text: str) -> str:
    return inspect.cleandoc(text).replace("\b\n", "")


def cell(text: str) -> str:
    """Text as it stands in a cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")
