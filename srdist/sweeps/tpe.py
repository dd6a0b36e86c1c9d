"""The search by Optuna: what has ended in, the next trial's values out, and whether a trial is worth going on with.

Its journal file holds all that it knows, and is read anew each time, since other processes write to it too; whoever
calls holds the sweep's lock. A trial's values are drawn by a generator of its own, made of the seed and its number:
a search that was killed and goes on draws what it would have drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srdist.machine.errors import UserError
from srdist.report.sweeprecord import TrialRecord
from srdist.sweeps.space import Range, Space, label
from srdist.sweeps.sweepfile import TPE, Hyperband, Median, Sweep, Values

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.study import Study

_NAME = "sweep"


@dataclass(frozen=True, slots=True)
class Search:
    """A TPE search whose journal stands at `journal`."""

    section: TPE
    spaces: dict[str, Space]
    objective: str
    steps: int
    """train.steps of its trials, where they are pruned."""
    journal: Path

    @classmethod
    def of(cls, sweep: Sweep, journal: Path) -> Search:
        """The search of a sweep.

        Raises:
            UserError: Optuna is not installed.
        """
        assert isinstance(sweep.section.search, TPE)
        try:
            import optuna
        except ImportError as error:
            raise UserError(
                f"{sweep.source}: search.kind: tpe needs Optuna: pip install 'srdist[sweep]', or take kind: grid"
            ) from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        steps = next(sweep.configs()).train.steps
        return cls(sweep.section.search, sweep.spaces, sweep.section.objective, steps, journal)

    def values(self, number: int) -> Values:
        """The values of the trial `number`, the next; drawn now, or by a process that was killed before it began."""
        import optuna

        study = self._study()
        stored = study.get_trials(deepcopy=False)
        if number < len(stored):
            return self._plain(stored[number].params)
        distributions = {name: _distribution(space) for name, space in self.spaces.items()}
        # Drawn in a copy: the journal gets a trial whole or not at all, whenever this process is killed.
        copy = optuna.create_study(
            study_name=_NAME, direction=study.direction, sampler=self._sampler(number), pruner=study.pruner
        )
        copy.add_trials(stored)
        drawn = copy.ask(distributions)
        running = optuna.trial.TrialState.RUNNING
        study.add_trial(
            optuna.trial.create_trial(state=running, params=drawn.params, distributions=distributions)
        )
        return self._plain(drawn.params)

    def learn(self, trials: Sequence[TrialRecord]) -> None:
        """Take in what has ended since, whoever ended it."""
        from optuna.trial import TrialState

        study = self._study()
        stored = study.get_trials(deepcopy=False)
        if len(stored) < len(trials):
            raise self._damaged(f"knows {len(stored)} trials of {len(trials)}")
        for trial in trials:
            if trial.state == "open" or stored[trial.number].state.is_finished():
                continue
            if trial.objective is None or trial.state == "failed":
                study.tell(trial.number, state=TrialState.FAIL)
            elif trial.state == "done":
                study.tell(trial.number, trial.objective)
            else:
                study.tell(trial.number, state=TrialState.PRUNED)

    def verdict(self, number: int, step: int, score: float) -> bool:
        """Whether the trial is to end at this step, at which it has this score."""
        import optuna

        study = self._study()
        stored = study.get_trials(deepcopy=False)[number]
        trial = optuna.trial.Trial(study, stored._trial_id)
        if step not in stored.intermediate_values:
            trial.report(score, step)
        return trial.should_prune()

    def _study(self) -> Study:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        _mend(self.journal)
        try:
            return optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(self.journal))),
                study_name=_NAME,
                direction="minimize" if self.objective == "rmse" else "maximize",
                sampler=self._sampler(0),
                pruner=self._pruner(),
                load_if_exists=True,
            )
        except (
            ValueError,
            KeyError,
            TypeError,
            AssertionError,
        ) as error:  # of a line that is none of Optuna's
            raise self._damaged(f"{type(error).__name__}: {error}") from error

    def _damaged(self, how: str) -> UserError:
        return UserError(f"{self.journal}: damaged ({how}): put it back, or choose another --out")

    def _sampler(self, number: int) -> BaseSampler:
        from optuna.samplers import TPESampler

        digest = hashlib.sha256(f"{self.section.seed} {number}".encode()).digest()
        # constant_liar: others that are under way count as bad, so that processes side by side try different values.
        return TPESampler(
            seed=int.from_bytes(digest[:4], "big"),
            n_startup_trials=self.section.random_trials,
            multivariate=True,
            constant_liar=True,
        )

    def _pruner(self) -> BasePruner:
        from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

        match self.section.prune:
            case Median() as rule:
                return MedianPruner(
                    n_startup_trials=rule.after_trials, n_warmup_steps=rule.after_steps, n_min_trials=1
                )
            case Hyperband() as rule:
                return HyperbandPruner(
                    min_resource=rule.min_steps, max_resource=self.steps, reduction_factor=rule.reduction
                )
        return NopPruner()

    def _plain(self, params: dict[str, Any]) -> Values:
        return {name: _value(space, params[name]) for name, space in self.spaces.items()}


def _distribution(space: Space) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(space, Range):
        # By its text: the journal holds no lists and sections.
        return CategoricalDistribution([label(value) for value in space.values])
    if space.whole:
        low, high, step = int(space.low), int(space.high), int(space.step or 1)
        return IntDistribution(low, low + (high - low) // step * step, log=space.log, step=step)
    top = space.values[-1] if space.values else space.high
    return FloatDistribution(space.low, top, log=space.log, step=space.step)


def _value(space: Space, param: Any) -> Any:
    if isinstance(space, Range):
        return param
    return next(value for value in space.values if label(value) == param)


def _mend(journal: Path) -> None:
    """Undo what a process left that was killed while it wrote: Optuna would wait for its lock, and stumble over half a line."""
    journal.parent.mkdir(parents=True, exist_ok=True)
    # Ours is held: nobody else writes now.
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    if journal.is_file() and (data := journal.read_bytes()) and not data.endswith(b"\n"):
        with journal.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)
