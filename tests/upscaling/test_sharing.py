"""A directory job among others, and over time: whose an output is, who works in a folder, what sleep and power cuts leave."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from srdist.machine.claims import Worker
from srdist.machine.errors import UserError
from srdist.networks.weightfile import load_weights
from srdist.upscaling import imagefile, jobstate, maker
from srdist.upscaling.job import Job, Output
from tests.upscaling.test_job import done_lines, go, outputs, refused, write_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "w.safetensors")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """12 images of 8x8."""
    source = tmp_path / "src"
    source.mkdir()
    noise = np.random.default_rng(0)
    for k in range(12):
        Image.fromarray(noise.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(source / f"{k:02d}.png")
    return source


def test_an_output_stays_ours_when_its_input_was_damaged_for_a_while(
    small: Path, tmp_path: Path, weights: Path
) -> None:
    dst = tmp_path / "dst"
    go(small, dst, weights)
    first = (dst / "03.png").read_bytes()
    (small / "03.png").write_bytes(b"damaged")
    assert go(small, dst, weights).failed == 1
    assert (dst / "03.png").read_bytes() == first
    Image.new("RGB", (9, 9)).save(small / "03.png")
    report = go(small, dst, weights)
    assert (report.done, report.failed) == (12, 0)
    assert Image.open(dst / "03.png").size == (18, 18)


def test_a_foreign_file_stays_foreign_however_often_the_job_is_run(
    small: Path, tmp_path: Path, weights: Path
) -> None:
    dst = tmp_path / "dst"
    dst.mkdir()
    (dst / "03.png").write_bytes(b"precious")
    for _ in range(2):
        assert go(small, dst, weights).failed == 1
        assert (dst / "03.png").read_bytes() == b"precious"
    assert go(small, dst, weights, output=Output(overwrite=True)).failed == 0


def test_a_process_that_others_took_for_dead_makes_itself_anew_and_fails_nothing(
    small: Path, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dst = tmp_path / "dst"
    loaded = 0

    def load_and_sleep(path: Path, *, output_pixels: int) -> imagefile.Loaded:
        nonlocal loaded
        loaded += 1
        if loaded == 6:  # what a newcomer does with the files of a process that it takes for dead
            (worker,) = (dst / ".srdist" / "workers").iterdir()
            shutil.rmtree(worker, ignore_errors=True)  # as Worker does it
        return imagefile.load(path, output_pixels=output_pixels)

    monkeypatch.setattr(maker, "load", load_and_sleep)
    report = go(small, dst, weights)
    assert (report.done, report.failed) == (12, 0)
    assert set(done_lines(dst).values()) == {1}
    assert not [*(dst / ".srdist" / "workers").iterdir(), *(dst / ".srdist" / "claims").iterdir()]


def test_after_a_power_cut_no_output_is_without_a_receipt(
    small: Path, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dst = tmp_path / "dst"
    synced: dict[str, str] = {}  # of each log what was on the disk when it was synced last
    unknown: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def fsync_and_note(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.suffix == ".jsonl" and path.exists():
            synced[path.name] = path.read_text()

    def replace_and_look(self: Path, target: Path) -> Path:
        if target.suffix == ".png" and f'"output": "{target.name}"' not in "".join(synced.values()):
            unknown.append(target.name)
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync_and_note)
    monkeypatch.setattr(Path, "replace", replace_and_look)
    assert go(small, dst, weights).done == 12
    assert synced
    assert unknown == []
    # The logs as that cut leaves them, with all outputs: nothing is foreign, and everything is made again.
    logs = list((dst / ".srdist" / "receipts").iterdir())
    for log in logs:
        begun = [line for line in log.read_text().splitlines(True) if json.loads(line)["status"] == "begun"]
        log.write_text("".join(begun))
    report = go(small, dst, weights)
    assert (report.computed, report.failed) == (12, 0)


def test_a_rerun_works_while_it_looks_for_the_outputs_of_earlier_ones(
    small: Path, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dst = tmp_path / "dst"
    go(small, dst, weights)
    (dst / "04.png").unlink()
    Image.new("RGB", (6, 6)).save(small / "new.png")
    begun, waited = threading.Event(), []
    load, length = imagefile.load, jobstate._length

    def load_and_tell(path: Path, *, output_pixels: int) -> imagefile.Loaded:
        begun.set()
        return load(path, output_pixels=output_pixels)

    def look_late(path: Path) -> Any:
        waited.append(begun.wait(5))
        return length(path)

    monkeypatch.setattr(maker, "load", load_and_tell)
    monkeypatch.setattr(jobstate, "_length", look_late)
    report = go(small, dst, weights)
    assert all(waited)
    assert (report.done, report.computed) == (13, 2)


def test_two_jobs_with_different_weights_do_not_work_in_one_folder_at_once(
    small: Path, tmp_path: Path, weights: Path
) -> None:
    dst = tmp_path / "dst"
    with Worker(dst / ".srdist", purpose="of other weights") as other:
        said = refused(small, dst, "--weights", weights)
    assert f"a job with other weights or output options is at work in it ({other.name})" in said
    assert outputs(dst) == {}
    assert go(small, dst, weights).done == 12


def test_two_jobs_on_different_folders_do_not_work_in_one_at_once(
    small: Path, tmp_path: Path, weights: Path
) -> None:
    dst, other = tmp_path / "dst", tmp_path / "other"
    settings = Job.of(
        small, dst, output=Output(), weights_digest=load_weights(weights)[0].digest(), precision="fp32"
    ).settings
    with Worker(dst / ".srdist", purpose=f"{settings} {other}") as worker:
        said = refused(small, dst, "--weights", weights, "--precision", "fp32")
    assert f"a job on the images of {other} is at work in it ({worker.name})" in said
    with Worker(dst / ".srdist", purpose=f"{settings} {small}"):
        assert go(small, dst, weights).done == 12
        assert go(small / "03.png", dst, weights).done == 1  # one image of the same folder


def test_an_input_that_is_a_link_to_an_output_fails_alone_and_is_never_read(
    small: Path, tmp_path: Path, weights: Path
) -> None:
    dst = tmp_path / "dst"
    go(small, dst, weights)
    made = outputs(dst)
    (small / "again.png").symlink_to(dst / "00.png")
    (small / "03.png").unlink()
    (small / "03.png").symlink_to(dst / "03.png")
    (small / "same.png").symlink_to(small / "01.png")
    report = go(small, dst, weights, output=Output(overwrite=True))
    assert (report.images, report.done, report.failed) == (14, 12, 2)
    listed = [json.loads(line) for line in (dst / "failures.jsonl").read_text().splitlines()]
    assert [line["path"] for line in listed] == ["03.png", "again.png"]
    assert all("leads into DST" in line["reason"] for line in listed)
    assert outputs(dst) == made | {"same.png": made["01.png"]}
    for path in small.iterdir():
        path.unlink()
    (small / "03.png").symlink_to(dst / "03.png")
    assert go(small, dst, weights).failed == 1


def test_the_failures_of_one_run_are_not_tried_again_by_a_process_that_joins_it(
    small: Path, tmp_path: Path, weights: Path
) -> None:
    dst = tmp_path / "dst"
    (small / "03.png").write_bytes(b"damaged")
    with Worker(dst / ".srdist"):  # of the same run, whoever else comes and goes
        assert go(small, dst, weights).failed == 1
        report = go(small, dst, weights)
        assert (report.failed, report.computed) == (1, 11)
    logs = (dst / ".srdist" / "receipts").glob("*.jsonl")
    assert sum(log.read_text().count('"failed"') for log in logs) == 1


def test_what_is_recorded_and_cannot_be_read_back_ends_the_job_instead_of_going_round_for_ever(
    small: Path, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dst = tmp_path / "dst"
    record = Worker.record

    def record_badly(self: Worker, lines: bytes) -> None:
        record(self, lines.replace(b'"done"', b'"d0ne"'))

    monkeypatch.setattr(Worker, "record", record_badly)
    assert ".png cannot be read back" in refused(small, dst, "--weights", weights)


def test_no_link_brings_an_output_over_an_input(small: Path, tmp_path: Path, weights: Path) -> None:
    dst, w = tmp_path / "dst", ("--weights", weights)
    image = (small / "00.png").read_bytes()
    assert "would replace its input" in refused(small / "00.png", small, *w, "--overwrite")
    (small / "s").mkdir()
    (small / "00.png").rename(small / "s" / "x.png")
    dst.mkdir()
    (dst / "s").symlink_to(small / "s")
    assert "leads into SRC" in refused(small, dst, *w, "--overwrite")
    assert (small / "s" / "x.png").read_bytes() == image
    (dst / "s").unlink()
    go(small, dst, weights)
    (small / "out").symlink_to(dst)
    assert "outputs would become inputs" in refused(small, dst, *w)


def test_a_stop_is_a_stop_whatever_a_thread_is_blocked_in(small: Path, tmp_path: Path, weights: Path) -> None:
    dst = tmp_path / "dst"
    code = """
