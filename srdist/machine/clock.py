"""A span of time in figures, the same wherever one is told."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """Minutes and seconds, `1:08`, with hours where there are any, `2:01:08`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
