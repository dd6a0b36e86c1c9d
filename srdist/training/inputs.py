"""What a rank reads: the two splits, opened, and the worker processes that will read them, forked before CUDA and the process group begin.

Both run threads, and a fork takes none of them along but whatever lock they hold: torch's documentation of DDP warns of
deadlocks. So the workers of training and of validation are there first, and stay for the whole run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Self

from srdist.config import Config
from srdist.losses.config import check_size
from srdist.machine.device import split_batch
from srdist.machine.launcher import Launch
from srdist.quality.scores import BATCH
from srdist.shards.reader import ShardIndex
from srdist.stream.pairs import EvalStream, TrainStream, check_set, what_makes_lr
from srdist.stream.share import Share

_FEW = 64
"""Up to this many images are validated without workers: their processes would take memory for little."""


class Inputs:
    """The streams of one rank, and what follows from the sets and the number of ranks.

    Args:
        should_stop: asked while a batch of training is waited for.

    Raises:
        UserError: sets, batch, patches and losses do not fit each other.
    """

    def __init__(self, config: Config, share: Share, *, should_stop: Callable[[], bool]) -> None:
        data, train, scale = config.data, config.train, config.model.scale
        self.rank_batch, self.accumulation = split_batch(
            train.global_batch, world=share.world, rank_batch=train.rank_batch
        )
        self.index = ShardIndex.open(data.shards, data.train_split)
        height, width = check_set(self.index, data, scale=scale, global_batch=train.global_batch)
        check_size(train.all_losses, height, width)
        self.lr_size = (height // scale, width // scale)
        self.val_index = ShardIndex.open(data.shards, data.val_split)
        many = min(train.val_images or len(self.val_index), len(self.val_index)) > _FEW
        with ExitStack() as opened:
            self.stream = opened.enter_context(
                TrainStream(
                    self.index,
                    data,
                    share,
                    scale=scale,
                    seed=train.seed,
                    global_batch=train.global_batch,
                    rank_batch=self.rank_batch,
                    should_stop=should_stop,
                    prefetch=Launch.of(os.environ).local_rank == 0,
                )
            )
            self.val_stream = opened.enter_context(
                validation_stream(
                    config,
                    self.val_index,
                    share,
                    limit=train.val_images,
                    workers=data.workers if many else 0,
                )
            )
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Stop the workers."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def validation_stream(
    config: Config, index: ShardIndex, share: Share, *, limit: int | None, workers: int
) -> EvalStream:
    """The first `limit` images of the validation split (None: all), with the LR that training's degradation makes."""
    data = config.data
    return EvalStream(
        index,
        what_makes_lr(index, data.how_degraded, scale=config.model.scale),
        share,
        batch=BATCH,
        workers=workers,
        limit=limit,
        on_bad_sample=data.on_bad_sample,
    )