import os, sys, threading, time
from srdist.upscaling import maker, pipeline
from srdist.cli.main import main
def load(path, **_):
    os.write(1, b"reads\\n")  # at once: the lines of two threads printed side by side may mix
    threading.Event().wait()  # as in a file system that does not answer
maker.load, pipeline.GRACE_S = load, 0.2
main(sys.argv[1:])
"""
    command = [sys.executable, "-c", code, "upscale", small, dst, "--weights", weights, "--precision", "fp32"]
    with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"reads\n"
            process.terminate()
            assert process.wait(timeout=14) == 143
        finally:
            process.kill()
    assert not [*(dst / ".srdist" / "workers").iterdir(), *(dst / ".srdist" / "claims").iterdir()]


@pytest.mark.parametrize("name", ["runs", "plans"])
def test_a_pipe_in_the_state_of_a_job_is_not_waited_for(
    small: Path, tmp_path: Path, weights: Path, name: str
) -> None:
    dst = tmp_path / "dst"
    go(small, dst, weights)
    (place,) = (dst / ".srdist" / name).iterdir()
    place.unlink()
    os.mkfifo(place)
    assert go(small, dst, weights).done == 12


def test_a_destination_of_links_in_a_loop_is_one_line(small: Path, tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    with pytest.raises(UserError, match="one: no place for outputs: Symlink loop"):
        Job.of(small, tmp_path / "one", output=Output(), weights_digest="")
