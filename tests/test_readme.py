"""What README shows, typed as it stands there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.processes import BIN
from srdist import __version__, config
from srdist.settings.yaml12 import read_yaml
from tests.conftest import ROOT, Run, clean_environment

README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_is_complete_loads_and_says_how_to_run_it(path: Path, run: Run) -> None:
    loaded = config.load(path)
    written = read_yaml(path)
    assert {section: list(fields) for section, fields in written.items()} == {
        section: list(fields) for section, fields in loaded.model_dump().items()
    }
    assert f"--config configs/{path.name}" in path.read_text()
    shown = run("srdist", "config", "show", path)
    assert shown.returncode == 0
    assert len(shown.stdout.splitlines()) == sum(1 + len(fields) for fields in written.values())
    assert all("#" in line for line in shown.stdout.splitlines() if line.startswith("  "))


def test_every_file_that_readme_names_is_there() -> None:
    for name in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / name).exists(), name


def test_the_citation_names_this_version() -> None:
    assert read_yaml(ROOT / "CITATION.cff")["version"] == __version__


def test_every_room_stands_in_readme_and_every_file_in_its_rooms_docstring() -> None:
    tree = README[README.index("## The tree") :]
    rooms = [path.parent for path in (ROOT / "srdist").glob("*/__init__.py")]
    assert [room.name for room in rooms if f"`{room.name}/`" not in tree] == []
    for room in rooms:
        listed = [line.split()[0] for line in (room / "__init__.py").read_text().splitlines()[2:-1]]
        assert sorted(listed) == sorted(path.stem for path in room.glob("[!_]*.py")), room.name


def test_the_two_commands_of_the_front_page_set_up_what_they_need() -> None:
    first = README.split("```")[1]
    assert first.split("\n")[1:-1] == ["make demo", "make test"]
    # What needs the environment on the path comes after the line that puts it there.
    assert README.index("source .venv/bin/activate") < README.index("## CelebA")


@pytest.mark.slow
def test_the_demo_goes_the_whole_way_from_a_fresh_shell(tmp_path: Path, demo_set: Path) -> None:
    run_folder = tmp_path / "demo"
    path = [entry for entry in os.environ["PATH"].split(os.pathsep) if Path(entry) != BIN]
    done = subprocess.run(
        [
            "make",
            "demo",
            f"DEMO_RUN={run_folder}",
            "DEMO_ARGS=--set train.steps=150 --set train.warmup_steps=20",
        ],
        cwd=ROOT,
        env=clean_environment() | {"PATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "starts: 2 ranks on cpu" in done.stdout
    assert list(Path(os.environ["TMPDIR"]).glob("torchelastic_*")) == []
    scores = {
        line.split()[0]: line.split()[1:]
        for line in done.stdout.splitlines()
        if line.startswith(("bicubic ", "srdist "))
    }
    assert float(scores["srdist"][0]) > float(scores["bicubic"][0])
    tiles = demo_set / "tiles/test"
    assert {p.name for p in tiles.iterdir()} <= {p.name for p in (run_folder / "upscaled").iterdir()}
    for name in (
        "best.safetensors",
        "last.safetensors",
        "metrics.jsonl",
        "config.yaml",
        "compare.png",
        "report.html",
    ):
        assert (run_folder / name).stat().st_size > 0, name


@pytest.mark.slow
@pytest.mark.usefixtures("demo_set")
def test_after_bare_make_shards_a_bare_launch_trains_the_demo(tmp_path: Path, run: Run) -> None:
    env = {"WANDB_MODE": "disabled"}
    done = run(
        "accelerate",
        "launch",
        "srdist/train.py",
        "--run",
        tmp_path / "run",
        "--set",
        "train.steps=2",
        env=env,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()[:2]
    assert first.startswith("no --config given: the demo, configs/demo_x2.yaml on shards/demo")
    assert "starts: 1 rank on cpu" in second or "on cuda" in second


def test_every_test_that_the_guarantees_name_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/guarantees.md").read_text())
    assert len(named) > 30
    missing = [f"{file}::{test}" for file, test in named if f"def {test}(" not in (ROOT / file).read_text()]
    assert missing == []


def test_cleaning_leaves_runs_and_packed_sets_and_removing_runs_asks(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    kept = ["runs/days/best.safetensors", "shards/celeba/000000.tar", "shards/celeba/manifest.json"]
    for name in [*kept, "shards/demo/train-00000.tar", "shards/demo/manifest.json", ".mypy_cache/x"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def make(target: str, answer: str = "") -> tuple[int, list[str]]:
        done = subprocess.run(
            ["make", target], cwd=tmp_path, input=answer, capture_output=True, text=True, check=False
        )
        left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "Makefile"]
        return done.returncode, sorted(str(path.relative_to(tmp_path)) for path in left)

    assert make("clean") == (0, kept)
    for answer in ("", "\n", "no\n", "y\n"):
        assert make("clean-runs", answer) == (2, kept)
    assert make("clean-runs", "yes\n") == (0, kept[1:])
    assert make("clean-runs") == (0, kept[1:])
