"""`srdist sweep` as a process: its file read, the work done, the table printed."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from srdist.machine import stopping
from srdist.settings.places import LOCAL_PATH


@click.command()
@click.argument("sweep_file", metavar="SWEEP.yaml", type=LOCAL_PATH)
@click.option("--out", required=True, type=LOCAL_PATH, help="Folder of the sweep, such as runs/NAME.")
@click.option(
    "--set", "overrides", multiple=True, metavar="SECTION.FIELD=VALUE", help="Override a field of all trials."
)
@click.option("--quiet", is_flag=True, help="Of each training only how it begins and ends.")
def sweep(sweep_file: Path, out: Path, overrides: tuple[str, ...], quiet: bool) -> None:
    """Train many networks: a grid or a search over the fields of a config.

    Any number of processes, on any number of machines that share the folder, take part by giving the same command, and
    the same command goes on after they have been stopped or killed. Each trial is a run folder in OUT. With
    accelerate launch --config_file launch/FILE.yaml -m srdist sweep ... all ranks work on one trial together.
    Ends with a table, also in OUT as sweep.json and sweep.csv, and the best config as best.yaml; srdist report OUT draws it.
    """
    stopping.install()
    # Read before torch is imported: a misspelt field is told at once.
    from srdist.sweeps.sweepfile import read_sweep

    read = read_sweep(sweep_file, overrides)

    from srdist.machine import ranks
    from srdist.sweeps.results import as_text
    from srdist.sweeps.sweep import Stopped, run_sweep

    context = click.get_current_context()
    try:
        record = run_sweep(read, out, quiet=quiet)
    except Stopped:
        name = stopping.requested() or "SIGTERM"
        if ranks.is_main():
            click.echo(f"srdist: stopped ({name}), saved; the same command goes on", err=True)
        context.exit(128 + signal.Signals[name])
    if ranks.is_main():
        click.echo(as_text(record))
        if (best := record.best) is not None:
            click.echo(
                f"best: {best.name}; its config is {out / 'best.yaml'}; srdist report {out} draws the sweep"
            )
    context.exit(1 if any(trial.state == "failed" for trial in record.trials) else 0)
