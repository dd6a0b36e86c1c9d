"""A sweep's file: which config, which of its fields, how they are searched, and by what trials are compared."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from srdist.config import Config, override, parse, read_values, set_field
from srdist.machine.errors import UserError
from srdist.settings.section import Section, problems
from srdist.settings.yaml12 import read_yaml
from srdist.sweeps.space import Range, Space, label, read_space

Values = Mapping[str, Any]
"""Of the swept fields, by name, in the order of the file."""

MOST_TRIALS = 10_000
_MOST_CHECKED = 2_000
"""Combinations of values that are checked before a search starts."""


class Median(Section):
    """A trial ends early where its best score so far is worse than the median of the others at that step."""

    kind: Literal["median"] = "median"
    """Which rule."""
    after_trials: Annotated[int, Field(ge=1)] = 5
    """Trials that must have ended before any is cut short."""
    after_steps: Annotated[int, Field(ge=0)] = 0
    """Steps that every trial may do."""


class Hyperband(Section):
    """Hyperband (Li et al., 2018): only the best of those that reach a step go on, at steps that grow by a factor."""

    kind: Literal["hyperband"] = "hyperband"
    """Which rule."""
    min_steps: Annotated[int, Field(ge=1)]
    """Steps that every trial may do."""
    reduction: Annotated[int, Field(ge=2, le=10)] = 3
    """The factor between these steps; one in so many trials goes on."""


class Grid(Section):
    """Every combination of the values, in the order of the file, the last field changing fastest."""

    kind: Literal["grid"] = "grid"
    """Which search."""


class TPE(Section):
    """Optuna's tree-structured Parzen estimator (Bergstra et al., 2011): new values near those that did well."""

    kind: Literal["tpe"] = "tpe"
    """Which search."""
    trials: Annotated[int, Field(ge=1, le=MOST_TRIALS)]
    """Trials in all; it may be raised later, to go on."""
    random_trials: Annotated[int, Field(ge=1)] = 10
    """Trials with random values before the search begins to learn from them."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the search; each trial's values are drawn from it, the trial's number and what has ended before."""
    prune: Annotated[Median | Hyperband, Field(discriminator="kind")] | None = None
    """When a trial is cut short, judged at each validation; null = never."""


