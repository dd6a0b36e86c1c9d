"""What came of packing or indexing, for who typed the command."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from srdist.shards.manifest import Manifest
from srdist.shards.plan import LEAVE_OUT, NO_TILE


@dataclass(frozen=True, slots=True)
class PackReport:
    """What came of packing: samples by split, and images left out by kind of reason."""

    manifest_id: str
    samples: dict[str, int]
    shards: int
    left_out: dict[str, int]
    other_files: dict[str, int]
    lr_scale: int | None
    """Of pairs; None: samples are HR images alone."""

    @classmethod
    def of(cls, manifest: Manifest, other_files: Counter[str]) -> PackReport:
        """The report of a manifest; `other_files` counts what was skipped by its ending."""
        return cls(
            manifest.manifest_id,
            {split: entry.samples for split, entry in manifest.splits.items()},
            sum(len(entry.shards) for entry in manifest.splits.values()),
            manifest.left_out,
            dict(other_files.most_common()),
            manifest.lr_scale,
        )

    @property
    def left_out_as_asked(self) -> dict[str, int]:
        """Of `left_out` the images that the recipe wants left out: nothing is wrong with them."""
        return {kind: count for kind, count in self.left_out.items() if kind in (LEAVE_OUT, NO_TILE)}
