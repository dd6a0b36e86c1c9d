"""Proof of exactly once: what an epoch delivered, as a count and an order-free hash, against the manifest."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from srdist.machine.errors import WorkError
from srdist.machine.mixing import mix64
from srdist.shards.reader import ShardIndex


class EpochProof:
    """This rank's sums over the patches it was given, by epoch: (count, sum of hashes mod 2**64 as int64).

    The hash of patch j of a sample is mix64(id) * (1 if j == 0 else mix64(j)), so that an epoch's sum follows from
    the manifest's hash of the ids and the number of patches.
    """

    def __init__(self, index: ShardIndex, *, start: int, patches: int = 1) -> None:
        """Begin at stream position `start`; in the middle of an epoch, `restore` what came before.

        Args:
            patches: of each sample, in a row.
        """
        self._index = index
        self._factors = mix64(np.arange(patches, dtype=np.uint64))
        self._factors[0] = 1
        self._length = len(index) * patches
        self._open_epoch = start // self._length
        self._sums: dict[int, tuple[int, int]] = {}

    def add(self, positions: Int64[Tensor, " n"], ids: Int64[Tensor, " n"]) -> None:
        """Count patches that were trained on."""
        epochs = positions.numpy() // self._length
        factors = self._factors[positions.numpy() % len(self._factors)]
        hashes = mix64(ids.numpy().astype(np.uint64)) * factors
        for epoch in np.unique(epochs).tolist():
            inside = epochs == epoch
            self._add(epoch, int(inside.sum()), int(hashes[inside].sum(dtype=np.uint64)))

    def finished(self, samples_seen: int) -> list[int]:
        """Epochs that the stream has completed at global position `samples_seen` and that are not yet taken."""
        return list(range(self._open_epoch, samples_seen // self._length))

    def take(self, epoch: int) -> Int64[Tensor, " 2"]:
        """This rank's (count, hash) of a finished epoch, to be summed over the ranks; it is then no longer open."""
        self._open_epoch = epoch + 1
        return _tensor(self._sums.pop(epoch, (0, 0)))

    def check(self, epoch: int, total: Int64[Tensor, " 2"]) -> None:
        """Compare the sum over all ranks with what the manifest says one epoch is.

        Raises:
            WorkError: samples were left out, repeated or exchanged.
        """
        found_count, found_hash = (int(value) for value in total)
        per_sample = int(self._factors.sum(dtype=np.uint64))
        expected_hash = int(self._index.ids_hash, 16) * per_sample % 2**64
        if (found_count, found_hash % 2**64) != (self._length, expected_hash):
            what = "sample" if len(self._factors) == 1 else f"one of {len(self._factors)} patches a sample"
            raise WorkError(
                f"epoch {epoch} was not every {what} exactly once: expected {self._length} samples of hash "
                f"{expected_hash:016x}, found {found_count} of hash {found_hash % 2**64:016x} "
                f"({self._index.folder}, split {self._index.split})"
            )

    def open_sums(self) -> Int64[Tensor, " 2"]:
        """This rank's sums of the unfinished epoch: summed over the ranks, they go into the checkpoint."""
        return _tensor(self._sums.get(self._open_epoch, (0, 0)))

    def restore(self, total: Int64[Tensor, " 2"]) -> None:
        """Add the sums a checkpoint holds: on rank 0 those stored, on the others zeros."""
        count, hashed = (int(value) for value in total)
        self._add(self._open_epoch, count, hashed)

    def _add(self, epoch: int, count: int, hashed: int) -> None:
        count_before, hashed_before = self._sums.get(epoch, (0, 0))
        self._sums[epoch] = (count_before + count, (hashed_before + hashed) % 2**64)


def _tensor(sums: tuple[int, int]) -> Int64[Tensor, " 2"]:
    count, hashed = sums
    return torch.tensor([count, hashed - 2**64 if hashed >= 2**63 else hashed], dtype=torch.int64)
