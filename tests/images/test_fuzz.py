"""A short form of `python -m benchmarks.fuzz`, whose long one is 10,000 files."""

from __future__ import annotations

import pytest

from benchmarks import fuzz


def test_damaged_images_of_every_format_end_in_pixels_or_in_the_one_error() -> None:
    assert fuzz.findings(seed=1, first=0, count=150) == []


def test_what_is_looked_for_is_found_and_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(data: bytes) -> None:
        if len(data) % 2:
            raise IndexError("some table")

    monkeypatch.setattr(fuzz, "WAYS", (stumble,))
    found = fuzz.findings(seed=1, first=0, count=20)
    assert {one["problem"] for one in found} == {"IndexError: some table"}
    repeated = [one for i in range(20) for one in fuzz.findings(seed=1, first=i, count=1)]
    assert repeated == found
