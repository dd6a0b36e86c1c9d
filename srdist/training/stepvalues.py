"""The values of each step since the last log line: kept on the device, summed over the ranks when asked for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from srdist.machine import ranks


@dataclass(frozen=True, slots=True)
class StepValues:
    """What one step came to, the same on every rank."""

    step: int
    loss: float
    grad_norm: float
    refused: bool


class Trace:
    """Steps' values: `add` never waits for the device, `flush` does, once for all of them."""

    def __init__(self) -> None:
        self.steps: list[StepValues] = []
        """Flushed steps since the last `clear`."""
        self._pending: list[tuple[int, Float[Tensor, " 3"]]] = []
        self._ids: dict[int, list[Int64[Tensor, " n"]]] = {}

    def add_ids(self, step: int, ids: Int64[Tensor, " n"]) -> None:
        """Remember which samples this rank put into `step`."""
        self._ids.setdefault(step, []).append(ids.clone())

    def add(self, step: int, told: Float[Tensor, " 3"]) -> None:
        """Add what `Learner.update` returned for `step`."""
        self._pending.append((step, told))

    def flush(self) -> list[StepValues]:
        """Bring pending values to the host, the loss averaged over the ranks; return the newly flushed ones.

        A collective. The norm and the refusal are the same on all ranks already.
        """
        if not self._pending:
            return []
        told = torch.stack([values for _, values in self._pending]).double().cpu()
        losses = ranks.reduce_sums(told[:, 0]) / ranks.world()
        new = [
            StepValues(step, loss, norm, bool(refused))
            for (step, _), loss, (_, norm, refused) in zip(
                self._pending, losses.tolist(), told.tolist(), strict=True
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

    def dump(self) -> list[list[float | int | str]]:
        """The flushed steps as JSON values (floats as hex: exact, and not-a-number included)."""
        return [[s.step, s.loss.hex(), s.grad_norm.hex(), int(s.refused)] for s in self.steps]

    def restore(self, values: list[list[float | int | str]]) -> None:
        """Take over what `dump` gave."""
        self.steps = [
            StepValues(int(step), float.fromhex(str(loss)), float.fromhex(str(norm)), bool(refused))
            for step, loss, norm, refused in values
        ]
