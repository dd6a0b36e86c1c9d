"""YAML that was written to do harm, or by accident: one line in no time, whatever is wrong with it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from srdist.cli.main import main
from srdist.machine.errors import UserError
from srdist.settings import yaml12
from srdist.settings.yaml12 import MAX_BYTES, parse_yaml, read_yaml

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
MERGE_BOMB = "m0: &m0 {x: 1}\n" + "".join(
    f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 10)}]}}\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "more than 10,000 values"),
        (MERGE_BOMB, "more than 10,000 values"),
        ("[" * 200_000 + "]" * 200_000, "nested more than 20 deep"),
        ("[" * 200_000, "nested more than 20 deep"),
        ("{a: " * 200_000, "nested more than 20 deep"),
        ("- " * 200_000 + "x", "nested more than 20 deep"),
        ("\n".join(" " * i + "a:" for i in range(1000)), "nested more than 20 deep"),
        ("a: &a [*a]", "an alias inside of what it stands for"),
        ("train: &t {steps: 3, more: *t}", "an alias inside of what it stands for"),
        ("a: " + "9" * 10_000, "not YAML"),
        ("[" + "x, " * 20_000 + "x]", "more than 10,000 values"),
    ],
    ids=lambda text: text[:12] + "...",
)
def test_what_would_take_the_memory_or_the_stack_is_refused_at_once(text: str, words: str) -> None:
    begin = time.process_time()
    with pytest.raises(UserError, match=words) as caught:
        parse_yaml(text, source="run.yaml")
    assert time.process_time() - begin < 5
    assert str(caught.value).startswith("run.yaml: not YAML")
    assert len(str(caught.value)) < 300


def test_aliases_and_merges_of_a_usual_size_are_taken() -> None:
    text = "a: &a {steps: 3, seed: 0}\nb: *a\nc: {<<: *a, seed: 1}\nd: [*a, *a]"
    both = {"steps": 3, "seed": 0}
    assert parse_yaml(text, source="") == {"a": both, "b": both, "c": both | {"seed": 1}, "d": [both, both]}


def test_a_date_is_a_word() -> None:
    assert parse_yaml("[2026-11-24, 2026-13-45]", source="") == ["2026-11-24", "2026-13-45"]


def test_a_huge_file_and_a_device_are_refused_after_their_first_bytes(tmp_path: Path) -> None:
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as file:
        file.truncate(100 << 30)  # takes no room
    for path in (huge, Path("/dev/zero")):
        with pytest.raises(UserError, match=f"more than {MAX_BYTES:,} bytes"):
            read_yaml(path)


@pytest.mark.parametrize("command", ["config show {path}", "pack {path} --images . --out x"])
def test_a_command_ends_in_one_line_and_exit_code_2(tmp_path: Path, command: str) -> None:
    path = tmp_path / "deep.yaml"
    path.write_text("train: " + "[" * 200_000)
    done = CliRunner().invoke(main, command.format(path=path).split())
    assert done.exit_code == 2
    assert len(done.output.splitlines()) == 1
    assert "deep.yaml: not YAML: nested more than 20 deep" in done.output


def test_a_fifo_is_read_where_somebody_writes_and_is_one_line_where_nobody_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fifo = tmp_path / "config.yaml"
    os.mkfifo(fifo)
    # As a shell's <(...) gives it.
    writer = threading.Thread(target=fifo.write_text, args=("steps: 3\n",))
    writer.start()
    assert yaml12.read_yaml(fifo) == {"steps": 3}
    writer.join()
    monkeypatch.setattr(yaml12, "WRITER_S", 0.1)
    with pytest.raises(UserError, match="is a FIFO that nobody writes to"):
        yaml12.read_yaml(fifo)
