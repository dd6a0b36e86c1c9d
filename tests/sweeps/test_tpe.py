"""Searches: repeatable with one worker, whatever is killed; hopeless trials are cut short; the journal is Optuna's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from srdist.machine.errors import UserError
from srdist.report.sweeprecord import TrialRecord
from srdist.sweeps.desk import Desk
from srdist.sweeps.folder import SweepFolder
from srdist.sweeps.sweepfile import Sweep, read_sweep
from srdist.sweeps.tpe import Search
from tests.sweeps.small import found, sweep_file, sweep_here

FIELDS = {
    "train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "model.widths": [[8], [4], [2]],
    "train.warmup_steps": {"low": 0, "high": 9, "step": 2},
    "train.max_grad_norm": {"low": 0.5, "high": 1.2, "step": 0.25},
}
TPE = {"kind": "tpe", "trials": 12, "random_trials": 4}


def sweep_of(folder: Path, **search: Any) -> Sweep:
    return read_sweep(sweep_file(folder, Path("none"), fields=FIELDS, search=TPE | search))


def objective(values: dict[str, Any]) -> float:
    return float(30 - abs(values["train.learning_rate"] - 2e-3) * 1e3 + values["model.widths"][0])


def searched(sweep: Sweep, journal: Path, trials: int, known: list[TrialRecord]) -> list[TrialRecord]:
    """Go on with a search, each trial done before the next is drawn."""
    search = Search.of(sweep, journal)
    records = list(known)
    for number in range(len(known), trials):
        values = dict(search.values(number))
        records.append(TrialRecord(number=number, values=values, state="done", objective=objective(values)))
        search.learn(records)
    return records


def test_a_search_with_a_seed_is_repeatable_and_goes_on_as_if_never_killed(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, seed=3)
    whole = searched(sweep, tmp_path / "a/journal.log", 12, [])
    assert searched(sweep, tmp_path / "b/journal.log", 12, []) == whole
    parts = searched(sweep, tmp_path / "c/journal.log", 6, [])
    # Killed when the values were drawn and the trial had not begun, with half a line and Optuna's lock left over.
    Search.of(sweep, tmp_path / "c/journal.log").values(6)
    with (tmp_path / "c/journal.log").open("ab") as file:
        file.write(b'{"op_code":4,"wor')
    (tmp_path / "c/journal.log.lock").symlink_to("journal.log")
    assert searched(sweep, tmp_path / "c/journal.log", 12, parts) == whole
    other = searched(sweep_of(tmp_path, seed=4), tmp_path / "d/journal.log", 12, [])
    assert [trial.values for trial in other] != [trial.values for trial in whole]


def test_drawn_values_lie_where_the_file_says_and_the_journal_is_optunas(tmp_path: Path) -> None:
    records = searched(sweep_of(tmp_path), tmp_path / "journal.log", 12, [])
    for trial in records:
        values = trial.values
        assert 1e-4 <= values["train.learning_rate"] <= 1e-2
        assert values["model.widths"] in ([8], [4], [2])
        assert values["train.warmup_steps"] in (0, 2, 4, 6, 8)
        assert values["train.max_grad_norm"] in (0.5, 0.75, 1.0)
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal.log"))
    study = optuna.load_study(study_name="sweep", storage=optuna.storages.JournalStorage(backend))
    assert [trial.value for trial in study.trials] == [trial.objective for trial in records]
    # It has learned: the later half is better than the random beginning.
    scores = [trial.objective or 0 for trial in records]
    assert sum(scores[8:]) / 4 > sum(scores[:4]) / 4


def test_a_failed_trial_teaches_nothing_and_stops_nothing(tmp_path: Path) -> None:
    search = Search.of(sweep_of(tmp_path), tmp_path / "journal.log")
    failed = TrialRecord(number=0, values=dict(search.values(0)), state="failed", reason="diverged")
    search.learn([failed])
    assert search.values(1) != failed.values


@pytest.mark.parametrize(
    ("prune", "cut_at"),
    [
        ({"kind": "median", "after_trials": 2, "after_steps": 200}, 200),
        ({"kind": "hyperband", "min_steps": 100, "reduction": 2}, 400),
    ],
)
def test_a_hopeless_trial_is_cut_short_and_a_good_one_is_not(
    tmp_path: Path, prune: dict[str, Any], cut_at: int
) -> None:
    path = sweep_file(
        tmp_path,
        Path("none"),
        "train.steps=800",
        "train.validate_every=100",
        fields=FIELDS,
        search=TPE | {"prune": prune},
    )
    search = Search.of(read_sweep(path), tmp_path / "journal.log")
    records: list[TrialRecord] = []
    cut: dict[int, int] = {}
    for number, level in enumerate([30, 31, 32, 10, 11, 12, 40]):
        records.append(TrialRecord(number=number, values=dict(search.values(number))))
        for step in range(100, 800, 100):
            if search.verdict(number, step, level + step / 1000):
                cut[number] = step
                break
        state = "pruned" if number in cut else "done"
        records[-1] = records[-1].model_copy(update={"state": state, "objective": float(level)})
        search.learn(records)
    assert min(cut.values()) == cut_at
    assert cut.keys() & {3, 4, 5}, "no hopeless trial was cut short"
    assert not cut.keys() & {0, 1, 2, 6}


def test_a_damaged_or_lost_journal_is_one_line(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    records = searched(sweep, tmp_path / "journal.log", 2, [])
    (tmp_path / "journal.log").write_text("no json\nnone either\n")
    with pytest.raises(UserError, match=r"journal\.log: damaged"):
        Search.of(sweep, tmp_path / "journal.log").values(2)
    (tmp_path / "journal.log").unlink()
    with pytest.raises(UserError, match="knows 0 trials of 2"):
        Search.of(sweep, tmp_path / "journal.log").learn(records)


SMALL = {"train.learning_rate": {"low": 1.1e-6, "high": 1e-2, "log": True}}


@pytest.mark.slow
def test_a_search_over_real_trainings_is_repeatable_prunes_and_goes_on_where_it_was_cut(
    small_set: Path, tmp_path: Path
) -> None:
    search = {
        "kind": "tpe",
        "trials": 6,
        "random_trials": 3,
        "seed": 1,
        "prune": {"kind": "median", "after_trials": 1},
    }
    settings = ("train.steps=12", "train.validate_every=3", "train.checkpoint_every=3")
    path = sweep_file(tmp_path, small_set, *settings, fields=SMALL, search=search)
    whole = sweep_here(path, tmp_path / "whole")
    states = {trial.state for trial in whole.trials}
    assert states == {"done", "pruned"}
    for trial in whole.trials:
        assert trial.step == 12 if trial.state == "done" else trial.step < 12
        assert trial.reason == ("" if trial.state == "done" else f"pruned at step {trial.step}")

    few = sweep_file(tmp_path, small_set, *settings, fields=SMALL, search=search | {"trials": 2})
    assert found(sweep_here(few, tmp_path / "parts")) == found(whole)[:2]
    # A process that is gone before its trial's first step, then the same search with more trials.
    path = sweep_file(tmp_path, small_set, *settings, fields=SMALL, search=search)
    desk = Desk(read_sweep(path), SweepFolder(tmp_path / "parts"))
    desk.open()
    desk.next()
    desk.close()
    assert found(sweep_here(path, tmp_path / "parts")) == found(whole)
