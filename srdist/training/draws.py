"""What a network draws by chance while it is trained (DropPath, dropout): a function of the seed, the step and the rank.

Such layers draw from torch's global generators. These are set before each forward pass, so that a resumed run draws
what the uninterrupted one drew, and no two ranks or passes draw the same.
"""

from __future__ import annotations

import numpy as np
import torch

from srdist.machine.mixing import mix64
from srdist.shards.permutation import DRAWS, stream_keys


def seed_draws(seed: int, *, step: int, rank: int, part: int) -> None:
    """Set torch's global generators, on all devices, for one forward pass.

    Args:
        part: which forward pass of this rank in the step, from 0.
    """
    key = stream_keys(seed, DRAWS, np.array([step], np.uint64))
    for value in (rank, part):
        key = mix64(key ^ np.uint64(value))
    torch.manual_seed(int(key[0] >> np.uint64(1)))
