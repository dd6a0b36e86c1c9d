"""The doctor's self-test: its expected pixels are right, far from a rounding, and others are noticed."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from srdist.doctor import selftest
from srdist.networks.weightfile import load_weights

CPU = torch.device("cpu")


def test_the_expected_pixels_are_those_of_float64_and_none_is_near_the_middle_of_two_bytes() -> None:
    network, _ = load_weights(selftest.WEIGHTS)
    image = torch.from_numpy(selftest.tiny_image()).permute(2, 0, 1)[None].double() / 255
    with torch.no_grad():
        sr = network.double()(image)[0].permute(1, 2, 0).numpy() * 255
    near = np.abs(sr - np.floor(sr) - 0.5)[(sr > -1) & (sr < 256)]
    assert near.min() > 0.005  # float32 is off by less than a tenth of that
    pixels = np.clip(np.round(sr), 0, 255).astype(np.uint8)
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == selftest.UPSCALED
    assert selftest.upscaling(CPU) is None


def test_weights_that_make_other_pixels_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "WEIGHTS", "srcnn_x2")
    problem = selftest.upscaling(CPU)
    assert problem is not None
    assert problem.startswith("other pixels than srcnn_x2 makes")
