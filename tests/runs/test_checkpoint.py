"""Checkpoints: whole or passed over, whatever happens while one is written."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from srdist.runs import checkpoint
from srdist.runs.checkpoint import Checkpoint, DamagedCheckpointError


def state(step: int, *, size: int = 64) -> Checkpoint:
    values = torch.full((size,), float(step))
    return Checkpoint(
        model={"conv1.weight": values},
        optimizer={"conv1.weight/exp_avg": values},
        trainer={"state": {"step": step}},
        best=b"best" if step % 2 else None,
    )


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    written = checkpoint.write(tmp_path, state(3), step=3)
    found = checkpoint.newest(tmp_path)
    assert found is not None
    path, read, passed_over = found
    assert path == written == tmp_path / "step-00000003"
    assert torch.equal(read.model["conv1.weight"], state(3).model["conv1.weight"])
    assert (read.trainer, read.best, passed_over) == ({"state": {"step": 3}}, b"best", [])


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [_cut, _flip, Path.unlink], ids=["cut", "flipped bit", "missing"])
@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "trainer.json", "manifest.json"]
)
def test_a_damaged_newest_checkpoint_is_passed_over_by_name(tmp_path: Path, name: str, damage: Any) -> None:
    checkpoint.write(tmp_path, state(1), step=1)
    damage(checkpoint.write(tmp_path, state(2), step=2) / name)
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found[0].name == "step-00000001"
    assert "step-00000002" in found[2][0]


def test_whichever_byte_of_a_manifest_is_flipped_the_next_good_checkpoint_is_found(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, state(1), step=1)
    manifest = checkpoint.write(tmp_path, state(2), step=2) / "manifest.json"
    good = manifest.read_bytes()
    passed_over = 0
    for place in range(len(good)):
        for mask in (0x80, 0x20, 1 << place % 8, 0xFF ^ good[place] or 1):
            manifest.write_bytes(good[:place] + bytes([good[place] ^ mask]) + good[place + 1 :])
            found = checkpoint.newest(tmp_path)
            assert found is not None
            passed_over += len(found[2])
    assert passed_over > 3 * len(good)


@pytest.mark.parametrize(
    "content", [b"[" * 200_000, b"null", b"[1]", b'{"format": 1, "files": 3}', b"\xff", b""]
)
def test_a_manifest_of_another_kind_is_passed_over(tmp_path: Path, content: bytes) -> None:
    checkpoint.write(tmp_path, state(1), step=1)
    (checkpoint.write(tmp_path, state(2), step=2) / "manifest.json").write_bytes(content)
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found[0].name == "step-00000001"


def test_a_checkpoint_that_cannot_be_read_is_passed_over_by_name(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, state(1), step=1)
    broken = checkpoint.write(tmp_path, state(2), step=2) / "model.safetensors"
    broken.unlink()
    broken.mkdir()
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found[2] == [f"{broken}: Is a directory"]


def test_where_no_checkpoint_verifies_nothing_is_started_over_the_ruins(tmp_path: Path) -> None:
    (checkpoint.write(tmp_path, state(1), step=1) / "trainer.json").unlink()
    with pytest.raises(DamagedCheckpointError, match="no checkpoint verifies"):
        checkpoint.newest(tmp_path)
    assert checkpoint.newest(tmp_path / "nothing") is None


def test_strange_folders_are_no_checkpoints(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, state(1), step=1)
    for name in ("step-", "step-latest", "notes", ".step-00000009.1.tmp"):
        (tmp_path / name).mkdir()
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found[0].name == "step-00000001"


def test_pruning_keeps_the_newest_and_the_best_and_sweeps_up_after_crashes(tmp_path: Path) -> None:
    for step in range(1, 6):
        checkpoint.write(tmp_path, state(step), step=step)
    (tmp_path / ".step-00000009.1.tmp").mkdir()
    (tmp_path / "notes").mkdir()
    checkpoint.prune(tmp_path, keep=2, best_step=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "notes",
        "step-00000002",
        "step-00000004",
        "step-00000005",
    ]


KILL_POINTS = 40


@pytest.mark.parametrize("same_step", [False, True], ids=["next step", "same step again"])
def test_killed_at_every_write_point_the_newest_good_state_is_found(tmp_path: Path, same_step: bool) -> None:
    """A child is killed before the n-th system call that changes the disk, for every n until it gets through."""
    reached_the_end = False
    for point in range(KILL_POINTS):
        folder = tmp_path / str(point)
        checkpoint.write(folder, state(1), step=1)
        step = 1 if same_step else 2
        child = os.fork()
        if child == 0:
            _die_at(point)
            checkpoint.write(folder, state(7), step=step)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        found = checkpoint.newest(folder)
        assert found is not None
        value = found[1].trainer["state"]["step"]
        assert value in (1, 7)
        if os.WIFEXITED(status):
            reached_the_end = True
            assert value == 7
            break
        checkpoint.prune(folder, keep=2, best_step=None)
        assert all(path.name.startswith("step-") for path in folder.iterdir())
        assert checkpoint.newest(folder) is not None
    assert reached_the_end
    assert point >= 8


def _die_at(point: int) -> None:
    """SIGKILL this process before its call number `point` that opens for writing, syncs, makes, moves or removes."""
    left = [point]

    def count(event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(args[1], str) and "w" in args[1]
        if writes or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "srdist.fsync"):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1

    import sys

    fsync = os.fsync

    def counted_fsync(fd: Any) -> None:
        sys.audit("srdist.fsync")
        fsync(fd)

    os.fsync = counted_fsync
    sys.addaudithook(count)


def test_a_full_disk_loses_nothing_and_leaves_nothing_half_written(tiny_disk: Path) -> None:
    checkpoint.write(tiny_disk, state(1), step=1)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write(tiny_disk, state(2, size=400_000), step=2)
    assert [path.name for path in tiny_disk.iterdir()] == ["step-00000001"]
    found = checkpoint.newest(tiny_disk)
    assert found is not None
    assert found[1].trainer["state"]["step"] == 1
