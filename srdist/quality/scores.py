"""How good is a network, beside the plain resamplings: LR, HR pairs in; PSNR-Y, SSIM-Y and RMSE out, the same on all ranks.

The protocol is the SR literature's (docs/quality.md): each method's output is rounded to 8 bit as a file would hold
it, then compared with HR. Each rank scores its own pairs. The scores of single images are gathered and summed with
`math.fsum`, which is exact, so the means do not depend on how the images were dealt out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from jaxtyping import UInt8
from torch import Tensor

from srdist.images.kernels import Kernel
from srdist.images.resize import resize_u8
from srdist.machine import ranks
from srdist.machine.errors import UserError, WorkError
from srdist.networks.network import Network
from srdist.networks.precision import Precision
from srdist.networks.tilednetwork import TiledNetwork
from srdist.networks.tiling import NotFiniteError
from srdist.quality import metrics
from srdist.quality.measures import Measure, Of

Method = Callable[[UInt8[Tensor, "n 3 h w"]], UInt8[Tensor, "n 3 H W"]]
"""LR to SR, on the CPU, as files would hold them; NotFiniteError where there is no result."""

BATCH = 8
"""Images of one size that are read and scored together; the network takes as many at a time as is best for it."""

BASELINES: tuple[Kernel, ...] = ("nearest", "bilinear", "bicubic", "lanczos")
"""The plain resamplings that stand beside a network in the table."""

EQUAL_DB = 100.0
"""PSNR above this counts as this in a mean; an image equal to its reference has infinite PSNR."""


class PairLike(Protocol):
    """A batch of LR images and the HR images that they were made of."""

    @property
    def lr(self) -> UInt8[Tensor, "n 3 h w"]: ...
    @property
    def hr(self) -> UInt8[Tensor, "n 3 H W"]: ...


@dataclass(frozen=True, slots=True)
class ImageScore:
    """One method on one image."""

    psnr_y_db: float
    """Infinite where the image equals its reference; NaN where the border leaves nothing of it."""
    ssim_y: float
    """NaN where the shaved image is smaller than the 11x11 window."""
    rmse: float
    """Of RGB in [0, 1], without a border; NaN where the method has no result."""
    more: Mapping[str, float] = field(default_factory=dict)
    """The measures that were asked for besides, by name; NaN where one has no number of this image."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Means over images, by the protocol of docs/quality.md."""

    images: int
    psnr_y_db: float
    """Images equal to their reference, and all above EQUAL_DB, count as EQUAL_DB; NaN where no image has one."""
    ssim_y: float
    """Over the images that are large enough for the window; NaN where none is."""
    rmse: float
    more: Mapping[str, float] = field(default_factory=dict)
    """Means of the measures that were asked for besides, each over the images that have the number; decibels above EQUAL_DB
    count as EQUAL_DB."""

    @property
    def by_name(self) -> dict[str, float]:
        """All means, as they are logged."""
        return {"psnr_y_db": self.psnr_y_db, "ssim_y": self.ssim_y, "rmse": self.rmse, **self.more}


def score_pairs(
    methods: Mapping[str, Method],
    pairs: Iterable[PairLike],
    *,
    scale: int,
    device: torch.device,
    measures: Sequence[Measure] = (),
) -> dict[str, Scores]:
    """The mean scores of each method over all ranks' pairs, identical on every rank; a collective.

    Each rank hands over its own pairs, perhaps none; together they should hold each image once.

    Raises:
        WorkError: a method's output is not finite somewhere, or a pair of one rank cannot be read (raised on every rank).
    """
    mine: list[Mapping[str, ImageScore]] = ranks.together(
        lambda: [
            row
            for pair in pairs
            for row in score_batch(methods, pair, scale=scale, device=device, measures=measures)
        ]
    )
    rows = ranks.gather_items(mine)
    return ranks.together(lambda: mean_scores(methods, rows))


def score_batch(
    methods: Mapping[str, Method],
    pair: PairLike,
    *,
    scale: int,
    device: torch.device,
    measures: Sequence[Measure] = (),
) -> Iterator[dict[str, ImageScore]]:
    """The scores of each image of one batch, by method."""
    batch = _Batch.of(pair.lr, pair.hr, scale=scale, device=device, measures=measures)
    for row in zip(*(batch.scores(upscale) for upscale in methods.values()), strict=True):
        yield dict(zip(methods, row, strict=True))


