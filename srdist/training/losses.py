"""The losses of a run, built, by name: what each makes of a batch, and their weighted sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from srdist.losses.config import LDLConfig, LossSection, LossTerm


class Losses:
    """What `train.losses` says, in its order."""

    def __init__(self, terms: Sequence[LossTerm]) -> None:
        self._weights = {term.kind: term.weight for term in terms}
        self._pairs = {term.kind: term.build() for term in terms if isinstance(term, LossSection)}
        self._averaged = {term.kind: term.build() for term in terms if isinstance(term, LDLConfig)}

    @property
    def need_average(self) -> bool:
        """Whether one of them looks at what the running average makes of LR."""
        return bool(self._averaged)

    def of_each(
        self,
        sr: Float[Tensor, "n 3 h w"],
        hr: Float[Tensor, "n 3 h w"],
        average_sr: Float[Tensor, "n 3 h w"] | None,
    ) -> dict[str, Float[Tensor, " n"]]:
        """Each loss of each image, by kind, without its weight."""
        found = {kind: loss(sr, hr) for kind, loss in self._pairs.items()}
        if average_sr is not None:
            found |= {kind: loss(sr, hr, average_sr) for kind, loss in self._averaged.items()}
        return found

    def total(self, parts: Mapping[str, Float[Tensor, ""]]) -> Float[Tensor, ""]:
        """The sum that is minimized, of each loss's value by kind."""
        return torch.stack([weight * parts[kind] for kind, weight in self._weights.items()]).sum()
