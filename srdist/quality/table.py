"""The quality table: a set and a network in; means and single images beside the plain resamplings out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from srdist.degradations.section import DegradationSection
from srdist.machine import ranks
from srdist.machine.errors import UserError, WorkError
from srdist.machine.progressbar import ProgressBar
from srdist.machine.redaction import redacted
from srdist.networks.precision import Precision
from srdist.networks.weightfile import load_weights, note_on
from srdist.quality.lowres import choose_degradation, described, kernel_of, of_pairs
from srdist.quality.measures import Measure, MeasureName, choose, columns
from srdist.quality.scores import (
    BATCH,
    EQUAL_DB,
    ImageScore,
    Method,
    Scores,
    baselines,
    common_scale,
    mean_scores,
    network_method,
    score_batch,
)
from srdist.quality.testset import Failure, NamedPair, folder_pairs, is_packed, shard_pairs
from srdist.shards.reader import ShardIndex
from srdist.stream.pairs import what_makes_lr
from srdist.stream.share import Share

Say = Callable[[str], None]
Item = NamedPair | Failure
Row = tuple[str, Mapping[str, ImageScore]]


@dataclass(frozen=True, slots=True)
class QualityTable:
    """What an evaluation found: `rows` by image name, `scores` by method, and the images that it could not use."""

    protocol: Mapping[str, Any]
    scores: Mapping[str, Scores]
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is to be evaluated, and on what."""

    weights: str | None
    """What `load_weights` takes; None: the resamplings only, at `scale`."""
    hr: str
    """Folder of images, or folder or URL of packed shards."""
    lr: Path | None = None
    """Folder of LR images; None: they are made of HR."""
    split: str | None = None
    """Of packed shards; None: test."""
    scale: int | None = None
    """None: that of the weights."""
    made_by: DegradationSection | None = None
    """What makes LR; None: what the weights were trained for."""
    precision: Precision = "fp32"
    """Of the network's convolutions."""
    measures: Sequence[MeasureName] | None = ()
    """Beside PSNR-Y, SSIM-Y and RMSE; None: all that can be taken here."""


def evaluate(call: Evaluation, *, device: torch.device, warn: Say) -> QualityTable:
    """The table of a set, shared out over the ranks; the same on every rank; a collective.

    Args:
        warn: is told what the user should know.

    Raises:
        UserError: weights, folders or options that do not fit each other.
        WorkError: not one image could be scored.
    """
    # Of what one rank alone meets here the others learn: they would wait for it for ever.
    job = ranks.together(lambda: _prepare(call, device=device, warn=warn))
    shown = _with_progress(job.pairs, total=job.total)
    return tabulate(
        job.methods, shown, scale=job.scale, device=device, protocol=job.protocol, measures=job.measures
    )


@dataclass(frozen=True, slots=True)
class _Job:
    """This rank's part of an evaluation."""

    methods: Mapping[str, Method]
    total: int
    pairs: Iterator[Item]
    scale: int
    protocol: Mapping[str, Any]
    measures: tuple[Measure, ...]


def _prepare(call: Evaluation, *, device: torch.device, warn: Say) -> _Job:
    _check_call(call)
    weights, hr, lr, split, made_by = call.weights, call.hr, call.lr, call.split, call.made_by
    model, info = load_weights(weights) if weights is not None else (None, None)
    if weights is not None and (note := note_on(weights)) is not None:
        warn(note)
    packed = ShardIndex.open(hr, split or "test") if is_packed(hr) else None
    held = packed.lr_scale if packed is not None else None
    asked = held if model is None and call.scale is None else call.scale
    scale = common_scale({str(weights): model.scale} if model is not None else {}, asked=asked)
    if lr is None:
        trained = {str(weights): info} if info is not None and info.kernel else {}
        own = of_pairs(hr, made_by) if held is not None else made_by
        made_by = choose_degradation(own, trained, warn=warn)
    methods = baselines(scale=scale)
    if model is not None:
        methods["srdist"] = network_method(model, device=device, precision=call.precision)
    share = Share(ranks.rank(), ranks.world())
    total: int
    pairs: Iterator[Item]
    if packed is not None:
        assert made_by is not None
        split = packed.split
        source = what_makes_lr(packed, made_by, scale=scale)
        total, pairs = shard_pairs(packed, degradation=source, share=share, batch=BATCH)
    else:
        degradation = made_by.build(scale=scale) if made_by is not None else None
        total, pairs = folder_pairs(Path(hr), lr, scale=scale, degradation=degradation, share=share)
    protocol: dict[str, Any] = {
        "weights": weights,
        "trained_for_kernel": info.kernel if info is not None else None,
        "hr": f"{redacted(hr)}, split {split}" if split else hr,
        "lr": str(lr) if made_by is None else described(made_by),
        "kernel": made_by.name if made_by is not None else None,
    }
    if made_by is not None and made_by.details:
        protocol["degradation"] = made_by.model_dump(mode="json")
    measures = choose(
        call.measures,
        scale=scale,
        kernel=kernel_of(made_by, info),
        made_by=f"LR is {described(made_by)}" if made_by is not None else f"no kernel is known of {lr}",
        device=device,
        warn=warn,
    )
    return _Job(methods, total, pairs, scale, protocol, measures)


