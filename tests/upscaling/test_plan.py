"""What a directory job knows of its images: which there are, in which order, and what has become of each."""

from __future__ import annotations

import json
import os
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from srdist.images.photo import OutputFormat, probe_size
from srdist.machine.errors import WorkError
from srdist.machine.files import write_bytes
from srdist.upscaling.job import Job, Output
from srdist.upscaling.jobstate import Tally
from srdist.upscaling.outputs import unusual_outputs, usual_output
from srdist.upscaling.plan import Inputs, Plan
from srdist.upscaling.receipts import Receipts


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not an image")
    return folder


def job_of(source: Path, **output: Any) -> Job:
    return Job(source, source.parent / "dst", Output(**output), "s")


def test_the_order_is_that_of_the_paths_as_bytes_whatever_the_names(tmp_path: Path) -> None:
    names = ["a.png", "a-b.png", "a/z.png", "a b/c.png", "a/b/c.png", "a0/x.png", "A.png", "ä.png", "z.png"]
    names += ["a/\udcff.png", "\U0001f408.png", "￿.png"]
    inputs = Inputs(job_of(touch(tmp_path / "src", *names)))
    found = [inputs.paths[i] for i in range(len(inputs))]
    assert found == sorted(names, key=os.fsencode)
    assert [inputs.paths.find(name) for name in found] == list(range(len(names)))
    assert [inputs.paths.find(name) for name in ("", "a", "a/", "a.pn", "a.pngg", "zz")] == [None] * 6


@pytest.mark.parametrize("output_format", [None, "png", "jpg"])
def test_no_two_images_share_an_output_and_whoever_has_its_name_keeps_it(
    output_format: OutputFormat | None,
) -> None:
    chance = random.Random(0)
    suffixes = [".jpg", ".JPG", ".png", ".gif", ".jpeg", ".jpg.png", ".jpg_.png", ".gif.png", ".b.png"]
    possible = [stem + suffix for stem in "ab" for suffix in suffixes]
    for _ in range(300):
        names = set(chance.sample(possible, chance.randint(1, 12)))
        folders = set(chance.sample([*possible, "a", "b"], 3)) - names
        unusual = unusual_outputs(sorted(names), folders, output_format=output_format)
        usual = {name: usual_output(name, output_format=output_format) for name in names}
        outputs = usual | unusual
        assert len(set(outputs.values())) == len(names) == len(outputs)
        assert not folders & set(outputs.values())
        assert all(outputs[name] == name for name in names if usual[name] == name)
        assert all(Path(outputs[name]).suffix == Path(usual[name]).suffix for name in names)


def test_a_plan_takes_some_bytes_an_image(tmp_path: Path) -> None:
    source = touch(tmp_path / "src", *(f"{i % 7}/some_longer_name_{i:06d}.jpg" for i in range(4000)))
    probe_size(source / "0" / "some_longer_name_000000.jpg")  # loads Pillow's readers
    tracemalloc.start()
    job = job_of(source, format="png")
    plan = Plan(Inputs(job), cache=tmp_path / "plans", write=write_bytes)
    tally = Tally(plan, Receipts(tmp_path), job, run=0)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert tally.count(Tally.OPEN) == 4000
    assert held / 4000 < 150  # the receipts' places included


def test_sizes_are_read_once_and_again_where_their_file_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = Inputs(job_of(touch(tmp_path / "src", "a.png", "b.png")))
    probed: list[Path] = []

    def probe(path: Path) -> tuple[int, int]:
        probed.append(path)
        return len(probed), 10

    monkeypatch.setattr("srdist.upscaling.plan.probe_size", probe)
    cache = tmp_path / "plans"
    assert sorted(Plan(inputs, cache=cache, write=write_bytes).pixels) == [10, 20]
    assert sorted(Plan(inputs, cache=cache, write=write_bytes).pixels) == [10, 20]
    assert len(probed) == 2
    (kept,) = cache.iterdir()
    kept.write_bytes(kept.read_bytes()[:11])
    assert sorted(Plan(inputs, cache=cache, write=write_bytes).pixels) == [30, 40]


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
