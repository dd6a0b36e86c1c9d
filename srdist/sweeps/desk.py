"""Who works on which trial: the first rank's side of a sweep, shared with whatever processes take part.

Each process asks for a trial and gets one that nobody works on: one whose process was killed, else the next. What
several may do at once (draw values, look at what has ended, write the results) they do one after the other, under a
lock; a trial itself is held by a claim, which lapses when its process dies (machine/claims.py), and by the lock of its
run folder.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from srdist.machine import locks
from srdist.machine.claims import Worker
from srdist.machine.errors import UserError
from srdist.machine.plainjson import parse_json
from srdist.machine.waiting import wait_for
from srdist.quality.scores import Scores
from srdist.report.record import number_of, read_run
from srdist.report.sweeprecord import SweepRecord, TrialRecord
from srdist.sweeps.folder import SweepFolder
from srdist.sweeps.results import record_of, write_results
from srdist.sweeps.sweepfile import TPE, Sweep
from srdist.sweeps.tpe import Search
from srdist.training.trainer import Watch

PRUNED = "pruned at step"
"""How the reason begins with which a search ends a trial early."""
STOP_FILE = "STOP file"
"""The reason of a user who ends one trial early (machine/stopping.py)."""
MOST_DEATHS = 3
"""Processes that may be killed over one trial without a step more in its checkpoints: then it has failed."""

BUSY_S = 30.0
"""Time after which a trial that is in use is asked for again."""


class Waiting:
    """All trials have begun, and other processes work on those that are open."""


class Desk:
    """This process among those that work on a sweep. For the first rank."""

    def __init__(self, sweep: Sweep, folder: SweepFolder) -> None:
        """Nothing is written before `open`."""
        self.sweep, self.folder = sweep, folder
        self.search: Search | None = None
        self.worker = Worker(folder.state)
        self._busy_until: dict[int, float] = {}
        self._open = ExitStack()

    def open(self) -> None:
        """Begin the sweep, or join those who work on it.

        Raises:
            UserError: the folder holds something else, or a search lacks Optuna.
        """
        if isinstance(self.sweep.section.search, TPE):
            self.search = Search.of(self.sweep, self.folder.state / "journal.log")
        self.folder.state.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self.folder.enter(self.sweep)
            write_results(self.sweep, self.folder)
        self._open.enter_context(self.worker)

    def close(self) -> None:
        """Give back what is held."""
        self._open.close()

    def next(self) -> TrialRecord | Waiting | None:
        """A trial for this process, which holds it from here on; None where all have ended."""
        with self._locked():
            trials = self.folder.trials()
            if self.search is not None:
                self.search.learn(trials)
            for trial in trials:
                free = trial.state == "open" and self._busy_until.get(trial.number, 0) < time.monotonic()
                if free and self.worker.claim(trial.name) and not self._is_over(trial):
                    return self._begin(trial)
            if len(trials) < self.sweep.total:
                return self._begin(self._new(len(trials)))
            trials = self.folder.trials()
            return Waiting() if any(trial.state == "open" for trial in trials) else None

    def end(self, trial: TrialRecord, *, state: str, reason: str = "") -> TrialRecord:
        """Note what became of a trial, and give it back."""
        with self._locked():
            return self._end(trial, state=state, reason=reason)

    def leave(self, trial: TrialRecord, *, reason: str) -> None:
        """Give a trial back that has not ended: whoever asks next goes on with it."""
        self._note(trial, "left", reason=reason)
        self.worker.release(trial.name)

    def leave_in_use(self, trial: TrialRecord) -> None:
        """Give back a trial that a process still works on which seemed to be dead: it slept, and may wake up."""
        self._busy_until[trial.number] = time.monotonic() + BUSY_S
        self.leave(trial, reason="in use")

    def watch(self, trial: TrialRecord) -> Watch | None:
        """What the trial's validations are shown to; None where no trial is cut short."""
        if self.search is None or self.search.section.prune is None:
            return None

        def judge(step: int, scores: Scores) -> str | None:
            assert self.search is not None
            score = getattr(scores, self.sweep.section.objective)
            if not math.isfinite(score):
                return None
            with self._locked():
                pruned = self.search.verdict(trial.number, step, score)
            return f"{PRUNED} {step}" if pruned else None

        return judge

    def record(self) -> SweepRecord:
        """The sweep as it stands."""
        return record_of(self.sweep, self.folder)

    def _new(self, number: int) -> TrialRecord:
        values = self.search.values(number) if self.search else self.sweep.grid(number)
        trial = TrialRecord(number=number, values=dict(values))
        self.folder.begin(trial)
        claimed = self.worker.claim(trial.name)
        assert claimed, f"{trial.name} was begun under the lock, and is another's"
        return trial

    def _begin(self, trial: TrialRecord) -> TrialRecord:
        self._note(trial, "begins", step=self._saved_step(trial))
        return trial

    def _is_over(self, trial: TrialRecord) -> bool:
        """Note the end of a trial whose process was killed before it could, or over which one after the other dies."""
        stopped = self.folder.run(trial) / "STOPPED"
        try:
            reason = str(parse_json(stopped.read_bytes())["reason"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            reason = ""
        if reason.startswith(PRUNED) or reason == STOP_FILE:
            self._end(trial, state="pruned" if reason.startswith(PRUNED) else "stopped", reason=reason)
            return True
        step = self._saved_step(trial)
        if self._deaths(trial, step) >= MOST_DEATHS:
            reason = (
                f"{MOST_DEATHS} processes ended over it after step {step} without a word (out of memory?)"
            )
            self._end(trial, state="failed", reason=reason)
            return True
        return False

    def _end(self, trial: TrialRecord, *, state: str, reason: str) -> TrialRecord:
        ended = TrialRecord.model_validate(
            trial.model_dump() | self._facts(trial) | {"state": state, "reason": reason}
        )
        if state == "done" and ended.objective is None:
            lacks = {"state": "failed", "reason": "no validation has a score that is a number"}
            ended = ended.model_copy(update=lacks)
        self.folder.end(ended)
        self.worker.release(trial.name)
        if self.search is not None:
            self.search.learn(self.folder.trials())
        write_results(self.sweep, self.folder)
        return ended

    def _facts(self, trial: TrialRecord) -> dict[str, Any]:
        """What the trial's run folder tells of it."""
        try:
            run = read_run(self.folder.run(trial))
        except UserError:
            return {}  # it failed before it had a log
        objective = number_of(run.best, self.sweep.section.objective) if run.best else math.nan
        return {
            "objective": objective if math.isfinite(objective) else None,
            "best_step": run.best["step"] if run.best else None,
            "step": run.last_step,
            "steps": run.config.train.steps,
            "parameters": run.sessions[0].opened.get("parameters"),
            "train_seconds": run.train_seconds,
        }

    def _saved_step(self, trial: TrialRecord) -> int:
        names = [path.name for path in (self.folder.run(trial) / "checkpoints").glob("step-*")]
        return max((int(digits) for name in names if (digits := name[5:13]).isdecimal()), default=0)

    def _note(self, trial: TrialRecord, what: str, **more: Any) -> None:
        row = {"trial": trial.number, what: True, **more}
        self.worker.record(json.dumps(row).encode() + b"\n")
        self.worker.sync()

    def _deaths(self, trial: TrialRecord, step: int) -> int:
        """Processes that began with the trial at this step and never said how it went on."""
        counts: Counter[str] = Counter()
        for log in (self.folder.state / "receipts").glob("*.jsonl"):
            begun_at = None
            for row in _rows(log):
                if row.get("trial") != trial.number:
                    continue
                if "begins" in row:
                    begun_at = row.get("step")
                    counts["begun"] += begun_at == step
                elif begun_at == step:
                    counts["told"] += 1
        return counts["begun"] - counts["told"]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        held = None

        def take(patience_s: float) -> bool:
            nonlocal held
            held = locks.take(self.folder.state / "lock", patience_s=patience_s)
            return held is not None

        wait_for(take, waits=lambda: f"{self.folder.state}/lock is held by another process of the sweep")
        assert held is not None
        try:
            yield
        finally:
            held.release()


def _rows(log: Path) -> Iterator[dict[str, Any]]:
    for line in log.read_bytes().splitlines():
        try:
            row = parse_json(line)
        except ValueError:
            continue  # torn: its process was killed while it wrote
        if isinstance(row, dict):
            yield row
