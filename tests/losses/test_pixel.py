"""Losses pixel by pixel: one number an image, each the mean that torch gives of that image alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from srdist.losses.config import CharbonnierConfig, L1Config, MSEConfig
from srdist.losses.section import LossSection


def _charbonnier(sr: Tensor, hr: Tensor) -> Tensor:
    return torch.hypot(sr - hr, torch.tensor(1e-3)).mean()


@pytest.mark.parametrize(
    ("section", "oracle"),
    [
        (MSEConfig(), functional.mse_loss),
        (L1Config(), functional.l1_loss),
        (CharbonnierConfig(), _charbonnier),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_each_image_has_the_loss_that_it_has_alone(
    section: LossSection, oracle: Callable[[Tensor, Tensor], Tensor]
) -> None:
    generator = torch.Generator().manual_seed(0)
    sr, hr = torch.rand((2, 3, 3, 5, 4), generator=generator)
    found = section.build()(sr, hr)
    assert found.shape == (3,)
    torch.testing.assert_close(found, torch.stack([oracle(a, b) for a, b in zip(sr, hr, strict=True)]))


def test_half_precision_is_compared_in_float32() -> None:
    sr, hr = torch.full((1, 3, 2, 2), 0.5, dtype=torch.bfloat16), torch.full((1, 3, 2, 2), 0.501)
    assert L1Config().build()(sr, hr).item() == pytest.approx(1e-3, rel=1e-4)
