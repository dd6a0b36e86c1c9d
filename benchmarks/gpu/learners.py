"""A Learner of srdist's own and batches in memory, as several parts of benchmarks.gpu need them."""

from __future__ import annotations

import gc
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.peaks import Numbers
from benchmarks.processes import ROOT
from srdist import config as configs
from srdist.config import Config
from srdist.machine.device import open_accelerator
from srdist.training.learner import Learner
from srdist.training.stepvalues import StepTensors

SEED = "configs/seed_x2.yaml"


def seeds(**train: Any) -> Config:
    """The config of the seed's network, with other fields of the section train."""
    config = configs.load(ROOT / SEED)
    return config.model_copy(update={"train": config.train.model_copy(update=train)})


def precisions(device: torch.device) -> tuple[Numbers, ...]:
    """Values of train.precision that the device can be trained in."""
    return ("fp32", "tf32", "bf16", "fp16") if device.type == "cuda" else ("fp32", "bf16")


def batch_of(images: int, *, height: int, width: int, scale: int = 2) -> tuple[Tensor, Tensor]:
    """Random uint8 LR and HR in NHWC memory, as the stream gives them; height and width are those of HR."""
    generator = torch.Generator().manual_seed(0)
    shape = (images, height // scale, width // scale, 3)
    lr = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)
    return lr, F.interpolate(lr, scale_factor=scale, mode="nearest").contiguous(
        memory_format=torch.channels_last
    )


class Stepping:
    """A Learner that takes the same batch again and again."""

    def __init__(self, config: Config, lr: Tensor, hr: Tensor) -> None:
        self.accelerator = open_accelerator(
            precision=config.train.precision,
            deterministic=config.train.deterministic,
            peer_timeout_s=config.train.peer_timeout_s,
        )
        self.learner = Learner(
            config.model.build(seed=0),
            config.train,
            self.accelerator,
            images_per_step=len(lr),
            lr_shape=(len(lr), *lr.shape[2:]),
        )
        self.lr, self.hr, self.weight = lr, hr, torch.ones(len(lr))

    def forward_and_backward(self) -> None:
        """Make the gradients of one step."""
        self.learner.accumulate(self.lr, self.hr, self.weight, last=True)

    def step(self) -> StepTensors:
        """Take one step; nothing waits for the device."""
        self.forward_and_backward()
        return self.learner.update(0, 1e-4)

    def gradients(self) -> dict[str, Tensor]:
        """Of a step, on the CPU in float64, without the scaler's factor."""
        self.forward_and_backward()
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.unscale_(self.learner.network.adam)
        return {
            name: parameter.grad.detach().cpu().double()
            for name, parameter in self.learner.network.module.named_parameters()
            if parameter.grad is not None
        }


def forget(device: torch.device) -> None:
    """Give back what the device still holds for what is gone, and count its peak anew."""
    if device.type == "cuda":
        gc.collect()  # modules under hooks are in circles
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
