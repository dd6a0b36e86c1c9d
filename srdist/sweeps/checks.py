"""What is looked at before the first trial of a sweep: that every one of them can begin."""

from __future__ import annotations

from collections.abc import Iterator

from srdist.config import Config
from srdist.machine.device import split_batch
from srdist.machine.errors import UserError
from srdist.shards.reader import ShardIndex
from srdist.stream.pairs import what_makes_lr
from srdist.sweeps.sweepfile import Sweep

_MOST_SETS = 100


def check_trials(sweep: Sweep, *, world: int) -> Iterator[str]:
    """Yield what a user should know of the sweep.

    Args:
        world: ranks that work on a trial together.

    Raises:
        UserError: a trial could not begin: its images are not there, their LR does not come from where it says, or
            its batch cannot be shared out.
    """
    configs = list(sweep.configs())
    batches = {(config.train.global_batch, config.train.rank_batch): None for config in configs}
    splits = {
        (data.shards, split, repr(data.how_degraded), config.model.scale): data.how_degraded
        for config in configs
        for data in [config.data]
        for split in (data.train_split, data.val_split)
    }
    try:
        for global_batch, rank_batch in batches:
            split_batch(global_batch, world=world, rank_batch=rank_batch)
        for (shards, split, _, scale), made_by in list(splits.items())[:_MOST_SETS]:
            what_makes_lr(ShardIndex.open(shards, split), made_by, scale=scale)
    except UserError as error:
        raise UserError(f"{sweep.source}: {error}") from error
    if len({_task(config) for config in configs}) > 1:
        yield (
            f"{sweep.source}: the trials are scored on different images, factors or kernels, "
            "so their scores say little beside each other"
        )


def _task(config: Config) -> tuple[object, ...]:
    data = config.data
    return (
        data.shards,
        data.val_split,
        data.kernel,
        repr(data.degradation),
        config.model.scale,
        config.train.val_images,
    )
