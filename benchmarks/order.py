"""What the order costs at 10^4 and at 10^9 samples: time of a global batch's ids, of a resume, and peak memory.

Usage: python -m benchmarks.order [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from srdist.stream.order import OrderMode, make_order

BATCH = 256


def measure(mode: OrderMode, *, samples: int, shards: int, rounds: int) -> dict[str, float]:
    """Milliseconds for a batch's ids anywhere, for a new order at a far position, and peak memory in MB."""
    shard_samples = [samples // shards] * shards
    tracemalloc.start()
    order = make_order(mode, shard_samples=shard_samples, window_shards=8, seed=0)
    batches, resumes = [], []
    for number in range(rounds):
        position = samples * 3 // 2 + number * 12_345
        start = time.perf_counter()
        order.ids(np.arange(position, position + BATCH))
        batches.append(time.perf_counter() - start)
        start = time.perf_counter()
        fresh = make_order(mode, shard_samples=shard_samples, window_shards=8, seed=number)
        fresh.ids(np.arange(position, position + BATCH))
        resumes.append(time.perf_counter() - start)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {"batch_ms": median(batches) * 1e3, "resume_ms": median(resumes) * 1e3, "peak_mb": peak / 1e6}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    print(f"global batches of {BATCH}\n")
    print(
        "| order | samples | shards | a batch's ids, ms | resume, ms | peak memory, MB |\n|---|---|---|---|---|---|"
    )
    modes: tuple[OrderMode, ...] = ("global", "window")
    for mode in modes:
        for samples, shards in ((10**4, 2), (10**9, 8_000), (10**9, 200_000)):
            row = measure(mode, samples=samples, shards=shards, rounds=5 if options.quick else 50)
            results[f"{mode} {samples} samples in {shards} shards"] = row
            print(
                f"| {mode} | {samples:,} | {shards:,} | {row['batch_ms']:.2f} | {row['resume_ms']:.2f} | {row['peak_mb']:.1f} |"
            )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
