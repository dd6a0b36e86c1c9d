"""The door for `accelerate launch srdist/train.py` and `srdist train`: reads the config, lets the Trainer fit."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    # An interrupt of what is imported next ends it without a traceback: below it is noted, and nothing is lost.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A script's own folder comes first on the path, where our modules would hide others of the same name.
    sys.path[:] = [
        entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent
    ]
    from srdist.machine.system import refuse_other_systems

    refuse_other_systems()

import click

from srdist.machine import stopping
from srdist.machine.errors import UserError, errors_in_one_line
from srdist.machine.launcher import Launch
from srdist.settings.places import LOCAL_PATH

DEFAULT_CONFIG = Path("configs/demo_x2.yaml")


@click.command(
    name="train", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.option("--config", "config_path", type=LOCAL_PATH, help="Config of the run; default the demo's.")
@click.argument("fields", nargs=-1, metavar="[SECTION.FIELD=VALUE]...")
@click.option(
    "--set", "overrides", multiple=True, metavar="SECTION.FIELD=VALUE", help="Override a field of the config."
)
@click.option("--run", type=click.Path(), help="Run folder; default runs/ and the config's name.")
@click.option("--quiet", is_flag=True, help="No lines on the console but warnings.")
@click.option("--show-samples", is_flag=True, help="Show samples of each validation in the terminal.")
def command(
    config_path: Path | None,
    fields: tuple[str, ...],
    overrides: tuple[str, ...],
    run: str | None,
    quiet: bool,
    show_samples: bool,
) -> None:
    """Train a network, or go on where the run folder stands.

    Fields of the config are overridden by --set SECTION.FIELD=VALUE, or by SECTION.FIELD=VALUE alone, which comes after.

    On one process; on several: accelerate launch --config_file launch/FILE.yaml srdist/train.py with the same options.
    """
    stopping.install()
    if run == "":
        raise UserError("--run: found an empty name, expected a folder (the current one is .)")
    if show_samples and (quiet or not sys.stdout.isatty()):
        found = "--quiet as well" if quiet else "standard output that is none"
        raise UserError(f"--show-samples: found {found}, expected a terminal to show them in")
    train(
        config_path,
        (*overrides, *fields),
        run=None if run is None else Path(run),
        quiet=quiet,
        show_samples=show_samples,
    )
    stopping.leave()


def train(
    config_path: Path | None,
    overrides: tuple[str, ...],
    *,
    run: Path | None,
    quiet: bool,
    show_samples: bool = False,
) -> None:
    """Train, or resume where the run folder stands; UserError for what is wrong with the call."""
    from srdist.config import load

    _refuse_tasks_that_do_not_join(Launch.of(os.environ))
    if config_path is None:
        config_path = _default_config()
        if not quiet and Launch.of(os.environ).rank == 0:
            print(
                f"no --config given: the demo, {DEFAULT_CONFIG} on shards/demo "
                "(others: make shards SET=NAME, then --config configs/NAME.yaml)",
                flush=True,
            )
    config = load(config_path, overrides)

    # torch and accelerate take seconds to import: a misspelt field is told before.
    from srdist.machine import ranks
    from srdist.training.trainer import Trainer

    try:
        with (
            ranks.own_errors_named(),
            Trainer(
                config, run=run or _default_run(config_path), quiet=quiet, show_samples=show_samples
            ) as trainer,
            # Twice: at the end of the Trainer the ranks part.
            ranks.own_errors_named(),
        ):
            trainer.fit()
    except stopping.StopRequested:
        # While the images were looked for: the loop itself stops at a step, and saves.
        if ranks.is_main():
            print(
                f"srdist: stopped before the first step ({stopping.requested()}): nothing to save",
                file=sys.stderr,
            )


def _default_run(config_path: Path) -> Path:
    from srdist.runs.wandb_run import of_agent

    agent = of_agent()
    # An agent of W&B gives the same command for each run of its sweep but for the fields.
    return Path("runs") / (config_path.stem if agent is None else Path(agent.sweep) / agent.run)


def _refuse_tasks_that_do_not_join(launch: Launch) -> None:
    from srdist.runs.wandb_run import of_agent

    # Agents of a W&B sweep, one a task, are runs each.
    if launch.kind != "srun" or launch.world == 1 or of_agent() is not None:
        return
    if launch.rank > 0:
        sys.exit(2)  # the first one tells
    raise UserError(
        f"srun has started {launch.world} tasks, each of which would train for itself: start one task a machine and the "
        "ranks in it, as in srun --ntasks-per-node=1 accelerate launch --config_file launch/gpus.yaml srdist/train.py "
        "--config CONFIG (launch/README.md)"
    )


def _default_config() -> Path:
    for path in (DEFAULT_CONFIG, Path(__file__).parents[1] / DEFAULT_CONFIG):
        if path.is_file():
            return path
    raise UserError(
        f"no --config given, and {DEFAULT_CONFIG}, the demo's, is not here: give --config FILE, a YAML file that says at "
        "least data: {shards: DIR}, a set that `srdist pack` has made"
    )


if __name__ == "__main__":
    # Before the imports that take seconds: a signal in the meantime is not lost.
    stopping.install()
    with errors_in_one_line():
        command()
