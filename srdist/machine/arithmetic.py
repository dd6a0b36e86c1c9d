"""How an NVIDIA GPU computes: float32 as such or in TensorFloat-32, the same bits each time or whatever is fastest.

By itself torch computes the convolutions of float32 networks in TensorFloat-32, which keeps 10 of the 23 bits of a
mantissa. On other devices none of this has an effect, but for the deterministic algorithms.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def set_for_training(*, tf32: bool, deterministic: bool) -> None:
    """Set how this process computes from here on; call before it computes anything on a GPU.

    Args:
        tf32: whether float32 convolutions and matrix products are computed in TensorFloat-32.
        deterministic: whether only algorithms are taken whose sums come out the same each time; what has none
            raises RuntimeError. Else cuDNN tries which of its algorithms is fastest for each new shape.
    """
    _set_tf32(tf32)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        # Without it cuBLAS, which reads it at its start, is refused.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # Else every torch.empty is filled, in case somebody reads it.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(deterministic)


def set_for_use() -> None:
    """Set that this process computes float32 as float32, with no search for the fastest algorithm: images are of many sizes."""
    _set_tf32(False)
    torch.backends.cudnn.benchmark = False


@contextmanager
def for_use() -> Iterator[None]:
    """As set_for_use for as long as it lasts, in the middle of a training."""
    tf32, benchmark = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    set_for_use()
    try:
        yield
    finally:
        _set_tf32(tf32)
        torch.backends.cudnn.benchmark = benchmark


def _set_tf32(on: bool) -> None:
    # Not by torch's newer fp32_precision: parts of torch 2.13 (its compiler) still read these, and refuse a mixture.
    torch.backends.cudnn.allow_tf32 = on
    torch.backends.cuda.matmul.allow_tf32 = on
