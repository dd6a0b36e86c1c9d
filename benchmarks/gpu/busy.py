"""What a GPU says of a step: the share of the time that it computes, and where the host waits for it unseen."""

from __future__ import annotations

import time
import warnings

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.learners import Stepping

_STEPS = 5


def busy_share(stepping: Stepping) -> float:
    """Time of the GPU's kernels and copies over the time of the steps, by torch's profiler."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        begin = time.perf_counter()
        for _ in range(_STEPS):
            stepping.step()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - begin
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in seen.events() or ()
        if event.device_type.name == "CUDA"
    )
    busy_us, until = 0.0, float("-inf")
    for start, end in spans:  # of several streams, which may overlap
        busy_us += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy_us / 1e6 / seconds


def hidden_syncs(stepping: Stepping) -> int:
    """How often the host waits for the device in five steps, by torch's own warnings."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            for _ in range(_STEPS):
                stepping.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in caught)
