"""What a critic's judgements cost the network and the critic itself: three forms of the contest.

In go logits, of SR and of HR, above 0 where they look real. A weight of 0 takes an image out, also out of the means
that the relativistic form compares with; these are over the images of one forward pass of one rank.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Form = Literal["vanilla", "hinge", "relativistic"]
Logits = Float[Tensor, "n 1 h w"]


class Verdict(NamedTuple):
    """What a critic's pass came to, of each image."""

    loss: Float[Tensor, " n"]
    right_hr: Float[Tensor, " n"]
    """Share of the places of HR that it takes for real."""
    right_sr: Float[Tensor, " n"]
    """Share of the places of SR that it does not."""


def network_loss(
    form: Form, sr: Logits, hr: Logits | None, weight: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """What the network minimizes, of each image.

    vanilla (Goodfellow et al. 2014, the form that does not saturate), hinge (Lim and Ye 2017), relativistic (the
    average form of Jolicoeur-Martineau, ICLR 2019, halved as in ESRGAN).

    Args:
        hr: the relativistic form's alone, without gradient.
    """
    match form:
        case "vanilla":
            return _of_each(F.softplus(-sr.float()))
        case "hinge":
            return _of_each(-sr.float())
        case "relativistic":
            assert hr is not None
            against_sr, against_hr = _relative(sr.float(), hr.float(), weight)
            return _of_each(F.softplus(-against_sr) + F.softplus(against_hr)) / 2


def critic_loss(form: Form, sr: Logits, hr: Logits, weight: Float[Tensor, " n"]) -> Verdict:
    """What the critic minimizes, and how often it is right, of each image."""
    sr, hr = sr.float(), hr.float()
    if form == "relativistic":
        sr, hr = _relative(sr, hr, weight)
    match form:
        case "hinge":
            loss = F.relu(1 - hr) + F.relu(1 + sr)
        case "vanilla":
            loss = F.softplus(-hr) + F.softplus(sr)
        case "relativistic":
            loss = (F.softplus(-hr) + F.softplus(sr)) / 2
    return Verdict(_of_each(loss), _of_each((hr > 0).float()), _of_each((sr < 0).float()))


def feature_distance(sr: list[Tensor], hr: list[Tensor]) -> Float[Tensor, " n"]:
    """The mean absolute distance of what the critic's layers make of SR and HR (pix2pixHD, Wang et al., CVPR 2018)."""
    layers = [(a.float() - b.float()).abs().flatten(1).mean(1) for a, b in zip(sr, hr, strict=True)]
    return torch.stack(layers).mean(0)


def _relative(sr: Tensor, hr: Tensor, weight: Float[Tensor, " n"]) -> tuple[Tensor, Tensor]:
    """SR and HR, each against the mean of the other over the images that count."""
    return sr - _mean(hr, weight), hr - _mean(sr, weight)


def _mean(logits: Tensor, weight: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    return (_of_each(logits) * weight).sum() / weight.sum().clamp(min=1e-6)


def _of_each(values: Float[Tensor, "n 1 h w"]) -> Float[Tensor, " n"]:
    return values.flatten(1).mean(1)
