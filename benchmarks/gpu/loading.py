"""The training stream on all cores: whole frames, and patches, several of an image."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.gpu.material import Material
from srdist.machine.cores import usable_cores
from srdist.shards.reader import ShardIndex
from srdist.stream.config import DataConfig
from srdist.stream.pairs import TrainStream
from srdist.stream.share import Share

_PATCHES_PER_IMAGE = (1, 4, 16)
_BATCH = 256


def loading(material: Material) -> dict[str, Any]:
    """Images or patches a second, with a worker for each core but the training process's."""
    workers = max(1, usable_cores() - 1)
    side = material.sizes.patch
    kinds = {"whole frames": DataConfig(hr_patch=None, flips=False, workers=workers)}
    kinds |= {
        f"patches of {side}, {k} an image": DataConfig(hr_patch=side, patches_per_image=k, workers=workers)
        for k in _PATCHES_PER_IMAGE
    }
    rows = {name: _rate(material, data) for name, data in kinds.items()}
    for name, rate in rows.items():
        print(f"loading {name}, {workers} workers: {rate:,.0f} a second")
    return {"workers": workers, "per_s": rows}


def _rate(material: Material, data: DataConfig) -> float:
    index = ShardIndex.open(str(material.shards), "train")
    batch = min(_BATCH, len(index))
    with TrainStream(index, data, Share(), scale=2, seed=0, global_batch=batch, rank_batch=batch) as stream:
        pairs = iter(stream)
        next(pairs)
        count, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < material.sizes.seconds:
            count += len(next(pairs).ids)
        return count / (time.perf_counter() - begin)
