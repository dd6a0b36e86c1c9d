"""Locks on files: one holder, none when that one is gone, a named error where there are none."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from srdist.machine import locks


def test_one_holds_a_file_until_it_lets_go(tmp_path: Path) -> None:
    lock = locks.take(tmp_path / "x", patience_s=0)
    assert lock is not None
    assert locks.take(tmp_path / "x", patience_s=0) is None
    lock.release()
    again = locks.take(tmp_path / "x", patience_s=0)
    assert again is not None
    again.release()


def test_a_lock_dies_with_its_process_also_where_a_forked_worker_lives_on(tmp_path: Path) -> None:
    code = [
        "import os, signal, sys, time",
        "from pathlib import Path",
        "from srdist.machine import locks",
        f"held = locks.take(Path({str(tmp_path / 'x')!r}), patience_s=0)",
        "print('held', flush=True)",
        "worker = os.fork()",
        "if worker == 0:",
        "    sys.stdin.readline()",
        "    os._exit(0)",
        "os.kill(os.getpid(), signal.SIGKILL)",
    ]
    holder = subprocess.Popen(
        [sys.executable, "-c", "\n".join(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.wait()
    lock = locks.take(tmp_path / "x", patience_s=2)
    assert lock is not None
    lock.release()
    holder.communicate("\n")  # the worker ends


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named_and_gets_no_marker_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, "no locks")

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(OSError, match="no locks") as found:
        locks.take(tmp_path / "x", patience_s=0)
    assert found.value.filename == str(tmp_path / "x")
