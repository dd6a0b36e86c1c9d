"""What a device can do at most, measured: its matrix products, its copies, and the clock that waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Literal

import torch

Numbers = Literal["fp32", "tf32", "bf16", "fp16"]
"""What a matrix product computes in; tf32 is float32 in memory."""


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds until the device has done it."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def matmul_rate(device: torch.device, numbers: Numbers) -> float:
    """Floating point operations a second of a large square matrix product."""
    side = 8192 if device.type == "cuda" else 1536
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(numbers, torch.float32)
    a, b = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
    with tensor_float32(numbers == "tf32"):
        times = [timed(lambda: a @ b, device) for _ in range(6)]
    return 2 * side**3 / median(times[1:])


def copy_rate(device: torch.device) -> float:
    """Bytes a second, read and written, of a copy that no cache holds."""
    source = torch.rand(1 << 26, device=device)
    target = torch.empty_like(source)
    times = [timed(lambda: target.copy_(source), device) for _ in range(6)]
    return 2 * source.nbytes / median(times[1:])


@contextmanager
def tensor_float32(on: bool) -> Iterator[None]:
    """Let matrix products of float32 be computed in TF32, or not, on GPUs that have it."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if on else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
