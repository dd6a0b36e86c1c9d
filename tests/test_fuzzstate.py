"""A short form of `python -m benchmarks.fuzz --part state`, whose long one is 1,000 files."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks import fuzz, fuzzstate
from benchmarks.upscalekills import job_weights


@pytest.mark.slow
def test_damaged_state_of_each_kind_ends_in_the_right_result_or_in_one_line(tmp_path: Path) -> None:
    count = len(fuzzstate.CASES)
    assert fuzzstate.findings(tmp_path, seed=1, first=0, count=count, mutated=fuzz.mutated) == []


def test_a_command_that_says_all_is_well_and_leaves_other_files_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = job_weights(tmp_path / "others.safetensors", seed=5).read_bytes()
    job = next(case for case in fuzzstate.CASES if case.made == "dst/*.png")
    monkeypatch.setattr(
        fuzzstate, "CASES", (fuzzstate.Case("weights", "w.safetensors", job.command, job.made),)
    )

    def exchanged(data: bytes, chance: random.Random) -> bytes:
        del data, chance
        return others

    (tmp_path / "work").mkdir()
    found = fuzzstate.findings(tmp_path / "work", seed=0, first=0, count=6, mutated=exchanged)
    assert {one["problem"] for one in found} == {"exit code 0, and other files than without the damage"}
