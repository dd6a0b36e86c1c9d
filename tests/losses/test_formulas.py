"""Losses that look at more than a pixel: each image has what another formula gives of it alone, and half precision costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from srdist.losses.config import FrequencyConfig, GradientConfig, LDLConfig, SSIMConfig, check_size
from srdist.losses.section import LossTerm
from srdist.machine.errors import UserError
from srdist.training.losses import Losses
from tests.losses import formulas

SECTIONS: list[tuple[LossTerm, Callable[..., float]]] = [
    (FrequencyConfig(), partial(formulas.focal_frequency, alpha=1)),
    (FrequencyConfig(alpha=0.5), partial(formulas.focal_frequency, alpha=0.5)),
    (FrequencyConfig(form="l1"), formulas.fft_l1),
    (GradientConfig(), formulas.sobel),
    (SSIMConfig(), formulas.dissimilarity),
    (SSIMConfig(scales=3), partial(formulas.multiscale_dissimilarity, scales=3)),
    (LDLConfig(), formulas.ldl),
]
every_loss = pytest.mark.parametrize("section", [section for section, _ in SECTIONS], ids=repr)


def pictures(count: int = 3, height: int = 48, width: int = 46) -> list[Tensor]:
    """SR, HR and the average's SR: noise around slopes, so that no term of a formula vanishes."""
    generator = torch.Generator().manual_seed(0)
    slope = torch.linspace(0, 0.7, width).expand(count, 3, height, width)
    hr = slope + 0.3 * torch.rand(slope.shape, generator=generator)
    return [
        hr + 0.1 * torch.randn(hr.shape, generator=generator),
        hr,
        hr + 0.1 * torch.randn(hr.shape, generator=generator),
    ]


def of_each(section: LossTerm, sr: Tensor, hr: Tensor, average: Tensor) -> Tensor:
    return Losses([section]).of_each(sr, hr, average)[section.kind]


@pytest.mark.parametrize(("section", "formula"), SECTIONS, ids=[repr(section) for section, _ in SECTIONS])
def test_each_image_has_the_loss_that_another_formula_gives_of_it_alone(
    section: LossTerm, formula: Callable[..., float]
) -> None:
    sr, hr, average = pictures()
    found = of_each(section, sr, hr, average)
    assert found.shape == (3,)
    images = [sr, hr, average] if section.kind == "ldl" else [sr, hr]
    expected = [
        formula(*(one.double().numpy() for one in of_image)) for of_image in zip(*images, strict=True)
    ]
    torch.testing.assert_close(
        found.double(), torch.tensor(expected, dtype=torch.float64), rtol=2e-4, atol=1e-6
    )


@every_loss
def test_equal_images_have_no_loss_and_a_gradient_that_is_finite(section: LossTerm) -> None:
    _, hr, average = pictures()
    flat = torch.full_like(hr, 0.5)
    for target in (hr, flat, torch.zeros_like(hr)):
        sr = target.clone().requires_grad_()
        found = of_each(section, sr, target, average)
        torch.testing.assert_close(found, torch.zeros(3), rtol=0, atol=1e-6)
        (gradient,) = torch.autograd.grad(found.sum(), sr)
        assert gradient.isfinite().all()


@every_loss
def test_an_image_has_the_same_loss_and_gradient_whatever_stands_beside_it(section: LossTerm) -> None:
    sr, hr, average = pictures()
    gradients = []
    for beside in (1.0, 0.2):
        varied = torch.cat([sr[:1], sr[1:] * beside]).requires_grad_()
        weighted = of_each(section, varied, hr, average) * torch.tensor([1.0, 0.0, 0.0])
        (gradient,) = torch.autograd.grad(weighted.sum(), varied)
        assert gradient[0].abs().sum() > 0
        assert gradient[1:].abs().sum() == 0
        gradients.append(gradient[0])
    assert torch.equal(*gradients)


@every_loss
def test_under_autocast_and_of_half_precision_a_loss_is_computed_in_float32(section: LossTerm) -> None:
    sr, hr, average = pictures()
    half = sr.bfloat16()
    plain = of_each(section, half.float(), hr, average)
    with torch.autocast("cpu", torch.bfloat16):
        found = of_each(section, half, hr, average)
    assert found.dtype == torch.float32
    assert torch.equal(found, plain)


@every_loss
def test_a_loss_is_computed_on_the_smallest_patch_that_it_takes_and_none_below(section: LossTerm) -> None:
    side = section.smallest_patch
    sr, hr, average = pictures(2, side, side)
    assert of_each(section, sr, hr, average).isfinite().all()
    check_size([section], side, side + 1)
    if side > 1:
        with pytest.raises(
            UserError, match=f"train.losses: {section.kind} needs HR patches of at least {side}x{side}"
        ):
            check_size([section], side + 1, side - 1)