def _check_call(call: Evaluation) -> None:
    hr, lr, split, made_by = call.hr, call.lr, call.split, call.made_by
    if is_packed(hr):
        if lr is not None:
            raise UserError(f"--lr {lr}: {hr} is a packed set, of which LR is made: leave --lr out")
    elif split is not None:
        raise UserError(f"--split {split}: {hr} is no packed set (it has no manifest.json)")
    if lr is not None and made_by is not None:
        option = "--degrade" if made_by.details else f"--kernel {made_by.name}"
        raise UserError(f"{option} makes LR from HR, but --lr {lr} gives LR images: leave one out")


def _with_progress(pairs: Iterable[Item], *, total: int) -> Iterator[Item]:
    """Hand `pairs` through; on a terminal the first rank shows how far its own part is."""
    with ProgressBar("evaluating", total=total, visible=ranks.is_main()) as bar:
        for pair in pairs:
            yield pair
            bar.advance(len(pair.names) if isinstance(pair, NamedPair) else 1)


def tabulate(
    methods: Mapping[str, Method],
    pairs: Iterable[Item],
    *,
    scale: int,
    device: torch.device,
    protocol: Mapping[str, Any],
    measures: Sequence[Measure] = (),
) -> QualityTable:
    """Score this rank's `pairs` and join those of all ranks; the same table on every rank; a collective.

    Args:
        protocol: what the caller knows of the LR images and the weights; the measures' own part is added.

    Raises:
        WorkError: not one image could be scored.
    """

    def score_mine() -> list[Row | Failure]:
        mine: list[Row | Failure] = []
        for pair in pairs:
            if isinstance(pair, Failure):
                mine.append(pair)
            else:
                rows = score_batch(methods, pair, scale=scale, device=device, measures=measures)
                mine += (_checked(name, row) for name, row in zip(pair.names, rows, strict=True))
        return mine

    everything = ranks.gather_items(ranks.together(score_mine))
    failures = sorted((item for item in everything if isinstance(item, Failure)), key=lambda item: item.name)
    rows = sorted((item for item in everything if not isinstance(item, Failure)), key=lambda item: item[0])
    if not rows:
        first = f", the first: {failures[0].name}: {failures[0].reason}" if failures else ""
        ranks.raise_everywhere(WorkError(f"none of {len(failures)} images could be evaluated{first}"))
    scores = ranks.together(lambda: mean_scores(methods, [row for _, row in rows]))
    return QualityTable(
        {**protocol, **_stated(scale), **columns(measures), **_exceptions(rows)},
        scores,
        tuple(rows),
        tuple(failures),
    )


def _checked(name: str, row: Mapping[str, ImageScore]) -> Row | Failure:
    """The row, or why there is none: a method whose output is not finite has no result."""
    broken = [method for method, score in row.items() if math.isnan(score.rmse)]
    return (
        Failure(name, f"the output of {broken[0]} is not finite (NaN or infinity)") if broken else (name, row)
    )


def _stated(scale: int) -> dict[str, Any]:
    return {
        "scale": scale,
        "border": scale,
        "luma": "BT.601, 16..235, of 8-bit RGB",
        "rounding": "outputs clamped and rounded to 8 bit",
        "ssim": "11x11 Gaussian, sigma 1.5, K1 0.01, K2 0.03, valid region",
        "rmse": "RGB in [0, 1], no border",
        "mean": f"over images; a PSNR above {EQUAL_DB:g} dB (infinite: image equal to HR) counts as {EQUAL_DB:g} dB",
    }


def _exceptions(rows: Iterable[Row]) -> dict[str, int]:
    """How many images the means treat apart; a count of none is left out."""
    equal = without_psnr = without_ssim = 0
    without: dict[str, int] = {}
    for _, scores in rows:
        equal += any(math.isinf(score.psnr_y_db) for score in scores.values())
        without_psnr += any(math.isnan(score.psnr_y_db) for score in scores.values())
        without_ssim += any(math.isnan(score.ssim_y) for score in scores.values())
        for name in next(iter(scores.values())).more:
            missing = any(math.isnan(score.more[name]) for score in scores.values())
            without[f"images_without_{name}"] = without.get(f"images_without_{name}", 0) + missing
    counts = {
        "images_equal_to_hr": equal,
        "images_too_small_for_psnr_y": without_psnr,
        "images_too_small_for_ssim_y": without_ssim,
        **without,
    }
    return {name: count for name, count in counts.items() if count}
