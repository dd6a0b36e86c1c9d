"""The values of the steps of a log line: averaged by name, kept over a resumption, old ones too."""

from __future__ import annotations

import json
import math

import pytest
import torch

from srdist.training.stepvalues import StepTensors, StepValues, Trace, mean_losses


def tensors(loss: float, *, refused: bool = False, **more: float) -> StepTensors:
    losses = {"loss": torch.tensor(loss), **{name: torch.tensor(value) for name, value in more.items()}}
    return StepTensors(
        losses, {"grad_norm": torch.tensor(loss * 2)}, torch.tensor(float(refused)), torch.tensor(1.0)
    )


def test_values_come_back_by_name_and_refused_steps_are_not_in_the_mean() -> None:
    trace = Trace()
    trace.add(1, tensors(1.0, loss_l1=10.0))
    trace.add(2, tensors(3.0, loss_l1=20.0))
    trace.add(3, tensors(math.nan, loss_l1=math.nan, refused=True))
    new = trace.flush()
    assert [values.step for values in new] == [1, 2, 3]
    assert [values.refused for values in new] == [False, False, True]
    assert new[1].losses == {"loss": 3.0, "loss_l1": 20.0}
    assert new[1].norms == {"grad_norm": 6.0}
    assert mean_losses(trace.steps) == {"loss": 2.0, "loss_l1": 15.0}
    assert trace.flush() == []


def test_what_was_not_finite_in_a_step_is_named_the_losses_before_their_sum_and_the_gradients() -> None:
    def named(losses: dict[str, float], norm: float) -> list[str]:
        return StepValues(1, losses, {"grad_norm": norm}, refused=True).not_finite()

    assert named({"loss": math.nan, "loss_l1": 1.0, "loss_ssim": math.inf}, math.nan) == ["loss_ssim"]
    assert named({"loss": math.inf}, math.nan) == ["loss"]
    assert named({"loss": 1.0, "loss_l1": 1.0}, math.inf) == ["grad_norm"]


def test_what_is_saved_comes_back_to_the_last_bit() -> None:
    trace, other = Trace(), Trace()
    trace.add(1, tensors(0.1, loss_l1=1 / 3))
    trace.add(2, tensors(math.inf, loss_l1=math.nan, refused=True))
    trace.flush()
    other.restore(json.loads(json.dumps(trace.dump(), allow_nan=False)))
    assert repr(other.steps) == repr(trace.steps)


def test_of_one_loss_the_form_is_that_of_old_checkpoints() -> None:
    trace = Trace()
    trace.add(7, tensors(0.5))
    trace.flush()
    assert trace.dump() == [[7, "0x1.0000000000000p-1", "0x1.0000000000000p+0", 0]]


@pytest.mark.parametrize(
    ("loss", "scale", "overflowed"), [(1.0, 1024.0, True), (1.0, 1.0, False), (math.nan, 1024.0, False)]
)
def test_a_factor_of_float16_that_was_too_large_is_told_from_a_loss_that_is_not_finite(
    loss: float, scale: float, overflowed: bool
) -> None:
    trace = Trace()
    values = {"loss": torch.tensor(loss)}
    trace.add(
        1, StepTensors(values, {"grad_norm": torch.tensor(math.inf)}, torch.tensor(1.0), torch.tensor(scale))
    )
    (step,) = trace.flush()
    assert (step.refused, step.overflowed) == (True, overflowed)
