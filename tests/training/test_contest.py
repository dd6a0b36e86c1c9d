"""The network against a critic: who learns when, one refusal for both, everything in the state, the same on any split."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from pydantic import ValidationError
from torch import Tensor

from srdist.config import TrainConfig
from srdist.losses.contest import PatchCriticConfig
from srdist.networks.config import SRCNNConfig
from srdist.training.learner import Learner
from tests.training.test_learner import batch, everything

UNET = {"family": "unet", "width": 4}


def learner(precision: str = "no", images: int = 4, **adversarial: Any) -> Learner:
    losses = [
        {"kind": "l1"},
        {"kind": "adversarial", "weight": 0.1, "critic": UNET, **adversarial},
        {"kind": "feature_matching", "weight": 0.5},
    ]
    config = TrainConfig.model_validate({"global_batch": 4, "ema_decay": 0.9, "losses": losses})
    network = SRCNNConfig(kernels=(3, 3), widths=(8,)).build(seed=0)
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=True, mixed_precision=precision)
    return Learner(network, config, accelerator, images_per_step=images, lr_shape=(images, 8, 8))


Part = tuple[Tensor, Tensor, Tensor]


def take(trained: Learner, step: int, *parts: Part) -> Any:
    trained.begin(step)
    for i, part in enumerate(parts):
        trained.accumulate(*part, last=i == len(parts) - 1)
    return trained.update(step, 1e-3)


def halves(whole: Part) -> list[Part]:
    lr, hr, weight = whole
    return [(lr[part], hr[part], weight[part]) for part in (slice(0, 2), slice(2, 4))]


FORMS: list[dict[str, Any]] = [
    {"form": "vanilla"},
    {"form": "hinge", "r1_weight": 10.0},
    {"form": "relativistic"},
    {"critic": {"family": "patch", "width": 4, "layers": 2}, "critic_steps": 2, "start_step": 1},
]


@pytest.mark.parametrize("adversarial", FORMS)
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_saved_and_loaded_a_contest_goes_on_bit_for_bit(adversarial: dict[str, Any], precision: str) -> None:
    whole, first, second = (learner(precision, **adversarial) for _ in range(3))
    for step in range(4):
        values = take(whole, step, batch(step))
        assert not values.refused
        if step == 2:
            second.load_state(*first.state())
        take(first if step < 2 else second, step, batch(step))
    for name, tensor in everything(whole).items():
        assert torch.equal(everything(second)[name], tensor), name
    assert any(name.startswith("critic:") and name.endswith("_u") for name in everything(whole))


def test_what_a_contest_comes_to_is_told_by_name() -> None:
    values = take(learner(r1_weight=1.0), 0, batch())
    assert list(values.losses) == [
        *("loss", "loss_l1", "loss_adversarial", "loss_feature_matching"),
        *("loss_critic", "critic_right_hr", "critic_right_sr", "critic_r1"),
        *("drift_red", "drift_green", "drift_blue"),
    ]
    assert list(values.norms) == ["grad_norm", "grad_norm_critic"]
    parts = values.losses
    summed = parts["loss_l1"] + 0.1 * parts["loss_adversarial"] + 0.5 * parts["loss_feature_matching"]
    torch.testing.assert_close(parts["loss"], summed)
    assert parts["critic_r1"] > 0


def moved(trained: Learner, step: int) -> set[str]:
    """Who has other parameters after a step."""
    before = everything(trained)
    take(trained, step, batch(step))
    after = everything(trained)
    names = [name for name, tensor in before.items() if not torch.equal(after[name], tensor)]
    return {"critic" if name.startswith("critic:") else "network" for name in names}


def test_the_critic_begins_at_its_step_and_the_network_learns_in_every_so_many_th_of_its_steps() -> None:
    trained = learner(start_step=2, critic_steps=3)
    both = {"network", "critic"}
    assert [moved(trained, step) for step in range(8)] == [
        {"network"},
        {"network"},
        {"critic"},
        {"critic"},
        both,
        {"critic"},
        {"critic"},
        both,
    ]


@pytest.mark.parametrize("who", ["network", "critic"])
def test_a_gradient_that_is_not_finite_in_either_refuses_the_step_of_both(who: str) -> None:
    trained = learner()
    take(trained, 0, batch())
    before = everything(trained)
    trained.begin(1)
    trained.accumulate(*batch(1), last=True)
    spoilt = next(iter(trained.trained[who].module.parameters()))
    assert spoilt.grad is not None
    spoilt.grad[...] = torch.inf
    assert trained.update(1, 1e-3).refused == 1
    for name, tensor in before.items():
        assert torch.equal(everything(trained)[name], tensor), name
    assert not take(trained, 2, batch(2)).refused


@pytest.mark.parametrize("parts", [0, 1])
def test_a_step_given_up_before_or_in_the_middle_leaves_the_vectors_of_spectral_norm_as_they_were(
    parts: int,
) -> None:
    trained = learner()
    take(trained, 0, batch(0))
    before = everything(trained)
    trained.begin(1)
    for _ in range(parts):
        trained.accumulate(*batch(1), last=False)
    trained.abandon()
    for name, tensor in before.items():
        assert torch.equal(everything(trained)[name], tensor), name


def test_an_image_of_weight_nought_has_no_part_in_the_contest() -> None:
    lr, hr, weight = batch()
    weight[1] = 0
    other = hr.clone()
    other[1] = 255
    found = []
    for target in (hr, other):
        trained = learner(form="relativistic", r1_weight=5.0)
        take(trained, 0, (lr, target, weight))
        found.append(everything(trained))
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor, rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", ["vanilla", "hinge"])
def test_a_batch_in_two_parts_is_the_step_of_the_whole_batch(form: str) -> None:
    whole, parts = learner(form=form, r1_weight=1.0), learner(form=form, r1_weight=1.0)
    # The vectors of spectral norm move in each part: let them settle, so that it makes no difference.
    for trained in (whole, parts):
        critic = trained.trained["critic"].module
        for _ in range(60):
            critic(torch.zeros(1, 3, 8, 8))
    one, other = take(whole, 0, batch()), take(parts, 0, *halves(batch()))
    for name, value in {**one.losses, **one.norms}.items():
        torch.testing.assert_close({**other.losses, **other.norms}[name], value, rtol=1e-3, atol=1e-5)


def test_under_a_gradient_scaler_the_step_is_that_without_one_and_one_overflow_refuses_both() -> None:
    plain, scaled = learner(r1_weight=2.0), learner(r1_weight=2.0)
    # fp16 needs a GPU; its scaler does not.
    scaled.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    for step in range(2):
        one, other = take(plain, step, batch(step)), take(scaled, step, batch(step))
        for name, value in {**one.losses, **one.norms}.items():
            torch.testing.assert_close({**other.losses, **other.norms}[name], value, rtol=1e-4, atol=1e-6)
    # Grown once in two steps, not once for each optimizer.
    assert scaled.accelerator.scaler.get_scale() == 2048.0
    before = {name: tensor for name, tensor in everything(scaled).items() if name != "scaler"}
    scaled.begin(2)
    scaled.accumulate(*batch(2), last=True)
    spoilt = next(iter(scaled.trained["critic"].module.parameters()))
    assert spoilt.grad is not None
    spoilt.grad[...] = torch.inf
    assert scaled.update(2, 1e-3).refused == 1
    for name, tensor in before.items():
        assert torch.equal(everything(scaled)[name], tensor), name
    assert scaled.accelerator.scaler.get_scale() == 1024.0


def test_the_penalty_is_the_squared_slope_of_the_judgement_of_hr() -> None:
    trained = learner(r1_weight=3.0)
    plain = learner()
    critic = plain.trained["critic"].module
    lr, hr, weight = batch()
    images = (hr / 255).float().requires_grad_()
    sr = plain.network.module((lr / 255).float()).detach()
    judged = critic(torch.cat([images, sr]))[:4]
    (slope,) = torch.autograd.grad(judged.sum(), images)
    values = take(trained, 0, (lr, hr, weight)).losses
    torch.testing.assert_close(values["critic_r1"], slope.square().sum() / 4, rtol=1e-4, atol=1e-6)
    without = take(learner(), 0, (lr, hr, weight)).losses
    torch.testing.assert_close(values["loss_critic"], without["loss_critic"] + 1.5 * values["critic_r1"])


def test_losses_that_need_a_critic_or_something_beside_it_say_so() -> None:
    def refused(*kinds: str) -> str:
        with pytest.raises(ValidationError) as error:
            TrainConfig.model_validate({"losses": [{"kind": kind} for kind in kinds]})
        return str(error.value)

    assert "feature_matching, which looks into a critic" in refused("l1", "feature_matching")
    assert "nothing but a critic" in refused("adversarial")
    assert "nothing but a critic" in refused("adversarial", "feature_matching")
    assert "ldl, which compares with the running average: set ema_decay" in refused("l1", "ldl")
    assert PatchCriticConfig(layers=3).smallest_patch == 24
