"""The scripts of launch/: without what shellcheck warns of, named in the table, and clear about a wrong call."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT, Run

SCRIPTS = sorted(
    path for pattern in ("*.sh", "*.sbatch", "lab/*.sh") for path in (ROOT / "launch").glob(pattern)
)


@pytest.mark.parametrize("path", [*SCRIPTS, ROOT / ".ci/run"], ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(run: Run, path: Path) -> None:
    checked = run("shellcheck", path)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_the_table_names_the_script_and_it_can_be_started(path: Path) -> None:
    assert f"`{path.relative_to(ROOT / 'launch')}`" in (ROOT / "launch/README.md").read_text()
    # Slurm copies what sbatch is given, and starts the copy.
    assert path.suffix == ".sbatch" or path.stat().st_mode & 0o111


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("machines.sh", ()),
        ("machines.sh", ("two", "h0", "run")),
        ("lab/hosts.sh", ()),
        ("lab/hosts.sh", ("0", "true")),
        ("lab/on.sh", ()),
        ("lab/on.sh", ("h0",)),
        ("lab/on.sh", ("h0", "true")),
        ("train.sbatch", ()),
        ("upscale.sbatch", ("src",)),
    ],
)
def test_a_wrong_call_is_told_how_it_is_meant(script: str, arguments: tuple[str, ...]) -> None:
    refused = subprocess.run(
        ["bash", ROOT / "launch" / script, *arguments],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 2
    assert Path(script).name in refused.stderr
    assert "unbound" not in refused.stderr
