"""What float32 is on an NVIDIA GPU: torch's own flags, which are there without one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from srdist.machine import arithmetic


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    arithmetic.set_for_training(tf32=False, deterministic=False)
    arithmetic.set_for_use()


def in_tf32() -> set[bool]:
    """What each of torch's ways to ask says."""
    return {
        torch.backends.cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.conv.fp32_precision == "tf32",  # type: ignore[attr-defined]
        torch.backends.cuda.matmul.fp32_precision == "tf32",
        torch.get_float32_matmul_precision() != "highest",
    }


@pytest.mark.parametrize("tf32", [False, True])
def test_float32_is_what_was_asked_for_and_itself_where_a_network_is_used(tf32: bool) -> None:
    arithmetic.set_for_training(tf32=tf32, deterministic=False)
    assert in_tf32() == {tf32}
    assert torch.backends.cudnn.benchmark
    with arithmetic.for_use():
        assert in_tf32() == {False}
        assert not torch.backends.cudnn.benchmark
    assert in_tf32() == {tf32}
    assert torch.backends.cudnn.benchmark


def test_where_the_same_bits_are_wanted_no_algorithm_is_chosen_by_its_time() -> None:
    arithmetic.set_for_training(tf32=False, deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
    arithmetic.set_for_training(tf32=False, deterministic=False)
    assert not torch.are_deterministic_algorithms_enabled()
