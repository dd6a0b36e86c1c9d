"""benchmarks.gpu, at the sizes of a CPU: every part runs and is saved, and a part that fails or hangs ends alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.floor import convolutions, floor_s
from benchmarks.gpu.__main__ import PARTS
from benchmarks.gpu.goals import verdicts
from benchmarks.gpu.material import unfit
from srdist.networks.config import SRCNNConfig
from tests.conftest import ROOT, Run


@pytest.mark.slow
def test_every_part_runs_on_a_cpu_and_is_saved(run: Run, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    done = run("python", "-m", "benchmarks.gpu", "--quick", "--json", figures, env={"TMPDIR": "/tmp"})
    assert done.returncode == 0, done.stdout + done.stderr
    saved = json.loads(figures.read_text())
    assert list(saved["parts"]) == list(PARTS)
    assert not [name for name, part in saved["parts"].items() if "failed" in part]
    reached = {row["goal"]: row["reached"] for row in saved["goals"]}
    assert all(reached[goal] for goal in reached if "wrong" in goal or "differs" in goal)
    assert len(reached) == 11


ODD_PARTS = """
import json, os, signal, sys, time
from pathlib import Path
import torch
from benchmarks.gpu.material import Material
from benchmarks.gpu.part import run_part
from benchmarks.gpu.sizes import Sizes

def hanging(material):
    material.keep({"rows": [1]})
    time.sleep(100)

def breaking(material):
    raise RuntimeError("no such device")

def dying(material):
    material.keep({"rows": [2]})
    os.kill(os.getpid(), signal.SIGSEGV)

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    material = Material(folder, folder, torch.device("cpu"), Sizes.of("cpu", quick=True))
    limits = {breaking: 100, dying: 100, hanging: 5, print: 0}
    print(json.dumps([run_part(part, material, limit_s=limit) for part, limit in limits.items()]))
"""


def test_a_part_that_hangs_or_breaks_or_dies_ends_alone_and_leaves_what_it_had(
    run: Run, tmp_path: Path
) -> None:
    script = tmp_path / "odd.py"
    script.write_text(ODD_PARTS)
    done = run("python", script, tmp_path, env={"PYTHONPATH": str(ROOT), "TMPDIR": "/tmp"})
    assert done.returncode == 0, done.stderr
    broken, dead, hung, late = json.loads(done.stdout)
    assert broken["failed"] == "RuntimeError: no such device"
    assert (dead["rows"], dead["failed"]) == ([2], "its process ended with exit code -11")
    assert (hung["rows"], hung["failed"]) == ([1], "ended after 5 s")
    assert late["failed"] == "not begun: no time was left"


def test_a_set_that_will_not_do_is_one_line(small_set: Path, tmp_path: Path) -> None:
    assert unfit(small_set, least=16) is None
    assert "training images, expected 256 or more" in str(unfit(small_set, least=256))
    said = str(unfit(tmp_path, least=16))
    assert str(tmp_path) in said
    assert "\n" not in said


def test_a_goal_of_a_part_that_failed_is_missed_and_one_that_was_not_run_is_not_asked() -> None:
    found = {
        verdict.goal: verdict
        for verdict in verdicts({"beginning": {"failed": "x"}, "numbers": {"fp32": {"right": True}}})
    }
    assert [verdict.reached for verdict in found.values()] == [True, False]
    assert [verdict.figure for verdict in found.values()] == ["0", "no figure"]


def test_the_floor_of_a_network_is_that_of_its_convolutions() -> None:
    network = SRCNNConfig(kernels=(3, 1), widths=(4,)).build(seed=0)
    layers = convolutions(network, (2, 3, 5, 6))
    pixels = 2 * 10 * 12
    assert [layer.operations for layer in layers] == [2 * pixels * 3 * 4 * 9, 2 * pixels * 4 * 3]
    assert [layer.values for layer in layers] == [pixels * 7, pixels * 7]
    assert [layer.passes for layer in layers] == [2, 3]
    seconds = floor_s(layers, flops=1e6, copy=1e6, bytes_a_value=4)
    assert np.isclose(seconds, 2 * pixels * 3 * 4 * 9 / 1e6 * 2 + pixels * 7 * 4 / 1e6 * 3)
