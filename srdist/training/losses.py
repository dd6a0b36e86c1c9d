"""The losses of a run, built, by name: what each makes of a batch, and their weighted sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from srdist.losses.config import LDLConfig
from srdist.losses.perceptual import Perceptual
from srdist.losses.section import LossSection, LossTerm


class Losses:
    """What `train.losses` says, in its order.

    Raises:
        UserError: a file that one of them is made of is missing, or is another one.
    """

    def __init__(self, terms: Sequence[LossTerm], device: torch.device | None = None) -> None:
        self._weights = {term.kind: term.weight for term in terms}
        self._pairs = {term.kind: term.build() for term in terms if isinstance(term, LossSection)}
        for loss in self._pairs.values():
            if isinstance(loss, nn.Module):
                loss.to(device)
        self._averaged = {term.kind: term.build() for term in terms if isinstance(term, LDLConfig)}

    @property
    def notes(self) -> list[str]:
        """What the user should know of them, a line each."""
        return [loss.note for loss in self._pairs.values() if isinstance(loss, Perceptual) and loss.note]

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
