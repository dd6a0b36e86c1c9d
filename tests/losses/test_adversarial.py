"""The three forms of the contest against torch's own cross entropy, and the distance within a critic's layers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss

from srdist.losses.adversarial import Form, critic_loss, feature_distance, network_loss


def logits() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sr, hr = torch.randn((2, 3, 1, 4, 5), generator=generator)
    return sr, hr + 0.5


def entropy(judged: Tensor, real: float) -> Tensor:
    return binary_cross_entropy_with_logits(judged, torch.full_like(judged, real))


def relativistic(sr: Tensor, hr: Tensor, whole: tuple[Tensor, Tensor], real: float) -> Tensor:
    """As BasicSR has it (ESRGANModel): half of two entropies."""
    all_sr, all_hr = whole
    return (entropy(sr - all_hr.mean(), real) + entropy(hr - all_sr.mean(), 1 - real)) / 2


@pytest.mark.parametrize(
    ("form", "of_network", "of_critic"),
    [
        ("vanilla", lambda a, _, __: entropy(a, 1), lambda a, b, _: entropy(b, 1) + entropy(a, 0)),
        (
            "hinge",
            lambda a, _, __: -a.mean(),
            lambda a, b, _: (1 - b).clamp(min=0).mean() + (1 + a).clamp(min=0).mean(),
        ),
        (
            "relativistic",
            lambda a, b, whole: relativistic(a, b, whole, 1),
            lambda a, b, whole: relativistic(a, b, whole, 0),
        ),
    ],
)
def test_each_image_has_the_loss_of_its_form(
    form: Form, of_network: Callable[..., Tensor], of_critic: Callable[..., Tensor]
) -> None:
    sr, hr = logits()
    everybody = torch.ones(3)
    pairs = list(zip(sr, hr, strict=True))
    torch.testing.assert_close(
        network_loss(form, sr, hr, everybody), torch.stack([of_network(a, b, (sr, hr)) for a, b in pairs])
    )
    verdict = critic_loss(form, sr, hr, everybody)
    torch.testing.assert_close(verdict.loss, torch.stack([of_critic(a, b, (sr, hr)) for a, b in pairs]))
    if form != "relativistic":
        torch.testing.assert_close(verdict.right_sr, torch.stack([(a < 0).float().mean() for a in sr]))
        torch.testing.assert_close(verdict.right_hr, torch.stack([(b > 0).float().mean() for b in hr]))


@pytest.mark.parametrize("form", ["vanilla", "hinge", "relativistic"])
def test_an_image_of_weight_nought_is_as_if_it_were_not_there(form: Form) -> None:
    sr, hr = logits()
    weight = torch.tensor([1.0, 0.0, 1.0])
    kept = weight.bool()
    for with_it, without in (
        (network_loss(form, sr, hr, weight)[kept], network_loss(form, sr[kept], hr[kept], weight[kept])),
        (
            critic_loss(form, sr, hr, weight).loss[kept],
            critic_loss(form, sr[kept], hr[kept], weight[kept]).loss,
        ),
    ):
        torch.testing.assert_close(with_it, without)
    nobody = critic_loss(form, sr, hr, torch.zeros(3)).loss
    assert nobody.isfinite().all()


def test_the_distance_in_the_layers_is_the_mean_of_their_absolute_distances() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (
        torch.rand((2, 2, 4, 6, 6), generator=generator),
        torch.rand((2, 2, 8, 3, 3), generator=generator),
    )
    found = feature_distance([first[0], second[0]], [first[1], second[1]])
    expected = [
        (l1_loss(first[0, i], first[1, i]) + l1_loss(second[0, i], second[1, i])) / 2 for i in range(2)
    ]
    torch.testing.assert_close(found, torch.stack(expected))
