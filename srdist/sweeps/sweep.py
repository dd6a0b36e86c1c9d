"""The loop of a sweep: a trial after the other, each trained by all ranks of this process's launch together.

The first rank asks for a trial (desk.py) and all get its answer. A trial is a training like any other: what makes it
fail by itself is the trial's end, with its reason; what is the machine's fault (a full disk, a rank that is gone, a
signal) ends this process, and the trial is left to whoever takes part next.
"""

from __future__ import annotations

import gc
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import torch

from srdist.machine import ranks, stopping
from srdist.machine.errors import OwnError, UserError
from srdist.machine.stopping import StopRequested
from srdist.report.sweeprecord import SweepRecord, TrialRecord, score_text
from srdist.runs.folder import InUseError
from srdist.sweeps.checks import check_trials
from srdist.sweeps.desk import PRUNED, STOP_FILE, Desk, Waiting
from srdist.sweeps.folder import SweepFolder
from srdist.sweeps.space import label
from srdist.sweeps.sweepfile import Sweep
from srdist.training.trainer import Trainer

POLL_S = 1.0
"""Time between looks at what the other processes have done."""


class Stopped(Exception):  # noqa: N818 (no error: somebody asked)
    """This process was asked to stop; its trial is saved and given back."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a training ended."""

    state: str
    reason: str = ""


def run_sweep(sweep: Sweep, out: Path, *, quiet: bool) -> SweepRecord:
    """Work on a sweep until all of its trials have ended; what became of them, on every rank.

    Raises:
        Stopped: this process was asked to stop before.
        UserError: a trial could not begin, or the folder is not this sweep's.
    """
    timeout_s = next(sweep.configs()).train.peer_timeout_s
    with ranks.process_group(peer_timeout_s=timeout_s):
        for warning in ranks.together(lambda: list(check_trials(sweep, world=ranks.world()))):
            if ranks.is_main():
                print(f"srdist: warning: {warning}", file=sys.stderr, flush=True)
        desk = Desk(sweep, SweepFolder(out))
        try:
            ranks.main_first(desk.open)
            _work(sweep, desk, quiet=quiet)
            return ranks.main_first(desk.record)
        except StopRequested as error:
            raise Stopped from error
        finally:
            desk.close()


def _work(sweep: Sweep, desk: Desk, *, quiet: bool) -> None:
    waits = False
    while True:
        if ranks.any_rank(stopping.requested() is not None)[0]:
            raise Stopped
        trial = ranks.main_first(desk.next)
        match trial:
            case None:
                return
            case Waiting():
                if not waits:
                    _say("all trials have begun: waiting for those of other processes")
                waits = True
                time.sleep(POLL_S)
            case _:
                waits = False
                _one(sweep, desk, trial, quiet=quiet)


def _one(sweep: Sweep, desk: Desk, trial: TrialRecord, *, quiet: bool) -> None:
    """Train a trial to its end, or as far as it goes."""
    shown = ", ".join(f"{name}={label(value)}" for name, value in trial.values.items())
    _say(f"{trial.name} of {sweep.total}: {shown}")
    try:
        ended = _train(sweep, desk, trial, quiet=quiet)
    except InUseError:
        ranks.main_first(lambda: desk.leave_in_use(trial))
        return
    except (Stopped, StopRequested) as error:
        ranks.main_first(lambda: desk.leave(trial, reason="asked to stop"))
        raise Stopped from error
    except OSError:
        ranks.main_first(lambda: desk.leave(trial, reason="the system's error"))
        raise
    record = ranks.main_first(lambda: desk.end(trial, state=ended.state, reason=ended.reason))
    score = score_text(sweep.section.objective, record.objective)
    how = f"failed: {record.reason}" if record.state == "failed" else f"{record.state} at step {record.step}"
    _say(f"{trial.name} {how}; {score}")


def _train(sweep: Sweep, desk: Desk, trial: TrialRecord, *, quiet: bool) -> Ended:
    try:
        config = sweep.config(trial.values)
        if config.train.compile:
            # What was compiled for other trials counts against a limit, above which nothing is compiled any more.
            torch.compiler.reset()
        run, watch = desk.folder.run(trial), desk.watch(trial)
        with ranks.own_errors_named(), Trainer(config, run=run, quiet=quiet, watch=watch) as trainer:
            stopped = trainer.fit().stopped
    except (InUseError, OwnError, OSError, StopRequested):
        raise
    except UserError as error:
        return Ended("failed", str(error))
    # A network that does not fit into memory, or a mistake of ours: the other trials may still be worth having.
    except Exception as error:
        return _crashed(desk, trial, error)
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    if stopped is None:
        return Ended("done")
    if stopped.startswith(PRUNED):
        return Ended("pruned", stopped)
    if stopped == STOP_FILE:
        return Ended("stopped", stopped)
    raise Stopped


def _crashed(desk: Desk, trial: TrialRecord, error: Exception) -> Ended:
    """The end of a trial by an error that has no line of its own; where other ranks wait for this one, that of the process too."""
    traceback.print_exception(error)
    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if ranks.world() == 1:
        return Ended("failed", reason)
    failed = {"state": "failed", "reason": f"rank {ranks.rank()}: {reason}"}
    desk.folder.end(trial.model_copy(update=failed))
    raise OwnError(
        f"{trial.name} failed on rank {ranks.rank()} ({reason}); the same command goes on with the others"
    ) from error


def _say(line: str) -> None:
    if ranks.is_main():
        print(line, flush=True)
