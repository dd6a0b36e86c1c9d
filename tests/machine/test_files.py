"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from srdist.machine import files
from srdist.machine.errors import system_error


def test_the_mode_is_that_of_the_umask_which_no_thread_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "Umask:" not in Path("/proc/self/status").read_text():
        pytest.skip("this system does not tell its umask")

    def refuse(_mask: int) -> int:
        raise AssertionError("the umask is the process's: other threads make files at this moment")

    before = os.umask(0o027)
    try:
        files._umask.cache_clear()
        monkeypatch.setattr(os, "umask", refuse)
        files.write_bytes(tmp_path / "x", b"")
        assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640
    finally:
        monkeypatch.undo()
        os.umask(before)
        files._umask.cache_clear()


def test_an_output_that_is_a_device_or_pipe_is_written_into_and_a_link_is_followed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    files.write_named(tmp_path / "pipe", b"said")
    assert os.read(reading, 10) == b"said"
    os.close(reading)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device") as caught:
        files.write_named(tmp_path / "full", b"more")
    assert caught.value.filename == str(tmp_path / "full")
    assert (tmp_path / "full").is_char_device()
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("sub/real")
    files.write_named(tmp_path / "link", b"text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "sub" / "real").read_bytes() == b"text"


def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path: Path) -> None:
    (tmp_path / "job.json").mkdir()
    with pytest.raises(OSError, match="Is a directory") as caught:
        files.write_bytes(tmp_path / "job.json", b"{}")
    assert system_error(caught.value) == f"{tmp_path / 'job.json'}: Is a directory"
    assert [path.name for path in tmp_path.iterdir()] == ["job.json"]
