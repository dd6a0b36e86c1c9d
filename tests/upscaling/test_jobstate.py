"""What has become of each image of a job, by the receipts of all processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from srdist.machine.errors import WorkError
from srdist.machine.files import write_bytes
from srdist.upscaling.jobstate import Tally
from srdist.upscaling.plan import Inputs, Plan
from srdist.upscaling.receipts import Receipts
from tests.upscaling.test_plan import job_of, touch

Log = Callable[..., None]


@pytest.fixture
def job(tmp_path: Path) -> tuple[Callable[[], Tally], Log]:
    """A job of two images whose receipts the test writes itself."""
    inputs = Inputs(job_of(touch(tmp_path / "src", "a.png", "b.png")))
    plan = Plan(inputs, cache=tmp_path / "plans", write=write_bytes)
    (tmp_path / "receipts").mkdir()
    touch(tmp_path / "dst", "a.png", "b.png")

    def tally() -> Tally:
        receipts = Receipts(tmp_path / "receipts")
        now = Tally(plan, receipts, job_of(tmp_path / "src"), run=2)
        now.look()
        return now

    def log(name: str, path: str, turn: int, **fields: Any) -> None:
        item = plan.item(inputs.paths.find(path) or 0)
        known = {"path": path, "output": path, "settings": "s", "turn": turn, "run": 1, "output_bytes": 12}
        known |= {"input_bytes": item.size, "input_mtime_ns": item.mtime_ns}
        with (tmp_path / "receipts" / f"{name}.jsonl").open("a") as file:
            file.write(json.dumps(known | fields) + "\n")

    return tally, log


@pytest.mark.parametrize("skew", [-1000.0, 0.0, 1000.0])
def test_the_last_receipt_counts_whichever_log_is_read_first_and_whatever_the_clocks_say(
    job: tuple[Callable[[], Tally], Log], skew: float
) -> None:
    tally, log = job
    log("z", "a.png", 3, status="done", time=5e4)
    log("a", "a.png", 5, status="begun", time=5e4 + skew)  # killed while it made the output again
    log("a", "b.png", 4, status="done", time=5e4 + skew)
    log("z", "b.png", 3, status="begun", time=5e4)
    now = tally()
    assert list(now.state) == [Tally.OPEN, Tally.DONE]
    assert now.computed == 0
    log("z", "a.png", 12, status="done", pixels=7, time=1.0, run=2)
    now.refresh()
    assert list(now.state) == [Tally.DONE, Tally.DONE]
    assert (now.computed, now.computed_pixels) == (1, 7)


def test_receipts_from_before_there_were_turns_are_taken_by_their_time(
    job: tuple[Callable[[], Tally], Log],
) -> None:
    tally, log = job
    log("z", "a.png", 0, status="done", time=3.0, run=0)
    log("a", "a.png", 0, status="begun", time=5.0, run=0)
    log("a", "b.png", 0, status="done", time=4.0, run=0)
    log("z", "b.png", 0, status="begun", time=3.0, run=0)
    assert list(tally().state) == [Tally.OPEN, Tally.DONE]


def test_what_failed_in_an_earlier_run_is_open_again(job: tuple[Callable[[], Tally], Log]) -> None:
    tally, log = job
    log("x", "a.png", 1, status="failed", reason="then", time=9e9)
    log("y", "b.png", 1, status="failed", reason="now", run=2)
    now = tally()
    assert list(now.state) == [Tally.OPEN, Tally.FAILED]
    assert list(now.failures()) == [("b.png", "now")]


def test_an_output_is_ours_by_any_receipt_and_foreign_without_one(
    job: tuple[Callable[[], Tally], Log],
) -> None:
    tally, log = job
    first, second = tally().plan.item(0), tally().plan.item(1)
    log("x", "a.png", 1, status="failed", reason="exists and was not made by srdist")
    log("x", "b.png", 1, status="done")
    log("x", "b.png", 2, status="failed", reason="the input was damaged for a while")
    assert not tally().is_ours(first)
    assert tally().is_ours(second)
    log("x", "a.jpg", 3, status="begun", output="a.png")  # of another input, which has gone
    assert tally().is_ours(first)


def test_receipts_of_images_that_are_gone_and_outputs_that_are_gone_prove_nothing(
    job: tuple[Callable[[], Tally], Log], tmp_path: Path
) -> None:
    tally, log = job
    log("x", "a.png", 3, status="done")
    log("x", "b.png", 3, status="done", output_bytes=13)
    log("x", "c.png", 3, status="done")
    assert list(tally().state) == [Tally.DONE, Tally.OPEN]
    (tmp_path / "dst" / "a.png").unlink()
    assert list(tally().state) == [Tally.OPEN, Tally.OPEN]


def test_the_last_word_of_another_process_on_a_changed_input_does_not_end_the_job(
    job: tuple[Callable[[], Tally], Log],
) -> None:
    tally, log = job
    now = tally()
    item = now.plan.item(0)
    now.settled_here(item, by="x")
    log("w", "a.png", 2, status="done", input_mtime_ns=7)
    log("x", "a.png", 1, status="done")
    now.refresh()
    assert now.state[0] == Tally.OPEN
    now.settled_here(item, by="x")
    log("x", "a.png", now.turn(item), status="begun")
    now.refresh()
    with pytest.raises(WorkError, match=r"recorded of a\.png cannot be read back"):
        now.settled_here(item, by="x")
