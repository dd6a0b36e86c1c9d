"""What a user is told: one line, the right exit code, by the right ranks, and never a traceback or a credential."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from srdist.machine.errors import (
    LostPeerError,
    OwnError,
    UserError,
    WorkError,
    errors_in_one_line,
    system_error,
)
from srdist.machine.files import named_in_errors


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "SLURM_PROCID", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)


def told(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """The exit code of a command that ends in `error`, and what stands on the screen."""
    with pytest.raises(SystemExit) as ended, errors_in_one_line():
        raise error
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("a.yaml: wrong"), 2),
        (WorkError("a.yaml: wrong"), 1),
        (OwnError("a.yaml: wrong"), 1),
        (LostPeerError("a.yaml: wrong"), 1),
        (FileNotFoundError(errno.ENOENT, "wrong", "a.yaml"), 1),
    ],
)
def test_an_error_is_one_line_and_its_exit_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(error, capsys) == (code, "srdist: a.yaml: wrong\n")


def test_an_interrupt_is_one_line_and_the_shells_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(KeyboardInterrupt(), capsys) == (130, "srdist: interrupted\n")


def test_a_message_of_several_lines_is_told_in_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(UserError("first\n   second\n"), capsys) == (2, "srdist: first second\n")


def test_credentials_in_a_message_stay_unsaid(capsys: pytest.CaptureFixture[str]) -> None:
    _, text = told(UserError("http://me:secret@host/set: no manifest"), capsys)
    assert "host/set: no manifest" in text
    assert "secret" not in text


def test_what_all_ranks_meet_is_told_by_the_first_of_a_machine_and_what_one_meets_by_that_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert told(UserError("met by all"), capsys) == (2, "")
    assert told(OwnError("met by one"), capsys) == (1, "srdist: met by one\n")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert told(UserError("met by all"), capsys) == (2, "srdist: met by all\n")


def test_tasks_of_srun_speak_each_for_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_LOCALID", "1")
    assert told(UserError("mine"), capsys) == (2, "srdist: mine\n")


def test_a_full_disk_is_told_with_the_file_and_what_to_do() -> None:
    full = Path("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught, named_in_errors(full):
        full.write_text("x")
    assert system_error(caught.value) == (
        "/dev/full: No space left on device: free some room and run the same command again"
    )


def test_a_bug_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), errors_in_one_line():
        raise ZeroDivisionError


def test_a_reader_that_has_gone_ends_a_command_without_a_word() -> None:
    # A process of its own: its standard output is given away.
    code = (
        "from srdist.machine.errors import errors_in_one_line\n"
        "with errors_in_one_line():\n    while True: print('x' * 9999, flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.wait(timeout=600) == 1
        assert process.stderr.read() == b""
