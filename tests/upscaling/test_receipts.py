"""What became of each image, as all processes read it."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.just("\udcff.png")
SAID = TEXT.filter(bool)
ANY_RECEIPT = st.builds(
    Receipt,
    path=SAID,
    status=st.sampled_from(["begun", "done", "failed"]),
    output=SAID,
    settings=SAID,
    input_bytes=st.integers(0, 2**62),
    input_mtime_ns=st.integers(-(2**62), 2**62),
    output_bytes=st.integers(0, 2**62),
    seconds=st.floats(0, 1e6),
    notes=st.lists(TEXT, max_size=3).map(tuple),
    reason=TEXT,
    turn=st.integers(0, 2**31 - 1),
    run=st.integers(0, 2**31),
)


@given(ANY_RECEIPT)
def test_a_receipt_is_read_as_it_was_written_but_for_its_time(known: Receipt) -> None:
    line = known.line()
    assert line.count(b"\n") == 1
    found = parse_receipt(line)
    assert found is not None
    assert replace(found, time=known.time) == known


@given(ANY_RECEIPT, st.floats(0, 0.999), st.integers(1, 255))
def test_a_receipt_with_any_byte_changed_or_cut_off_is_none(known: Receipt, where: float, how: int) -> None:
    line = known.line()
    place = int(where * (len(line) - 1))
    changed = line[:place] + bytes([line[place] ^ how]) + line[place + 1 :]
    # A checksum that is itself no longer called so leaves a line without one, as of earlier versions.
    if b', "crc32": ' in changed:
        found = parse_receipt(changed)
        assert found is None or found == parse_receipt(line)
    assert parse_receipt(line[:place]) is None


@given(st.lists(ANY_RECEIPT, max_size=8), st.lists(st.integers(1, 200), max_size=10))
def test_a_log_is_read_whole_however_it_grows(known: list[Receipt], portions: list[int]) -> None:
    data = b"".join(one.line() for one in known)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.jsonl")
        log.touch()
        receipts, found, end = Receipts(Path(folder)), [], 0
        for portion in [*portions, len(data)]:
            with log.open("ab") as file:
                file.write(data[end : end + portion])
            end += portion
            found += list(receipts.refresh())
        assert [(one.path, one.output, one.reason) for _, one in found] == [
            (one.path, one.output, one.reason) for one in known
        ]
        assert [receipts.at(place) for place, _ in found] == [one for _, one in found]
