"""The learning rate of each step: up in a line, down half a cosine, and level after it."""

from __future__ import annotations

import pytest
import torch

from srdist.config import TrainConfig
from srdist.training.schedule import learning_rate


def rates(config: TrainConfig, steps: int) -> list[float]:
    return [learning_rate(step, config) for step in range(steps)]


def test_the_warm_up_is_a_line_to_the_peak_and_the_cosine_is_torchs() -> None:
    config = TrainConfig(steps=50, warmup_steps=10, learning_rate=1e-2, final_learning_rate=1e-4)
    found = rates(config, 50)
    assert found[:10] == pytest.approx([1e-3 * step for step in range(1, 11)])
    adam = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1e-2)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=40, eta_min=1e-4)
    for rate in found[10:]:
        assert rate == pytest.approx(cosine.get_last_lr()[0])
        adam.step()
        cosine.step()


def test_after_the_cosine_the_rate_stays() -> None:
    config = TrainConfig(steps=100, warmup_steps=0, decay_steps=20, final_learning_rate=1e-5)
    found = rates(config, 100)
    assert found[0] == config.learning_rate
    assert set(found[20:]) == {1e-5}


def test_a_run_that_is_lengthened_keeps_its_curve_where_decay_steps_is_set() -> None:
    short, long = (TrainConfig(steps=steps, decay_steps=30, warmup_steps=3) for steps in (20, 40))
    assert rates(short, 20) == rates(long, 20)
