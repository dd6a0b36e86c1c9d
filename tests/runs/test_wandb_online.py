"""W&B with an account, against a server on the loopback interface: what arrives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runs.wandb_server import WandbServer
from tests.training.runs import Launch

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer() as server:
        yield server


def online(server: WandbServer, shards: Path, folder: Path, *settings: str) -> Launch:
    """A run with an account on this server."""
    env = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": server.url, "NETRC": str(folder / "none")}
    return Launch(shards, folder / "run", ("log.wandb=auto", "data.workers=0", *settings), env=env)


def test_every_row_arrives_and_a_resumption_goes_on_under_the_same_id(
    server: WandbServer, small_set: Path, tmp_path: Path
) -> None:
    launch = online(server, small_set, tmp_path, "train.validate_every=2", "train.decay_steps=9")
    first = launch.finish("train.steps=2")
    second = launch.finish("train.steps=4")
    assert "srdist: warning" not in first.stderr + second.stderr
    run_id = (launch.run / "wandb_id.txt").read_text().strip()
    assert set(server.opened) == set(server.rows) == {run_id}
    rows = server.rows[run_id]
    losses = {row["step"]: row["loss"] for row in rows if "loss" in row}
    assert losses == {step: values[0] for step, values in launch.loss_trace().items()}
    val = {row["step"]: row["val/psnr_y_db"] for row in rows if "val/psnr_y_db" in row}
    assert val == {row["step"]: row["psnr_y_db"] for row in launch.rows("val")}
    assert sum("samples" in row for row in rows) == 2
    assert sum(path.endswith(".png") for path in server.uploads) == 2


@pytest.mark.parametrize("how", ["gone", "answers 500"])
def test_a_server_that_dies_in_the_middle_costs_neither_the_run_nor_its_rows(
    server: WandbServer, small_set: Path, tmp_path: Path, how: str
) -> None:
    launch = online(server, small_set, tmp_path, "train.steps=300", "train.validate_every=300")
    launch.env["WANDB_FINISH_TIMEOUT"] = "5"
    with launch.going() as process:
        launch.wait_for_step(20, process)
        assert server.opened
        if how == "gone":
            server.close()
        else:
            server.broken = True
        told = process.communicate(timeout=600)[0]
    assert process.returncode == 0, told
    assert list(launch.loss_trace()) == list(range(1, 301))
    said = [line for line in told.splitlines() if "W&B" in line]
    assert len(said) == 1, told
    assert "`wandb sync " in said[0]
    assert "metrics.jsonl and samples/ are whole" in said[0]
