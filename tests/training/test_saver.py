"""Checkpoints that are written while training goes on: one at a time, of the step they were begun at, and nothing is lost."""

from __future__ import annotations

import errno
from pathlib import Path
from threading import Event

import pytest
import torch

from srdist.runs import checkpoint
from srdist.training.hostcopies import HostCopies
from srdist.training.progress import Progress
from tests.training.runs import Here, assert_equal_states

EVERY_2 = (
    "train.checkpoint_every=2",
    "train.keep_checkpoints=9",
    "train.decay_steps=6",
    "train.ema_decay=0.9",
)


def test_steps_are_taken_while_a_checkpoint_is_written_and_it_holds_the_step_it_was_begun_at(
    small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone_on, under_way = Event(), list[int]()
    write, step_done = checkpoint.write, Progress.step_done

    def slow(folder: Path, content: checkpoint.Checkpoint, *, step: int) -> Path:
        under_way.append(step)
        assert under_way == [step]
        if step == 2:
            assert gone_on.wait(60), "training waits for the write"
        path = write(folder, content, step=step)
        under_way.remove(step)
        return path

    def noted(progress: Progress) -> None:
        step_done(progress)
        if progress.state.counts.step == 3:
            gone_on.set()

    monkeypatch.setattr(checkpoint, "write", slow)
    monkeypatch.setattr(Progress, "step_done", noted)
    long = Here(small_set, tmp_path / "long", EVERY_2)
    long.train("train.steps=6")
    short = Here(small_set, tmp_path / "short", EVERY_2)
    gone_on.set()
    short.train("train.steps=2")

    folder = long.run / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == [f"step-0000000{n}" for n in (2, 4, 6)]
    assert under_way == []
    found, expected = checkpoint.read(folder / "step-00000002"), short.final()
    for name, tensor in (expected.model | expected.optimizer).items():
        assert torch.equal((found.model | found.optimizer)[name], tensor), name


def test_a_write_that_fails_ends_the_run_within_a_checkpoint_and_the_rerun_loses_nothing(
    small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = checkpoint.write

    def fails(folder: Path, content: checkpoint.Checkpoint, *, step: int) -> Path:
        if step == 4:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))
        return write(folder, content, step=step)

    here = Here(small_set, tmp_path / "run", EVERY_2)
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "write", fails)
        with pytest.raises(OSError, match="No space left on device"):
            here.train("train.steps=30")
    assert here.final().trainer["state"]["step"] == 2
    assert max(row["step"] for row in here.rows("train")) <= 6
    here.train("train.steps=6")
    whole = Here(small_set, tmp_path / "whole", EVERY_2)
    whole.train("train.steps=6")
    assert_equal_states(here.final(), whole.final())
    assert here.loss_trace() == whole.loss_trace()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_copies_of_a_gpus_tensors_are_page_locked_contiguous_and_used_again() -> None:
    source = torch.rand(2, 3, 5, 7, device="cuda").contiguous(memory_format=torch.channels_last)
    copies, was = HostCopies(), source.cpu()
    held = copies.take({"a": source})["a"]
    source.zero_()
    assert held.is_pinned()
    assert held.is_contiguous()
    assert torch.equal(held, was)
    assert copies.take({"a": source})["a"].data_ptr() == held.data_ptr()
    assert not held.any()
