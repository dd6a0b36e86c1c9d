"""Validation of a run: the validation split's scores beside bicubic, and the sample grid of its first images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from srdist.config import Config
from srdist.machine import arithmetic, ranks, stopping
from srdist.machine.errors import UserError
from srdist.machine.stopping import StopRequested
from srdist.quality.grid import Row, draw_grid
from srdist.quality.measures import own_measures
from srdist.quality.scores import Method, Scores, baseline, network_method, score_pairs
from srdist.shards.reader import BadSample, ShardIndex
from srdist.stream.pairs import EvalStream, Pair
from srdist.stream.share import Share
from srdist.training.inputs import validation_stream


@dataclass(slots=True)
class _CutShort:
    """Why this rank's part of a validation ended early, if it did."""

    by_request: bool = False
    by: Exception | None = None


class Validator:
    """Scores weights on the validation split, shared out over the ranks; in fp32, as they will be used.

    Args:
        stream: this rank's share of it.
        index: of the whole split.
    """

    def __init__(
        self, config: Config, stream: EvalStream, *, index: ShardIndex, device: torch.device, run: Path
    ) -> None:
        self.config, self.stream, self.index, self.device, self.run = config, stream, index, device, run
        self.network = config.model.for_use.build(seed=None).eval()
        self._upscale = network_method(self.network, device=device)
        self._measures = own_measures(config.data.how_degraded, scale=config.model.scale)
        self.bad: list[BadSample] = []
        """Damaged samples that this rank has left out of the last validation."""
        self._bicubic: Scores | None = None
        self._samples: list[tuple[Tensor, Tensor]] | None = None

    def score(self, weights: dict[str, Tensor]) -> tuple[Scores, Scores] | None:
        """Scores of the network with these weights, and of bicubic; None if a stop was asked for meanwhile.

        A collective: every rank comes to the same result.
        """
        self.network.load_state_dict(weights)
        bicubic = baseline("bicubic", scale=self.config.model.scale)
        methods: dict[str, Method] = {"srdist": self._upscale}
        if self._bicubic is None:
            methods["bicubic"] = bicubic
        cut_short = _CutShort()
        with arithmetic.for_use():
            scores = score_pairs(
                methods,
                self._pairs(cut_short),
                scale=self.config.model.scale,
                device=self.device,
                measures=self._measures,
            )
        stopped, failed = ranks.any_rank(cut_short.by_request, cut_short.by is not None)
        if failed:
            ranks.raise_everywhere(cut_short.by)
        if stopped:
            return None
        self._bicubic = self._bicubic or scores["bicubic"]
        return scores["srdist"], self._bicubic

    def grid(self, *, title: str) -> Image.Image | None:
        """The sample grid with the weights last scored; None where the config wants none. For one rank alone."""
        if self.config.log.sample_images == 0:
            return None
        if self._samples is None:
            self._samples = [
                (lr.clone(), hr.clone())
                for pair in validation_stream(
                    self.config, self.index, Share(), limit=self.config.log.sample_images, workers=0
                )
                for lr, hr, weight in zip(pair.lr, pair.hr, pair.weight, strict=True)
                if weight
            ]
        bicubic = baseline("bicubic", scale=self.config.model.scale)
        rows: list[Row] = []
        for lr, hr in self._samples:
            with arithmetic.for_use():
                (sr,), (plain,) = self._upscale(lr.unsqueeze(0)), bicubic(lr.unsqueeze(0))
            rows.append((lr, plain, sr, hr))
        return draw_grid(rows, title=title)

    def _pairs(self, cut_short: _CutShort) -> Iterator[Pair]:
        """This rank's share; ends early at a stop or an error, which the ranks then agree on."""
        self.bad = []
        try:
            for pair in self.stream:
                if stopping.requested(self.run):
                    cut_short.by_request = True
                    return
                self.bad += pair.bad
                if pair.weight.any():
                    yield _without_damaged(pair)
        except StopRequested:
            cut_short.by_request = True
        except (UserError, OSError) as error:
            cut_short.by = error


def _without_damaged(pair: Pair) -> Pair:
    if not pair.bad:
        return pair
    good = pair.weight > 0
    return Pair(
        pair.lr[good], pair.hr[good], pair.weight[good], pair.ids[good], pair.positions[good], pair.bad
    )
