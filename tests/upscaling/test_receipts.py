"""What became of each image, as all processes read it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from srdist.machine.claims import Worker
from srdist.machine.errors import UserError, WorkError
from srdist.upscaling.job import read_job
from srdist.upscaling.receipts import Receipt, Receipts, parse_receipt


def receipt(path: str, **changes: object) -> Receipt:
    fields: dict[str, object] = {"status": "done", "output": path, "settings": "s"} | changes
    return Receipt(path=path, **fields)  # type: ignore[arg-type]


def test_receipts_of_all_processes_are_read_as_they_grow(tmp_path: Path) -> None:
    receipts = Receipts(tmp_path / "receipts")
    assert list(receipts.refresh()) == []
    with Worker(tmp_path) as a, Worker(tmp_path) as b:
        a.record(receipt("x.png", status="begun").line())
        assert [r.status for _, r in receipts.refresh()] == ["begun"]
        b.record(receipt("x.png", notes=("n",)).line())
        a.record(receipt("ÿ\udcff.png", status="failed", reason="bad").line())
        found = dict(receipts.refresh())
        assert {(r.path, r.notes, r.reason) for r in found.values()} == {
            ("x.png", ("n",), ""),
            ("ÿ\udcff.png", (), "bad"),
        }
        assert list(receipts.refresh()) == []
    for place, known in found.items():
        assert receipts.at(place) == known


def test_a_log_that_vanishes_while_the_logs_are_read_is_left_out(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        worker.record(receipt("a.png").line())
        (tmp_path / "receipts" / "0.jsonl").symlink_to("gone")  # listed, and then not there
        assert [r.path for _, r in Receipts(tmp_path / "receipts").refresh()] == ["a.png"]


def test_a_torn_or_damaged_line_does_not_count_and_hides_no_other(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        for name in "abcd":
            worker.record(receipt(f"{name}.png").line())
        log = tmp_path / "receipts" / f"{worker.name}.jsonl"
    data = log.read_bytes()
    log.write_bytes(data.replace(b'"done"', b'"don', 1) + data.splitlines()[0][:40])
    receipts = Receipts(tmp_path / "receipts")
    found = list(receipts.refresh())
    assert [r.path for _, r in found] == ["b.png", "c.png", "d.png"]
    assert [receipts.at(place) for place, _ in found] == [r for _, r in found]
    with log.open("ab") as file:
        file.write(data.splitlines()[0][40:] + b"\n")  # the torn line is written to its end after all
    assert [r.path for _, r in receipts.refresh()] == ["a.png"]


def test_what_a_shared_folder_remembers_of_a_log_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Worker(tmp_path) as worker:
        remembered: dict[str, os.stat_result] = {}
        stat = os.stat

        def stat_from_memory(path: Any, **options: Any) -> os.stat_result:
            if str(path) not in remembered:
                remembered[str(path)] = stat(path, **options)
            return remembered[str(path)]

        monkeypatch.setattr(os, "stat", stat_from_memory)
        receipts = Receipts(tmp_path / "receipts")
        assert list(receipts.refresh()) == []
        worker.record(receipt("a.png").line())
        assert [r.path for _, r in receipts.refresh()] == ["a.png"]
        monkeypatch.undo()


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"path": 3, "status": "done", "output": "a", "settings": "s"}',
        b'{"path": "a", "status": "eaten", "output": "a", "settings": "s"}',
        b'{"path": "\\ud800", "status": "done", "output": "a", "settings": "s"}',
        b'{"path": "a", "status": "done", "output": "a", "settings": "s", "turn": 99999999999}',
        b'{"path": "a", "status": "done", "output": "a", "settings": "s", "notes": 3}',
        b'{"path": "a", "status": "done", "output": "a", "settings": "s", "output_bytes": 1e400}',
    ],
)
def test_a_line_that_is_no_receipt_does_not_count(tmp_path: Path, line: bytes) -> None:
    with Worker(tmp_path) as worker:
        worker.record(line + b"\n" + receipt("a.png").line())
        assert [r.path for _, r in Receipts(tmp_path / "receipts").refresh()] == ["a.png"]


def test_a_receipt_of_which_one_bit_is_flipped_says_what_it_said_or_nothing() -> None:
    whole = receipt("a.png", run=1, turn=2, output_bytes=81, input_sha256="ab" * 32, notes=("n",))
    line = whole.line()
    (said,) = {parse_receipt(line)}
    assert said is not None
    assert said.path == "a.png"
    for place in range(len(line) - 1):
        for bit in range(8):
            flipped = line[:place] + bytes([line[place] ^ 1 << bit]) + line[place + 1 :]
            assert parse_receipt(flipped) in (None, said)


def test_a_receipt_from_before_there_were_checksums_counts() -> None:
    known = json.loads(receipt("a.png", run=1).line())
    del known["crc32"]
    assert parse_receipt(json.dumps(known).encode() + b"\n") == receipt("a.png", run=1, time=known["time"])


def test_a_log_that_is_a_pipe_is_told_and_never_waited_for(tmp_path: Path) -> None:
    with Worker(tmp_path):
        os.mkfifo(tmp_path / "receipts" / "0.jsonl")
        with pytest.raises(WorkError, match=r"0\.jsonl: a FIFO, not a regular file"):
            list(Receipts(tmp_path / "receipts").refresh())
    (tmp_path / "dst" / ".srdist").mkdir(parents=True)
    os.mkfifo(tmp_path / "dst" / ".srdist" / "job.json")
    with pytest.raises(UserError, match="no upscale job has been begun"):
        read_job(tmp_path / "dst")
