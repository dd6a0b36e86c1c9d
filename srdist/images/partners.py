"""Which LR file belongs to which HR file, by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath


def partners(hr: Iterable[str], lr: Iterable[str], *, scale: int | None) -> dict[str, list[str]]:
    """For each HR file the LR files that its name fits: that of the same path, else those equal up to what data sets append.

    Args:
        hr: relative paths with slashes, as `lr`.
        scale: whose sign (x2, _SRF_2) an LR file's name may end with; None: of any from 2 to 8.
    """
    lr = list(lr)
    same = set(lr)
    by_stem: dict[str, list[str]] = {}
    for name in lr:
        by_stem.setdefault(_bare(name, scale), []).append(name)
    return {name: [name] if name in same else by_stem.get(_bare(name, scale), []) for name in hr}


def _bare(name: str, scale: int | None) -> str:
    """The relative path without what sets append: babyx2.png, 0001x2.png, img_001_SRF_2_LR.png."""
    relative = PurePosixPath(name)
    sign = scale or "[2-8]"
    stem = re.sub(r"[_-](?:HR|LR|GT)$", "", relative.stem, flags=re.IGNORECASE)
    stem = re.sub(rf"(?:[_-]?x{sign}|_SRF_{sign})$", "", stem, flags=re.IGNORECASE)
    return str(relative.parent / stem)
