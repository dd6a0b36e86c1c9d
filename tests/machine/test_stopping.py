"""Stop signals: a flag, nothing lost, nothing overridden."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from srdist.machine import stopping


@pytest.fixture(autouse=True)
def _handlers_and_flag_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in stopping.STOP_SIGNALS}
    monkeypatch.setattr(stopping, "_received", [])
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", stopping.STOP_SIGNALS)
def test_each_stop_signal_is_noted_by_name_and_ends_nothing(number: signal.Signals) -> None:
    stopping.install()
    assert stopping.requested() is None
    os.kill(os.getpid(), number)
    assert stopping.requested() == number.name


def test_the_first_request_is_the_reason_that_is_told() -> None:
    stopping.install()
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGTERM)
    assert stopping.requested() == "SIGHUP"


def test_a_second_interrupt_does_not_wait_for_the_save() -> None:
    stopping.install()
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("number", ["SIGTERM", "SIGUSR1", "SIGHUP"])
def test_a_run_that_has_saved_ends_well_though_it_is_told_again_on_its_way_out(number: str) -> None:
    # An object of a module goes after the interpreter has given its handlers back.
    script = f"""
import os, signal
from srdist.machine import stopping

class Late:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.{number}):
        kill(pid, number)

stopping.install()
stopping.leave()
late = Late()
"""
    left = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False)
    assert left.returncode == 0


def test_under_nohup_a_closed_terminal_stops_nothing() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stopping.install()
    os.kill(os.getpid(), signal.SIGHUP)
    assert stopping.requested() is None


def test_a_file_stop_in_the_run_folder_is_a_request(tmp_path: Path) -> None:
    assert stopping.requested(tmp_path) is None
    (tmp_path / "STOP").touch()
    assert stopping.requested(tmp_path) == "STOP file"
    assert stopping.requested() is None


def test_training_looks_for_the_file_now_and_then_and_remembers_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    asked, never = stopping.Requests(tmp_path), stopping.Requests(None)
    assert asked() is None
    (tmp_path / "STOP").touch()
    now[0] += 0.9 * stopping.LOOK_EVERY_S
    assert asked() is None
    now[0] += 0.2 * stopping.LOOK_EVERY_S
    assert asked() == "STOP file"
    (tmp_path / "STOP").unlink()
    assert asked() == "STOP file"
    assert never() is None


def ended_by(number: signal.Signals, *, begun: str, work: str, prepare: str = "") -> tuple[int, str]:
    """Exit code and standard error of a process that gets a signal when it has said `begun`."""
    code = f"from srdist.machine.stopping import ending\n{prepare}\nwith ending():\n    print({begun!r}, flush=True)\n    {work}"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == f"{begun}\n"
        time.sleep(0.1)  # it is in the midst of its work
        process.send_signal(number)
        try:
            return process.wait(timeout=20), process.stderr.read()
        finally:
            process.kill()


@pytest.mark.parametrize("number", stopping.STOP_SIGNALS)
def test_a_command_that_saves_nothing_ends_at_a_signal_with_one_line(number: signal.Signals) -> None:
    told = ended_by(number, begun="go", work="import time; time.sleep(60)")
    assert told == (128 + number, f"srdist: stopped ({number.name})\n")


def test_what_was_begun_is_cleared_away_and_a_blocked_way_out_is_left(tmp_path: Path) -> None:
    began = time.monotonic()
    work = (
        "import threading, tempfile, srdist.machine.stopping as s, time; s.STOP_S = 0.5\n"
        f"    with tempfile.TemporaryDirectory(dir={str(tmp_path)!r}):\n"
        "        threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "        print('deep', flush=True); time.sleep(60)"
    )
    assert ended_by(signal.SIGTERM, begun="go", work=work)[0] == 143
    assert not list(tmp_path.iterdir())
    stuck = "try: time.sleep(60)\n    finally: threading.Event().wait()"
    prepare = "import threading, time, srdist.machine.stopping as s; s.STOP_S = 0.5"
    assert ended_by(signal.SIGTERM, begun="go", work=stuck, prepare=prepare)[0] == 143
    assert time.monotonic() - began < 30


def test_a_command_under_nohup_goes_on_when_its_terminal_closes() -> None:
    prepare = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    assert ended_by(signal.SIGHUP, begun="go", work="import time; time.sleep(0.3)", prepare=prepare) == (
        0,
        "",
    )


def test_a_command_is_told_to_have_stopped_in_its_start_up_too(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    command = [sys.executable, "-m", "srdist", "upscale", str(tmp_path), str(tmp_path / "dst")]
    with subprocess.Popen(
        [*command[:1], "-X", "importtime", *command[1:]], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = next(line for line in process.stderr if "numpy" in line)  # torch is being loaded
        process.terminate()
        said = process.stderr.read()
        assert process.wait(timeout=60) == 143
    assert "srdist: stopped (SIGTERM)\n" in said


def test_a_signal_that_comes_while_threads_are_started_ends_the_command() -> None:
    work = "with threading._active_limbo_lock: time.sleep(60)"  # held by whoever starts a thread
    assert ended_by(signal.SIGTERM, begun="go", work=work, prepare="import threading, time")[0] == 143


def test_a_command_ends_also_where_its_main_thread_is_in_a_call_that_hears_no_signal() -> None:
    prepare = "import hashlib, srdist.machine.stopping as s; s.STOP_S = 0.5"
    work = "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"  # one call that takes minutes
    assert ended_by(signal.SIGTERM, begun="go", work=work, prepare=prepare)[0] == 143
