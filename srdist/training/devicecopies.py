"""Pairs from the ring's memory to a CUDA device, beside what it computes.

The ring's memory is page-locked once, so that the device reads it by itself; the copies go through a stream of their
own, and the stream that computes waits for them, not the host.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from srdist.stream.pairs import Pair


class DeviceCopies:
    """The copies of one ring, whose memory stays locked until `close`; images travel as uint8."""

    def __init__(self, memory: Tensor, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._begun: list[torch.cuda.Event] = []
        self._on_the_way: list[Tensor] = []
        self._device = device
        with torch.cuda.device(device):
            runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
            torch.cuda.check_error(int(runtime.cudaHostRegister(memory.data_ptr(), memory.nbytes, 0)))
        self._unlock = partial(runtime.cudaHostUnregister, memory.data_ptr())

    def bound(self) -> None:
        """Let the host be two steps ahead of the device and no more: what is copied for later steps takes its memory."""
        if len(self._begun) == 2:
            self._begun.pop(0).synchronize()
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        self._begun.append(event)

    def of(self, pair: Pair) -> Pair:
        """The Pair on the device, still on its way there; ids and positions stay on the host, in memory of their own."""
        with torch.cuda.stream(self._stream):
            lr, hr, weight = (
                each.to(self._device, non_blocking=True) for each in (pair.lr, pair.hr, pair.weight)
            )
            self._copied.record(self._stream)
        self._on_the_way += [lr, hr, weight]
        return Pair(lr, hr, weight, pair.ids.clone(), pair.positions.clone(), pair.bad)

    def wait(self) -> None:
        """Wait on the host until the last Pair has been read from the ring."""
        self._copied.synchronize()

    def ready(self) -> None:
        """Let what is computed from here on wait, on the device, for all that was on its way."""
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._stream)
        for tensor in self._on_the_way:
            # Its memory is the other stream's, which must not give it away while this one reads.
            tensor.record_stream(computing)
        self._on_the_way.clear()

    def close(self) -> None:
        """Unlock the ring's memory."""
        self._stream.synchronize()
        torch.cuda.check_error(int(self._unlock()))
