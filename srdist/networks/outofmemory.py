"""Whether an error says that memory has run out: torch, cuDNN and cuBLAS each have words of their own for it."""

from __future__ import annotations

import torch

_WORDS = (
    # The CPU allocator raises a plain RuntimeError.
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    # What torch says where no algorithm of cuDNN gets the workspace that it needs.
    "unable to find an engine to execute this computation",
    "Unable to find a valid cuDNN algorithm",
    # cuBLAS's and cuDNN's handles take memory as well, at the first call.
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_NOT_INITIALIZED",
)


def out_of_memory(error: Exception) -> bool:
    """Whether less at a time may help."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        words in str(error) for words in _WORDS
    )
