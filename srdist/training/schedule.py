"""The learning rate of each step."""

from __future__ import annotations

import math

from srdist.config import TrainConfig


def learning_rate(step: int, config: TrainConfig) -> float:
    """Learning rate of optimizer step `step` (0 is the first): linear warm-up, then half a cosine."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    end = config.decay_steps or config.steps
    share = min(1.0, (step - config.warmup_steps) / max(1, end - config.warmup_steps))
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * 0.5 * (
        1 + math.cos(math.pi * share)
    )
