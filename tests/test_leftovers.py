"""The suite leaves nothing behind: what its fixtures find, in a suite of one test that leaves something."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT


def outcome_of(body: str, tmp_path: Path) -> tuple[int, str]:
    """Exit code and output of a session of one test."""
    suite = tmp_path / "suite"
    suite.mkdir()
    header = "import os, signal, subprocess, sys, tempfile\nfrom pathlib import Path\n"
    (suite / "test_it.py").write_text(f"{header}def test_it() -> None:\n{textwrap.indent(body, '    ')}\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.leftovers", "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(
        [
            *command,
            "--rootdir",
            str(suite),
            "-c",
            os.devnull,
            "-o",
            "tmp_path_retention_policy=failed",
            str(suite),
        ],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_what_a_test_writes_in_its_temporary_directory_is_gone_with_it(tmp_path: Path) -> None:
    write = "[sys.executable, '-c', 'import tempfile; print(tempfile.mkdtemp(prefix=\"torchelastic_\"))']"
    code, out = outcome_of(f"print(subprocess.check_output({write}, text=True))\nassert False", tmp_path)
    folder = Path(next(line for line in out.splitlines() if "/torchelastic_" in line))
    assert code == 1
    assert tmp_path in folder.parents
    assert not folder.parent.exists()


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
def test_what_a_test_leaves_is_an_error_at_the_end_and_is_ended(tmp_path: Path) -> None:
    body = """
        tempfile.mkstemp(suffix=".lock")
        print("started", subprocess.Popen(["sleep", "600"], start_new_session=True).pid)
        if os.fork() == 0:
            os.execv("/bin/sleep", ["sleep", "601"])
        if (child := os.fork()) == 0:
            signal.pause()
        print("forked", child)
    """
    code, out = outcome_of(textwrap.dedent(body), tmp_path)
    assert code == 1
    assert "1 passed, 1 error" in out
    assert re.search(r"^E +/\S+\.lock$", out, re.MULTILINE), out
    assert re.search(r"process \d+, sleep 600, of test_it.py::test_it", out), out
    assert re.search(r"process \d+, sleep 601, of test_it.py::test_it", out), out
    pids = set(re.findall(r"process (\d+), ", out))
    assert len(pids) == 3, out
    assert not any(alive(int(pid)) for pid in pids)
