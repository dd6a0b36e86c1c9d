"""A power cut at any moment of a save, a pack or a directory job: nothing promised is lost, and the next run ends equal."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from benchmarks.disk import Disk, emptied, record
from benchmarks.powercut import check, parts

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

PROGRAM = """
import os, sys
safe, unsafe = sys.argv[1] + "/safe", sys.argv[1] + "/unsafe"
with open(safe, "w") as file:
    file.write("safe data")
    file.flush()
    os.fsync(file.fileno())
folder = os.open(sys.argv[1], os.O_RDONLY)
os.fsync(folder)
with open(unsafe, "w") as file:
    file.write("unsafe data")
os.rename(unsafe, safe)
"""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """What PROGRAM did: a file that is safe, then replaced by one that was never synced."""
    folder = emptied(tmp_path_factory.mktemp("disk") / "folder")
    disk = Disk(folder)
    for call in record(PROGRAM, folder, folder=folder):
        disk.apply(call)
    assert (folder / "safe").read_text() == "unsafe data"
    return disk


@needs_strace
@pytest.mark.parametrize(
    ("names", "data", "left"),
    [
        (0.0, 0.0, {"safe": "safe data"}),
        (0.0, 1.0, {"safe": "safe data"}),
        (1.0, 1.0, {"safe": "unsafe data"}),
        # The name reached the disk and the content did not: what a rename without fsync risks.
        (1.0, 0.0, {"safe": ""}),
    ],
)
def test_what_was_not_synced_may_be_there_or_not(
    disk: Disk, tmp_path: Path, names: float, data: float, left: dict[str, str]
) -> None:
    disk.crash(names=names, data=data, draw=random.Random(0), target=tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == left


@needs_strace
def test_some_of_the_changes_may_reach_the_disk_without_the_others(disk: Disk, tmp_path: Path) -> None:
    seen = set()
    for seed in range(60):
        target = emptied(tmp_path / str(seed))
        disk.crash(names=0.5, data=0.5, draw=random.Random(seed), target=target)
        seen.add(tuple(sorted((path.name, path.read_text()) for path in target.iterdir())))
    whole, torn = (("safe", "unsafe data"),), (("safe", "unsafe"[:3]),)
    assert whole in seen or torn in seen
    # The new file's first name came to be and its second did not.
    assert any(
        dict(state).keys() == {"safe", "unsafe"} and dict(state)["safe"] == "safe data" for state in seen
    )


@needs_strace
@pytest.mark.slow
@pytest.mark.parametrize("name", ["save", "pack", "upscale"])
def test_after_a_power_cut_nothing_promised_is_lost_and_the_next_run_ends_equal(
    name: str, tmp_path: Path
) -> None:
    (part,) = (part for part in parts(tmp_path) if part.name == name)
    outcome = check(part, tmp_path / name, cuts=12)
    assert outcome.states >= 60
    assert outcome.broken == ()
