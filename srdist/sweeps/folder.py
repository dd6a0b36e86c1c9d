"""A sweep's folder: what it sweeps, which trials there are, and what became of them; each file appears whole.

sweep.yaml            the sweep, complete: `srdist sweep` takes it as it takes the file that it was made from
trial-0007/           a run folder like any other
sweep.json, sweep.csv, best.yaml      the results so far (results.py)
.sweep/trials/0007.json     a trial that has begun: its values
.sweep/ended/0007.json      what became of it; whoever writes this has the trial's run folder to itself
.sweep/journal.log          a search's memory (tpe.py)
.sweep/workers, claims, receipts      who works on what (machine/claims.py)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from srdist.machine.errors import UserError
from srdist.machine.files import write_bytes, write_json
from srdist.machine.plainjson import parse_json
from srdist.report.sweeprecord import TrialRecord
from srdist.settings.section import problems
from srdist.sweeps.sweepfile import Sweep, read_sweep

_MAY_CHANGE = "search.trials"


class SweepFolder:
    """The files of a sweep, for whoever holds its lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = path / ".sweep"

    def run(self, trial: TrialRecord) -> Path:
        """The run folder of a trial."""
        return self.path / trial.name

    def enter(self, sweep: Sweep) -> None:
        """Begin the sweep here, or go on with it.

        Raises:
            UserError: the folder is a run's, or that of a sweep that differs.
        """
        path, text = self.path / "sweep.yaml", sweep.dump()
        if path.is_file():
            # Read as a sweep, not as bare values: fields that have come since have their defaults.
            held = yaml.safe_load(read_sweep(path).dump())
            for name, before, now in _differences(held, yaml.safe_load(text)):
                if name != _MAY_CHANGE:
                    raise UserError(
                        f"{name}: the sweep in {self.path} has {before!r}, found {now!r}; only {_MAY_CHANGE} may "
                        "change: choose another --out for a new sweep"
                    )
        elif (self.path / "metrics.jsonl").exists() or (self.path / "checkpoints").exists():
            raise UserError(f"{self.path}: is the folder of a run, expected a new one or that of a sweep")
        if not path.is_file() or path.read_text() != text:
            write_bytes(path, text.encode())

    def trials(self) -> list[TrialRecord]:
        """The trials that have begun, by number, as they ended or are open."""
        begun = sorted((self.state / "trials").glob("*.json"))
        ended = {path.name: path for path in (self.state / "ended").glob("*.json")}
        return [_read(ended.get(path.name, path)) for path in begun]

    def begin(self, trial: TrialRecord) -> None:
        """Note a trial, its number the next."""
        self._write("trials", trial)

    def end(self, trial: TrialRecord) -> None:
        """Note what became of a trial; the first to say so is believed."""
        if not (self.state / "ended" / f"{trial.number:04d}.json").exists():
            self._write("ended", trial)

    def _write(self, kind: str, trial: TrialRecord) -> None:
        write_json(self.state / kind / f"{trial.number:04d}.json", trial.model_dump(mode="json"))


def _read(path: Path) -> TrialRecord:
    try:
        return TrialRecord.model_validate(parse_json(path.read_bytes()))
    except ValidationError as error:
        raise UserError(f"{path}: " + "; ".join(problems(error, TrialRecord))) from error
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}") from error


def _differences(one: Any, other: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """The fields in which two files differ, with both values."""
    # The order of the fields is that of the trials.
    reordered = name == "fields" and list(one) != list(other)
    if reordered or not (isinstance(one, dict) and isinstance(other, dict)):
        return [] if one == other and not reordered else [(name, one, other)]
    differences = []
    for key in {**one, **other}:
        differences += _differences(one.get(key), other.get(key), f"{name}.{key}".lstrip("."))
    return differences
