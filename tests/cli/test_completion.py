"""Shell completion: what is offered, and the script in a real bash."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from benchmarks.processes import BIN, clean_environment
from tests.conftest import ROOT, Run


def offered(run: Run, shell: str, words: str) -> list[str]:
    """What is offered for the last of some words; click's answers are `type,value` lines, zsh's type, value and help."""
    number = str(len(words.split(" ")) - 1)
    asked = {"COMP_WORDS": words, "COMP_CWORD": number if shell != "fish" else words.split(" ")[-1]}
    done = run("srdist", env={"_SRDIST_COMPLETE": f"{shell}_complete", **asked})
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    return lines[1::3] if shell == "zsh" else [line.split(",")[1].split("\t")[0] for line in lines]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_commands_options_and_bundled_weights_are_offered(run: Run, shell: str) -> None:
    assert "upscale" in offered(run, shell, "srdist up")
    assert offered(run, shell, "srdist upscale --weights fast_") == ["fast_x2", "fast_x3", "fast_x4"]


@pytest.mark.parametrize(
    ("shell", "mark"), [("bash", "complete -o nosort"), ("zsh", "#compdef srdist"), ("fish", "complete ")]
)
def test_the_script_of_each_shell_is_printed(run: Run, shell: str, mark: str) -> None:
    for done in (
        run("srdist", "completion", shell),
        run("srdist", "completion", env={"SHELL": f"/bin/{shell}"}),
    ):
        assert done.returncode == 0
        assert mark in done.stdout
        assert "_SRDIST_COMPLETE" in done.stdout


def test_a_shell_that_is_not_known_is_one_line(run: Run) -> None:
    done = run("srdist", "completion", env={"SHELL": "/bin/tcsh"})
    assert done.returncode == 2
    assert done.stderr == "srdist: $SHELL: found tcsh, expected one of bash, zsh, fish: name it\n"


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_with_the_script() -> None:
    typed = (
        "source <(srdist completion bash); COMP_WORDS=(srdist eva); COMP_CWORD=1; "
        '_srdist_completion srdist eva srdist; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", typed],
        cwd=ROOT,
        env=clean_environment() | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "evaluate\n", done.stderr
