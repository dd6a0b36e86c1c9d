"""A tiny image upscaled and one training step on this machine, right to the bit, in a few seconds.

The image goes the whole way, from file to file. Its pixels were chosen so that no value of the result is near the
middle between two bytes: whatever the order of the sums, float32 gives the same bytes on every machine.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor, nn

from srdist.config import TrainConfig
from srdist.images.pixels import to_float
from srdist.machine.arithmetic import for_use
from srdist.machine.device import open_accelerator, pick_device
from srdist.machine.launcher import Launch
from srdist.networks.config import PlainConfig
from srdist.networks.network import Network
from srdist.networks.tilednetwork import TiledNetwork
from srdist.networks.weightfile import load_weights
from srdist.training.learner import Learner, layout
from srdist.upscaling.job import Job, Output
from srdist.upscaling.tree import upscale_file

WEIGHTS = "fast_x2"
UPSCALED = "ae89e0c768346012212c0495df5b22aba3fd0e652bbe610afa6388b07e8e6afc"
"""sha256 of the 16x16 RGB bytes that WEIGHTS make of `tiny_image()`, by float64 (tests/doctor/test_selftest.py)."""
_LEARNING_RATE = 1e-3
_IMAGES, _SIDE = 4, 12


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one part of the self-test found."""

    name: str
    device: str
    seconds: float
    problem: str | None
    """None: right to the bit."""


def self_test() -> tuple[Verdict, ...]:
    """Both parts, on the device that srdist takes by itself."""
    device = pick_device(Launch.of(os.environ))
    return (_timed("upscaling", upscaling, device), _timed("training step", training_step, device))


def _timed(name: str, part: Callable[[torch.device], str | None], device: torch.device) -> Verdict:
    start = time.monotonic()
    try:
        problem = part(device)
    except Exception as error:  # whatever breaks on this machine is the finding
        problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return Verdict(name, str(device), time.monotonic() - start, problem)


def tiny_image() -> UInt8[np.ndarray, "8 8 3"]:
    """The image that is upscaled: ramps that wrap around."""
    y, x, channel = np.mgrid[0:8, 0:8, 0:3]
    levels: np.ndarray = x * 45 + y * 13 + channel * 71 + x * y * 4
    return (levels % 256).astype(np.uint8)


def upscaling(device: torch.device) -> str | None:
    """Upscale the tiny image from file to file with bundled weights; what is wrong, or None."""
    network, _ = load_weights(WEIGHTS)
    with tempfile.TemporaryDirectory() as folder, for_use():
        source, destination = Path(folder, "tiny.png"), Path(folder, "upscaled.png")
        Image.fromarray(tiny_image()).save(source)
        job = Job.of(source, destination, output=Output(), weights_digest=network.digest(), precision="fp32")
        upscale_file(job, TiledNetwork(network, device=device, precision="fp32"))
        with Image.open(destination) as image:
            found = hashlib.sha256(np.asarray(image.convert("RGB")).tobytes()).hexdigest()
    return None if found == UPSCALED else f"other pixels than {WEIGHTS} makes (sha256 {found[:12]})"


def training_step(device: torch.device) -> str | None:
    """Take one step as `srdist train` does, and the same in plain torch; what is wrong, or None."""
    config = TrainConfig(global_batch=_IMAGES, learning_rate=_LEARNING_RATE, deterministic=True)
    accelerator = open_accelerator(precision="fp32", deterministic=True, peer_timeout_s=60)
    generator = torch.Generator().manual_seed(0)
    lr, hr = (
        torch.randint(0, 256, (_IMAGES, side, side, 3), dtype=torch.uint8, generator=generator).permute(
            0, 3, 1, 2
        )
        for side in (_SIDE, 2 * _SIDE)
    )
    learner = Learner(
        _network(), config, accelerator, images_per_step=_IMAGES, lr_shape=(_IMAGES, _SIDE, _SIDE)
    )
    learner.accumulate(lr, hr, torch.ones(_IMAGES), last=True)
    values = learner.update(0, _LEARNING_RATE)
    expected = _plain_step(_network().to(device), lr, hr, config)
    if int(values.refused) != 0:
        return "the step was refused: its loss or gradient is not finite"
    wrong = [name for name, tensor in learner.weights().items() if not torch.equal(tensor, expected[name])]
    return f"other weights than plain torch's: {', '.join(wrong)}" if wrong else None


def _network() -> Network:
    return PlainConfig(scale=2, kernels=(3, 3, 3), widths=(8, 8), base="nearest").build(seed=0)


def _plain_step(
    network: nn.Module, lr_u8: UInt8[Tensor, "n 3 h w"], hr_u8: UInt8[Tensor, "n 3 H W"], config: TrainConfig
) -> dict[str, Tensor]:
    """The weights after one step of Adam on the mean squared error, without anything of srdist's training."""
    memory = layout(config)
    device = next(network.parameters()).device
    network = network.to(memory_format=memory).train()  # type: ignore[call-overload]
    adam = torch.optim.Adam(network.parameters(), lr=config.learning_rate, fused=True)
    lr, hr = (to_float(images.to(device)).contiguous(memory_format=memory) for images in (lr_u8, hr_u8))
    loss = (network(lr) - hr).square().flatten(1).mean(1).sum() / len(lr)
    loss.backward()
    adam.step()
    return {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
