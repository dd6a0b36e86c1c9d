"""What docs/sweeps.md and configs/sweeps show does what they say; with W&B's own agent, against a server on the loopback interface."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from benchmarks.processes import BIN, ROOT, clean_environment
from benchmarks.runs import BRIEF, THIN
from srdist.config import load
from srdist.runs.wandb_run import AgentRun, new_id, of_agent
from srdist.sweeps.sweepfile import read_sweep
from tests.runs.wandb_server import WandbServer

OURS, WANDBS = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/sweeps.md").read_text(), flags=re.S)


def test_the_sweep_in_the_docs_is_one(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(OURS)
    sweep = read_sweep(tmp_path / "sweep.yaml")
    assert sweep.total == 40
    assert list(sweep.spaces) == ["train.learning_rate", "train.warmup_steps", "model.widths"]


@pytest.mark.parametrize("path", sorted((ROOT / "configs/sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_sweep_that_comes_along_is_one(path: Path) -> None:
    assert read_sweep(path).total > 1


def test_a_run_of_an_agent_takes_its_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)
    assert of_agent() is None
    assert len(new_id()) == 8
    monkeypatch.setenv("WANDB_SWEEP_ID", "abcd1234")
    monkeypatch.setenv("WANDB_RUN_ID", "efgh5678")
    assert of_agent() == AgentRun("abcd1234", "efgh5678")
    assert new_id() == "efgh5678"
    monkeypatch.setenv("WANDB_SWEEP_ID", "../../home")  # a folder's name comes of it
    assert of_agent() is None


@pytest.mark.slow
def test_wandbs_agent_trains_each_run_of_its_sweep_on_two_ranks(small_set: Path, tmp_path: Path) -> None:
    sweep = yaml.safe_load(WANDBS)
    own = (
        "log.wandb=online",
        "data.workers=0",
        "train.steps=2",
        f"data.shards={small_set}",
        "log.sample_images=0",
    )
    fixed = dict(setting.split("=", 1) for setting in (*THIN, *BRIEF, *own))
    given = [f"{name}={value}" for name, value in fixed.items() if name not in sweep["parameters"]]
    place = sweep["command"].index("launch/gpus.yaml")
    # As it stands there, but for the ranks, which are CPU's, a network and set for tests, and a folder to work in.
    sweep["command"][place] = str(ROOT / "launch/cpu2.yaml")
    sweep["command"][place + 1 : place + 1] = ["--main_process_port", "0"]
    sweep["command"] = [
        str(ROOT / part) if "/" in part and not part.startswith(("$", "/")) else part
        for part in sweep["command"]
    ]
    sweep["command"][-1:] = [*given, "${args_no_hyphens}"]
    with WandbServer() as server:
        server.sweep = yaml.safe_dump(sweep)
        server.trials = {
            "run11111": {"train.learning_rate": 0.002, "model.widths": [6]},
            "run22222": {"train.learning_rate": 1e-05, "model.widths": [4]},
        }
        env = clean_environment() | {"ACCELERATE_USE_CPU": "true", "PATH": f"{BIN}:{os.environ['PATH']}"}
        env |= {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": server.url, "NETRC": str(tmp_path / "none")}
        done = subprocess.run(
            [str(BIN / "wandb"), "agent", "me/srdist/abcd1234"],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    for run_id, rate, widths in (("run11111", 0.002, (6,)), ("run22222", 1e-5, (4,))):
        run = tmp_path / "runs/abcd1234" / run_id
        config = load(run / "config.yaml")
        assert (config.train.learning_rate, config.model.model_dump()["widths"]) == (rate, widths), told
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert (rows[0]["world"], rows[-1]["kind"]) == (2, "done")
        assert [row["val/psnr_y_db"] for row in server.rows[run_id] if "val/psnr_y_db" in row]
    assert set(server.opened) == {"run11111", "run22222"}
