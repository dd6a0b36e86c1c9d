"""The values that a swept field may take: those of a list, or a range of numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Self

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from srdist.machine.errors import UserError
from srdist.settings.section import Section, problems


def _a_number(value: Any) -> int | float:
    # One line, where a union of pydantic's would tell of each of its members.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"found {value!r}, expected a number")
    return value


Number = Annotated[int | float, BeforeValidator(_a_number)]


@dataclass(frozen=True, slots=True)
class Choices:
    """Values of any kind, in the order of the file."""

    values: tuple[Any, ...]

    @property
    def probes(self) -> tuple[Any, ...]:
        """Values that must be right where all are."""
        return self.values


class Range(Section):
    """All numbers from one to another, or some of them. Whole numbers where both ends are."""

    low: Number
    """The smallest, itself among them."""
    high: Number
    """The largest, itself among them."""
    log: bool = False
    """Whether equal factors count the same, as from 1e-4 to 1e-3 and from 1e-3 to 1e-2; else equal differences do."""
    step: Number | None = None
    """Difference between neighbours; null = any number of the range, or as many as `count` says."""
    count: Annotated[int, Field(ge=2, le=10_000)] | None = None
    """Numbers of a grid, evenly spread, both ends among them; null = as `step` says."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log: true needs a low above 0, found {self.low}")
        if self.step is not None:
            if self.log or self.count is not None:
                raise ValueError("step cannot go with log or count")
            if not 0 < self.step <= self.high - self.low:
                raise ValueError(f"step {self.step} is not above 0 and at most high - low")
        return self

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return all(isinstance(number, int) for number in (self.low, self.high, self.step or 1))

    @property
    def probes(self) -> tuple[Number, ...]:
        """Values that must be right where all are."""
        return (self.low, self.high)

    @property
    def values(self) -> tuple[Number, ...] | None:
        """The numbers of a grid; None where neither step nor count says which."""
        if self.step is not None:
            count = math.floor((self.high - self.low) / self.step * (1 + 1e-12)) + 1
            return tuple(self._at(self.low + i * self.step) for i in range(count))
        if self.count is None:
            return None
        last = self.count - 1
        if self.log:
            inner = [self.low * (self.high / self.low) ** (i / last) for i in range(1, last)]
        else:
            inner = [self.low + (self.high - self.low) * i / last for i in range(1, last)]
        every = (self.low, *map(self._at, inner), self.high)
        return tuple(dict.fromkeys(every))  # whole numbers that are close fall together

    def _at(self, number: Number) -> Number:
        # Twelve digits: 0.1 + 2 * 0.1 is meant to be 0.3.
        return round(number) if self.whole else float(f"{number:.12g}")


Space = Choices | Range


def read_space(value: Any, *, name: str, source: str) -> Space:
    """What a sweep's file says of the field `name`: a list, or {low: , high: }.

    Raises:
        UserError: it is neither, is empty, has a value twice or a wrong range; `source` stands in front.
    """
    if isinstance(value, list):
        labels = [label(each) for each in value]
        if not labels:
            raise UserError(f"{source}: fields.{name}: found no value, expected a list of at least one")
        if twice := [each for i, each in enumerate(labels) if each in labels[:i]]:
            raise UserError(f"{source}: fields.{name}: {twice[0]} twice")
        return Choices(tuple(value))
    if not isinstance(value, dict):
        raise UserError(
            f"{source}: fields.{name}: found {value!r}, expected a list of values, or a range as in {{low: 1, high: 9}}"
        )
    try:
        return Range.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{source}: fields.{name}: " + "; ".join(problems(error, Range))) from error


def label(value: Any) -> str:
    """A value in one line, as it may stand in YAML; different values have different ones."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=math.inf)
    return text.removesuffix("\n...\n").strip()
