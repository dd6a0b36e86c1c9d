"""Work shared by processes that never talk."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from srdist.machine import files
from srdist.machine.claims import Worker
from srdist.machine.liveness import lives, living, whereabouts


def other_process(folder: Path, *lines: str) -> subprocess.Popen[str]:
    """A worker in a process of its own that runs `lines` and prints a line when it is through them."""
    code = [
        "import time, sys",
        "from pathlib import Path",
        "from srdist.machine.claims import Worker",
        f"worker = Worker(Path({str(folder)!r}), lease_s=3.0, heartbeat_s=0.2).__enter__()",
        *lines,
        "print('ready', flush=True)",
        "sys.stdin.readline()",
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", "\n".join(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_unit_is_claimed_by_one_process_until_it_is_released(tmp_path: Path) -> None:
    with Worker(tmp_path) as a, Worker(tmp_path) as b:
        assert a.claim("u")
        assert not b.claim("u")
        assert b.claim("v")
        a.release("u")
        assert b.claim("u")


def test_the_claim_of_a_killed_process_is_taken_over_at_once_and_its_files_are_removed(
    tmp_path: Path,
) -> None:
    process = other_process(tmp_path, "worker.claim('u')", "(worker.scratch / '.half.png').write_bytes(b'x')")
    with Worker(tmp_path) as worker:
        assert not worker.claim("u")
        assert len(living(tmp_path)) == 2
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert worker.claim("u")
        assert living(tmp_path) == [worker.name]
    with Worker(tmp_path) as worker:
        assert [path.name for path in (tmp_path / "workers").iterdir()] == [worker.name]
        assert list((tmp_path / "claims").iterdir()) == []


@pytest.mark.parametrize("machine", ["this", "another"])
def test_a_process_lives_as_long_as_it_touches_its_file(tmp_path: Path, machine: str) -> None:
    process = other_process(
        tmp_path,
        "worker.claim('u')",
        "import json",
        # Of another machine a pid says nothing here.
        f"where = json.loads(worker._alive.read_text()) | ({{'boot': 'x'}} if {machine!r} == 'another' else {{}})",
        "worker._alive.write_text(json.dumps(where))",
    )
    with Worker(tmp_path, lease_s=3.0) as worker:
        time.sleep(4)
        assert not worker.claim("u")
        process.send_signal(signal.SIGSTOP)
        time.sleep(4)
        assert worker.claim("u")
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_a_killed_claim_is_taken_over_by_one_process_only(tmp_path: Path) -> None:
    process = other_process(tmp_path, *(f"worker.claim('u{i}')" for i in range(50)))
    process.send_signal(signal.SIGKILL)
    process.wait()
    thieves = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import time; from pathlib import Path; from srdist.machine.claims import Worker\n"
                f"with Worker(Path({str(tmp_path)!r})) as w:\n"
                f"    print(sum(w.claim(f'u{{i}}') for i in range(50)), flush=True); time.sleep(2)",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    assert sum(int(thief.communicate()[0]) for thief in thieves) == 50


def test_a_log_without_receipts_is_not_left_behind(tmp_path: Path) -> None:
    with Worker(tmp_path):
        pass
    assert not [*(tmp_path / "receipts").iterdir(), *(tmp_path / "workers").iterdir()]


def test_processes_that_live_at_the_same_time_are_of_one_run(tmp_path: Path) -> None:
    first = Worker(tmp_path, purpose="x2").__enter__()
    with Worker(tmp_path, purpose="x4") as second:
        assert (first.run, second.run) == (1, 1)
        assert second.run_purpose == "x2"
        first.__exit__()
        with Worker(tmp_path) as third:
            assert third.run == 1
    with Worker(tmp_path, purpose="x3") as later:
        assert (later.run, later.run_purpose) == (2, "x3")


def test_whoever_is_buried_in_its_birth_is_born_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text = Path.write_text
    buried: list[Path] = []

    def bury_and_write(self: Path, text: str) -> int:
        if not buried and self.name == "alive":
            buried.append(self)
            shutil.rmtree(self.parent)
        return write_text(self, text)

    monkeypatch.setattr(Path, "write_text", bury_and_write)
    with Worker(tmp_path) as worker:
        assert buried
        assert living(tmp_path) == [worker.name]


def test_a_process_that_cannot_begin_leaves_no_sign_of_life(tmp_path: Path) -> None:
    (tmp_path / "runs" / "1").mkdir(parents=True)  # damaged: a folder in a file's place
    with pytest.raises(OSError, match="directory"), Worker(tmp_path):
        pass
    assert not [*(tmp_path / "workers").iterdir(), *(tmp_path / "receipts").iterdir()]
    assert not [thread for thread in threading.enumerate() if thread.name == "heartbeat"]


def test_a_killed_process_ends_its_run(tmp_path: Path) -> None:
    process = other_process(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with Worker(tmp_path) as worker:
        assert worker.run == 2


def test_a_heart_beats_on_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Worker(tmp_path, heartbeat_s=0.05) as worker:
        alive = worker.scratch / "alive"
        utime, failed = os.utime, threading.Event()

        def utime_or_error(path: Path) -> None:
            if not failed.is_set():
                failed.set()
                raise OSError(errno.EIO, "the share does not answer")
            utime(path)

        monkeypatch.setattr(os, "utime", utime_or_error)
        assert failed.wait(60)
        utime(alive, (1, 1))
        until = time.monotonic() + 60
        while alive.stat().st_mtime < 2 and time.monotonic() < until:
            time.sleep(0.02)
        assert alive.stat().st_mtime > 2


def test_whoever_was_buried_alive_is_there_again(tmp_path: Path) -> None:
    with Worker(tmp_path, heartbeat_s=0.05) as worker:
        births = worker.births
        shutil.rmtree(worker.scratch)
        assert worker.was_buried(FileNotFoundError(), since=births)
        assert living(tmp_path) == [worker.name]
        assert worker.claim("u")


def test_whoever_is_buried_while_it_looks_at_the_clock_or_writes_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Worker(tmp_path) as worker:
        utime = os.utime
        buried: list[Path] = []

        def utime_and_bury(path: Path) -> None:
            utime(path)
            if not buried:
                buried.append(path)
                shutil.rmtree(worker.scratch)

        monkeypatch.setattr(os, "utime", utime_and_bury)
        assert worker.run_age_s() < 5
        assert buried
        sync = files.sync

        def bury_and_sync(path: Path) -> None:
            if len(buried) == 1:
                buried.append(path)
                shutil.rmtree(worker.scratch)
            sync(path)

        monkeypatch.setattr(files, "sync", bury_and_sync)
        worker.write(tmp_path / "whole", b"whole")
        assert (tmp_path / "whole").read_bytes() == b"whole"
        assert len(buried) == 2
        assert living(tmp_path) == [worker.name]


def test_the_age_of_a_run_is_known_after_a_newcomer_has_begun_the_next(tmp_path: Path) -> None:
    with Worker(tmp_path) as sleeper:
        assert sleeper.run_age_s() < 5
        shutil.rmtree(sleeper.scratch)  # taken for dead
        with Worker(tmp_path) as newcomer:
            assert newcomer.run == 2
            assert not (tmp_path / "runs" / "1").exists()
            assert sleeper.run_age_s() < 5


@pytest.mark.parametrize(
    "content", [b"", b'{"boot": "1', b"[1]", b"\xff\x00", json.dumps({**whereabouts(), "pid": "?"}).encode()]
)
def test_a_process_whose_file_was_torn_is_dead_when_its_lease_is_over(tmp_path: Path, content: bytes) -> None:
    worker = tmp_path / "worker"
    worker.mkdir()
    (worker / "alive").write_bytes(content)
    now = (worker / "alive").stat().st_mtime
    assert not lives(worker, now=now + 61, lease_s=60)
