"""`srdist ray` on a cluster of nodes on this machine, of which one is lost while it works."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT, Run
from tests.raynodes import RayNodes
from tests.training.runs import kill_tree


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayNodes]:
    with RayNodes() as nodes:
        yield nodes


def _receipts(destination: Path, status: str) -> Counter[tuple[str, str]]:
    """How many receipts of this status there are, by the process that wrote them and the image."""
    logs = (destination / ".srdist/receipts").glob("*.jsonl")
    lines = [
        (log.stem, json.loads(line))
        for log in logs
        for line in log.read_bytes().splitlines(True)
        if line[-1:] == b"\n"
    ]
    return Counter((writer, receipt["path"]) for writer, receipt in lines if receipt["status"] == status)


def _await_makers(
    destination: Path, process: subprocess.Popen[str], *, before: set[str], images: int
) -> set[str]:
    """Wait until two processes that are not among those `before` have made so many images; the two."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        by = Counter(writer for writer, _ in _receipts(destination, "done") if writer not in before)
        if len(by) >= 2 and min(by.values()) >= images:
            return set(by)
        time.sleep(0.05)
    raise AssertionError(f"not two processes at work within 300 s: {by}")


@pytest.mark.slow
def test_a_directory_job_that_is_stopped_and_then_loses_a_node_makes_each_image_once(
    nodes: RayNodes, tmp_path: Path
) -> None:
    nodes.at_least(2)
    source, destination = tmp_path / "src", tmp_path / "dst"
    source.mkdir()
    noise = np.random.default_rng(0)
    names = [f"{number:02d}.png" for number in range(40)]
    for name in names:  # a unit each
        Image.fromarray(noise.integers(0, 256, (256, 256, 3), np.uint8)).save(source / name)

    def begin() -> subprocess.Popen[str]:
        return subprocess.Popen(
            nodes.command("upscale", source, destination, "--weights", "srcnn_x2"),
            cwd=ROOT,
            env=nodes.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    process = begin()
    try:
        first = _await_makers(destination, process, before=set(), images=1)
        process.terminate()
        _, err = process.communicate(timeout=120)
        assert process.returncode == 143, err
        assert "srdist: stopped (SIGTERM): the same command goes on\n" in err
        made = set(_receipts(destination, "done"))

        process = begin()
        _await_makers(destination, process, before=first, images=1)
        nodes.lose_one_with("Hand")
        out, err = process.communicate(timeout=300)
    finally:
        kill_tree(process)
    assert process.returncode == 0, err
    # Ray tells of the lost node before.
    assert re.match(r"40 of 40 images x2 in \S+; \d+ were there already; \d+ made in", out.splitlines()[-1])
    done = _receipts(destination, "done")
    assert made < set(done)
    assert sorted(path for _, path in done.elements()) == names  # none lost, none twice
    assert sorted(path.name for path in destination.glob("*.png")) == names
    assert {Image.open(destination / name).size for name in names} == {(512, 512)}
    assert json.loads((destination / "summary.json").read_text())["done"] == 40


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            ("--workers", "2", "upscale", "tests", "x", "--part", "0/2"),
            "srdist: --part 0/2: the actors share",
        ),
        (("--workers", "2", "upscale", "nowhere", "x"), "srdist: nowhere"),
        (
            ("--workers", "2", "--address", "127.0.0.1:1", "upscale", "docs/pictures", "{tmp}/x"),
            "srdist: --address 127.0.0.1:1: no Ray cluster could be joined",
        ),
    ],
)
def test_what_is_wrong_with_a_call_is_one_line(
    run: Run, tmp_path: Path, call: tuple[str, ...], says: str
) -> None:
    done = run("srdist", "ray", *(part.format(tmp=tmp_path) for part in call), timeout_s=120)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "x").exists()