@dataclass(frozen=True, slots=True)
class _Batch:
    """Images to score methods on, and what all methods share of them."""

    lr: UInt8[Tensor, "n 3 h w"]
    hr: UInt8[Tensor, "n 3 H W"]
    scale: int
    device: torch.device
    measures: Sequence[Measure]
    beside: Mapping[str, Of]

    @classmethod
    def of(
        cls,
        lr: UInt8[Tensor, "n 3 h w"],
        hr: UInt8[Tensor, "n 3 H W"],
        *,
        scale: int,
        device: torch.device,
        measures: Sequence[Measure],
    ) -> _Batch:
        hr = hr.to(device)
        return cls(lr, hr, scale, device, measures, {each.name: each.beside(lr, hr) for each in measures})

    def scores(self, upscale: Method) -> list[ImageScore]:
        """Of each image."""
        try:
            sr = upscale(self.lr).to(self.device)
        except NotFiniteError:
            if len(self.lr) == 1:
                return [ImageScore(math.nan, math.nan, math.nan)]
            return [score for one in self._alone() for score in one.scores(upscale)]
        shaved = [measure(sr, self.hr, border=self.scale) for measure in (metrics.psnr_y, metrics.ssim_y)]
        more = [measure(sr) for measure in self.beside.values()]
        columns = torch.stack([*shaved, metrics.rmse(sr, self.hr), *more], dim=1)
        return [
            ImageScore(psnr_y_db, ssim_y, rmse, dict(zip(self.beside, rest, strict=True)))
            for psnr_y_db, ssim_y, rmse, *rest in columns.tolist()
        ]

    def _alone(self) -> Iterator[_Batch]:
        """At least one of them has no result: which?"""
        for lr, hr in zip(self.lr[:, None], self.hr[:, None], strict=True):
            yield _Batch.of(lr, hr, scale=self.scale, device=self.device, measures=self.measures)


def mean_scores(methods: Iterable[str], rows: Sequence[Mapping[str, ImageScore]]) -> dict[str, Scores]:
    """The mean of each method over images, whatever their order; NaN where there is nothing to take a mean of."""
    return {name: _mean(name, [row[name] for row in rows]) for name in methods}


def _mean(name: str, scores: Sequence[ImageScore]) -> Scores:
    if broken := sum(math.isnan(score.rmse) for score in scores):
        raise WorkError(
            f"the output of {name} for {broken} of {len(scores)} images is not finite: "
            "the weights are damaged, or their training diverged"
        )
    return Scores(
        images=len(scores),
        psnr_y_db=_mean_of(
            min(score.psnr_y_db, EQUAL_DB) for score in scores if not math.isnan(score.psnr_y_db)
        ),
        ssim_y=_mean_of(score.ssim_y for score in scores if not math.isnan(score.ssim_y)),
        rmse=_mean_of(score.rmse for score in scores),
        more={name: _mean_of(_there(name, scores)) for name in (scores[0].more if scores else ())},
    )


def _there(name: str, scores: Iterable[ImageScore]) -> Iterator[float]:
    """The numbers of a measure that an image has."""
    for score in scores:
        if not math.isnan(value := score.more[name]):
            yield min(value, EQUAL_DB) if name.endswith("_db") else value


def _mean_of(values: Iterable[float]) -> float:
    there = list(values)
    return math.fsum(there) / len(there) if there else math.nan


def baseline(kernel: Kernel, *, scale: int) -> Method:
    """Upscale by a plain resampling as Pillow does, rounded to 8 bit as an image file would be."""

    def upscale(lr: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 3 H W"]:
        height, width = lr.shape[-2] * scale, lr.shape[-1] * scale
        # On the CPU on every device: Pillow's arithmetic in 8 bit exists there only.
        return resize_u8(lr, height=height, width=width, kernel=kernel)

    return upscale


def baselines(*, scale: int) -> dict[str, Method]:
    """The plain resamplings of the table, by name."""
    return {kernel: baseline(kernel, scale=scale) for kernel in BASELINES}


def network_method(model: Network, *, device: torch.device, precision: Precision = "fp32") -> Method:
    """A network (evaluation mode) as `srdist upscale` runs it: in tiles, as many at a time as memory allows."""
    tiled = TiledNetwork(model, device=device, precision=precision)

    def upscale(lr: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 3 H W"]:
        images = tiled.upscale_many([image.permute(1, 2, 0).numpy() for image in lr])
        return torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in images])

    return upscale


def common_scale(weights: Mapping[str, int], *, asked: int | None) -> int:
    """The one scale of some weights (name to scale) and of `--scale`.

    Raises:
        UserError: there are two scales, or none.
    """
    scales = {f"the weights {name}": scale for name, scale in weights.items()}
    if asked is not None:
        scales["--scale"] = asked
    if not scales:
        raise UserError("neither weights nor --scale are given: the scale is not known")
    (first, scale), *others = scales.items()
    for name, other in others:
        if other != scale:
            raise UserError(f"{first} has scale {scale}, {name} has scale {other}: expected one scale")
    return scale
