"""Shell completion: the script for bash, zsh or fish, and what is offered for arguments that only srdist knows."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from srdist.machine.errors import UserError

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.pass_context
def completion(context: click.Context, shell: str | None) -> None:
    """Print the script that completes srdist's commands, options and files in SHELL (by default that of $SHELL).

    \b
    bash   srdist completion bash > ~/.local/share/bash-completion/completions/srdist
    zsh    srdist completion zsh > "${fpath[1]}/_srdist"
    fish   srdist completion fish > ~/.config/fish/completions/srdist.fish

    Shells that are started after that complete srdist; in this one alone: source <(srdist completion bash).
    """
    name = shell or Path(os.environ.get("SHELL", "")).name
    if name not in SHELLS:
        raise UserError(f"$SHELL: found {name or 'nothing'}, expected one of {', '.join(SHELLS)}: name it")
    found = get_completion_class(name)
    assert found is not None
    click.echo(found(context.find_root().command, {}, "srdist", "_SRDIST_COMPLETE").source())


def complete_weights(_context: click.Context, _option: click.Parameter, begun: str) -> list[CompletionItem]:
    """Names of bundled weights; files and run folders where none begins like that."""
    folder = Path(__file__).parents[1] / "weights"
    names = sorted(path.stem for path in folder.glob("*.safetensors") if path.stem.startswith(begun))
    return [*map(CompletionItem, names)] or [CompletionItem(begun, type="file")]
