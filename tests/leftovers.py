"""What tests leave behind: each has a temporary directory of its own, and at the end no process of the suite is left.

A pytest plugin, of which tests/conftest.py takes the fixtures.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

MARK = "SRDIST_SUITE"
"""In the environment of each process that the suite starts, and by inheritance of those that these start."""
END_S = 10.0
"""Time that a process which is on its way out is given."""
LEFT = ("torchelastic_*", "*.lock")
"""What a launcher and a lock leave. Caches of libraries in this process are not meant: they go with the folder."""
HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver", "compile_worker", "wandb-core")
"""Children that libraries keep beside this process until its end."""


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the suite's temporary directories; at the end no lock and no process may be left."""
    folder = tmp_path_factory.mktemp("t", numbered=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))  # for the tests' own process
        patch.setenv("TMPDIR", str(folder))
        patch.setenv(MARK, uuid.uuid4().hex)
        yield folder
        left = end_processes_left(os.environ[MARK])
    left += [str(path) for pattern in LEFT for path in folder.glob(pattern)]
    assert not left, "left behind by the suite:\n" + "\n".join(left)


@pytest.fixture(autouse=True)
def _own_temporary_directory(nothing_is_left: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Not the test's own process: libraries keep the name of what they found first.
    folder = tempfile.mkdtemp(prefix="", dir=nothing_is_left)
    monkeypatch.setenv("TMPDIR", folder)
    yield
    shutil.rmtree(folder)


def end_processes_left(mark: str) -> list[str]:
    """Kill each process with this mark that does not end by itself; its command, and the test that started it."""
    _, alive = psutil.wait_procs([*_marked(mark), *_children()], timeout=END_S)
    described = [_described(process) for process in alive]
    for process in alive:
        with suppress(psutil.Error):  # it has ended since it was described
            process.kill()
    psutil.wait_procs(alive, timeout=END_S)
    return described


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark and not _is_our_own(process):
                yield process


def _children() -> list[psutil.Process]:
    """What this process has forked: its environment is that of this process, without a mark."""
    return [process for process in psutil.Process().children(recursive=True) if not _is_our_own(process)]


def _is_our_own(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        command = " ".join(process.cmdline())
        return process.ppid() == os.getpid() and any(helper in command for helper in HELPERS)
    return True


def _described(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        started_by = process.environ().get("PYTEST_CURRENT_TEST", "a fork")
        return f"process {process.pid}, {' '.join(process.cmdline())[:200]}, of {started_by}"
    return f"process {process.pid}"