class SweepSection(Section):
    """A sweep's file."""

    config: Any
    """The config that all trials start from: its file, or the sections themselves."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Fields that all trials have in common and that differ from `config`, as in {train.steps: 500}."""
    objective: Literal["psnr_y_db", "ssim_y", "rmse"] = "psnr_y_db"
    """What is compared, of the weights that a trial keeps as best.safetensors, on the validation split."""
    search: Annotated[Grid | TPE, Field(discriminator="kind")] = Grid()
    """How the values are chosen."""
    fields: Annotated[dict[str, Any], Field(min_length=1)]
    """The swept fields: for each a list of values, or {low: , high: } with log, step and count."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep's file says, checked."""

    source: str
    """The file, for errors."""
    section: SweepSection
    base: dict[str, Any]
    """Plain values of the config that all trials start from."""
    spaces: dict[str, Space]

    @property
    def total(self) -> int:
        """Number of trials."""
        if isinstance(self.section.search, TPE):
            return self.section.search.trials
        return math.prod(len(space.values or ()) for space in self.spaces.values())

    def grid(self, number: int) -> Values:
        """The values of the `number`-th trial of a grid, from 0."""
        values = []
        for space in reversed(self.spaces.values()):
            listed = space.values or ()
            number, i = divmod(number, len(listed))
            values.append(listed[i])
        return dict(zip(self.spaces, reversed(values), strict=True))

    def config(self, values: Values) -> Config:
        """The config of the trial with these values.

        Raises:
            UserError: they do not go together.
        """
        plain = deepcopy(self.base)
        for name, value in values.items():
            set_field(plain, name, deepcopy(value), source=self.source)
        shown = ", ".join(f"{name}={label(value)}" for name, value in values.items())
        return parse(plain, source=f"{self.source}: with {shown}")

    def configs(self) -> Iterator[Config]:
        """A config for each combination of a grid, or of the ends and choices of a search (of many, some)."""
        if isinstance(self.section.search, Grid):
            yield from (self.config(self.grid(number)) for number in range(self.total))
            return
        probes = [space.probes for space in self.spaces.values()]
        total = math.prod(map(len, probes))
        stride = max(1, total // _MOST_CHECKED)
        for i, chosen in enumerate(itertools.product(*probes)):
            # Each value for itself, and an even share of the combinations.
            first = sum(value is not each[0] for value, each in zip(chosen, probes, strict=True)) <= 1
            if first or i % stride == 0:
                yield self.config(dict(zip(self.spaces, chosen, strict=True)))
            if i > 50 * _MOST_CHECKED:
                return

    def dump(self) -> str:
        """The sweep as a file that says the same without any other, and can be given in its place."""
        first = self.config({name: space.probes[0] for name, space in self.spaces.items()})
        values = self.section.model_dump(mode="json", exclude={"set"})
        return yaml.safe_dump(values | {"config": first.model_dump(mode="json")}, sort_keys=False)


def read_sweep(path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """Read a sweep's file, with `section.field=value` overrides of its config.

    Raises:
        UserError: one line that names every wrong field, what was found and what was expected.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected config and fields, found {type(values).__name__}")
    try:
        section = SweepSection.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: " + "; ".join(problems(error, SweepSection))) from error
    spaces = {name: read_space(each, name=name, source=str(path)) for name, each in section.fields.items()}
    sweep = Sweep(str(path), section, _base(section, overrides, source=str(path)), spaces)
    _check_names(sweep, overrides)
    _check_search(sweep)
    for _ in sweep.configs():
        pass
    return sweep


def _base(section: SweepSection, overrides: Sequence[str], *, source: str) -> dict[str, Any]:
    match section.config:
        case str():
            values = read_values(Path(section.config))
        case dict():
            values = deepcopy(section.config)
        case other:
            raise UserError(f"{source}: config: found {other!r}, expected the name of a config's file")
    for name, value in section.set.items():
        set_field(values, name, deepcopy(value), source=f"{source}: set")
    for text in overrides:
        override(values, text)
    return values


def _check_names(sweep: Sweep, overrides: Sequence[str]) -> None:
    """Refuse fields of which one hides another."""
    others = [(name, "given by set") for name in sweep.section.set]
    others += [(text.partition("=")[0].strip(), "given by --set") for text in overrides]
    others += [(name, "swept") for name in sweep.spaces]
    for name in sweep.spaces:
        for other, also in others:
            if f"{other}.".startswith(f"{name}.") and (other, also) != (name, "swept"):
                raise UserError(f"{sweep.source}: fields.{name}: would hide {other}, which is {also} too")


def _check_search(sweep: Sweep) -> None:
    """Refuse what the search cannot do with these fields."""
    search, source = sweep.section.search, sweep.source
    ranges = {name: space for name, space in sweep.spaces.items() if isinstance(space, Range)}
    if isinstance(search, Grid):
        if endless := [name for name, each in ranges.items() if each.values is None]:
            raise UserError(f"{source}: fields.{endless[0]}: a range in a grid needs step or count")
        if sweep.total > MOST_TRIALS:
            raise UserError(f"{source}: {sweep.total:,} combinations, expected {MOST_TRIALS:,} at most")
        return
    if counted := [name for name, each in ranges.items() if each.count is not None]:
        raise UserError(
            f"{source}: fields.{counted[0]}.count: is for grids; a search takes any number of the range"
        )
    if search.prune is None:
        return
    if moving := [name for name in sweep.spaces if name in ("train", "train.steps", "train.validate_every")]:
        raise UserError(
            f"{source}: search.prune: cannot go with {moving[0]} among the fields: trials are compared at the same steps"
        )
    train = next(sweep.configs()).train
    if train.validate_every >= train.steps:
        raise UserError(
            f"{source}: search.prune: train.validate_every {train.validate_every} is not below train.steps "
            f"{train.steps}, so no trial is ever judged before its end"
        )
    if isinstance(search.prune, Hyperband) and search.prune.min_steps >= train.steps:
        raise UserError(
            f"{source}: search.prune.min_steps: found {search.prune.min_steps}, expected less than train.steps {train.steps}"
        )
