"""The values of each step since the last log line, by name: kept on the device, summed over the ranks when asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from srdist.machine import ranks


@dataclass(frozen=True, slots=True)
class StepTensors:
    """What one step came to on this rank, still on its device."""

    losses: Mapping[str, Float[Tensor, ""]]
    """Of this rank's images; "loss" is what was minimized."""
    norms: Mapping[str, Float[Tensor, ""]]
    """Of the gradients, the same on every rank; "grad_norm" is the network's."""
    refused: Float[Tensor, ""]
    """1 if the step was left out, the same on every rank."""
    loss_scale: Float[Tensor, ""]
    """Factor by which the gradients were made larger, for float16; else 1. The same on every rank."""


@dataclass(frozen=True, slots=True)
class StepValues:
    """What one step came to, the same on every rank."""

    step: int
    losses: Mapping[str, float]
    norms: Mapping[str, float]
    refused: bool
    loss_scale: float = 1.0

    @property
    def overflowed(self) -> bool:
        """Whether the step was left out only because its gradients were made too large for float16: the next factor is smaller."""
        losses_are_finite = all(math.isfinite(value) for value in self.losses.values())
        return self.refused and self.loss_scale > 1 and losses_are_finite

    def not_finite(self) -> list[str]:
        """Names of what is not finite, as they are logged: the losses it began with, or else the gradients."""
        losses = [name for name, value in self.losses.items() if not math.isfinite(value)]
        # The sum is not finite where one of them is.
        of_each = [name for name in losses if name != "loss"] or losses
        return of_each or [name for name, value in self.norms.items() if not math.isfinite(value)]


class Trace:
    """Steps' values: `add` never waits for the device, `flush` does, once for all of them."""

    def __init__(self) -> None:
        self.steps: list[StepValues] = []
        """Flushed steps since the last `clear`."""
        self._pending: list[tuple[int, StepTensors]] = []
        self._ids: dict[int, list[Int64[Tensor, " n"]]] = {}

    def add_ids(self, step: int, ids: Int64[Tensor, " n"]) -> None:
        """Remember which samples this rank put into `step`."""
        self._ids.setdefault(step, []).append(ids.clone())

    def add(self, step: int, values: StepTensors) -> None:
        """Add what `Learner.update` returned for `step`; the names are those of the steps before."""
        self._pending.append((step, values))

    def flush(self) -> list[StepValues]:
        """Bring pending values to the host, the losses averaged over the ranks; return the newly flushed ones.

        A collective. The norms and the refusal are the same on all ranks already.
        """
        if not self._pending:
            return []
        steps = [step for step, _ in self._pending]
        first = self._pending[0][1]
        tensors = [
            torch.stack([*values.losses.values(), *values.norms.values(), values.refused, values.loss_scale])
            for _, values in self._pending
        ]
        table = torch.stack(tensors).double().cpu()
        count = len(first.losses)
        losses = ranks.reduce_sums(table[:, :count]) / ranks.world()
        new = [
            StepValues(
                step,
                dict(zip(first.losses, of_losses, strict=True)),
                dict(zip(first.norms, of_norms, strict=True)),
                bool(refused),
                scale,
            )
            for step, of_losses, (*of_norms, refused, scale) in zip(
                steps, losses.tolist(), table[:, count:].tolist(), strict=True
            )
        ]
        self._pending.clear()
        self.steps += new
        return new

    def ids_of(self, step: int) -> Int64[Tensor, " n"]:
        """The samples that this rank put into a step since the last `clear`."""
        return torch.cat(self._ids.get(step, [torch.empty(0, dtype=torch.int64)]))

    def clear(self) -> None:
        """Forget the flushed steps: their line is logged."""
        assert not self._pending
        self.steps.clear()
        self._ids.clear()

    def dump(self) -> list[list[Any]]:
        """The flushed steps as JSON values (floats as hex: exact, and not-a-number included).

        [step, loss, grad_norm, refused], and where there are more names: {name: loss}, {name: norm}.
        """
        return [_row(values) for values in self.steps]

    def restore(self, rows: list[list[Any]]) -> None:
        """Take over what `dump` gave."""
        self.steps = [_values(*row) for row in rows]


def mean_losses(steps: Sequence[StepValues]) -> dict[str, float]:
    """The mean of each loss over the steps that were not refused; NaN where all were."""
    good = [values.losses for values in steps if not values.refused]
    return {
        name: sum(losses[name] for losses in good) / len(good) if good else math.nan
        for name in steps[-1].losses
    }


def _row(values: StepValues) -> list[Any]:
    losses = {name: value.hex() for name, value in values.losses.items()}
    norms = {name: value.hex() for name, value in values.norms.items()}
    row = [values.step, losses.pop("loss"), norms.pop("grad_norm"), int(values.refused)]
    return [*row, losses, norms] if losses or norms else row


def _values(
    step: int,
    loss: str,
    norm: str,
    refused: int,
    losses: Mapping[str, str] | None = None,
    norms: Mapping[str, str] | None = None,
) -> StepValues:
    all_losses, all_norms = {"loss": loss, **(losses or {})}, {"grad_norm": norm, **(norms or {})}
    return StepValues(
        step,
        {name: float.fromhex(value) for name, value in all_losses.items()},
        {name: float.fromhex(value) for name, value in all_norms.items()},
        bool(refused),
    )
