"""Training as a user runs it: processes, real shards, real ranks; killed, stopped, resumed."""

from __future__ import annotations

import json
import math
import os
import pty
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import torch
from click.testing import CliRunner

from benchmarks.runs import processes_of, ranks_of
from srdist import train
from srdist.machine import ranks
from srdist.machine.errors import UserError, WorkError
from srdist.networks.weightfile import load_weights
from srdist.quality.scores import Scores
from srdist.shards.pack import pack
from srdist.shards.recipe import Recipe
from tests.conftest import ROOT, Run
from tests.training.runs import BIN, Here, Launch, assert_equal_states, kill_tree


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_steps_resumed_to_four_equal_four_steps(
    small_set: Path, tmp_path: Path, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = (f"train.precision={precision}", "train.ema_decay=0.9", "train.decay_steps=10")
    whole = Here(small_set, tmp_path / "whole", settings)
    whole.train("train.steps=4", "train.validate_every=2")
    parts = Here(small_set, tmp_path / "parts", settings)
    parts.train("train.steps=2", "train.validate_every=2")
    first_id = (parts.run / "wandb_id.txt").read_text()
    parts.train("train.steps=4", "train.validate_every=2", quiet=False)

    assert "resumes at step 2" in capsys.readouterr().out
    assert_equal_states(parts.final(), whole.final())
    assert parts.loss_trace() == whole.loss_trace()
    assert list(parts.loss_trace()) == [1, 2, 3, 4]
    assert (parts.run / "wandb_id.txt").read_text() == first_id
    assert parts.final().trainer["wandb_id"] == first_id.strip()
    assert (parts.run / "last.safetensors").read_bytes() == (whole.run / "last.safetensors").read_bytes()


def test_one_rank_two_ranks_and_accumulation_train_the_same_batches(small_set: Path, tmp_path: Path) -> None:
    settings = ("train.steps=6", "train.ema_decay=0.9")
    one = Here(small_set, tmp_path / "one", settings)
    two = Launch(small_set, tmp_path / "two", settings, ranks=2)
    gathered = Here(small_set, tmp_path / "gathered", (*settings, "train.rank_batch=3"))
    one.train()
    two.finish()
    gathered.train()
    assert [launch.rows("start")[0]["world"] for launch in (one, two, gathered)] == [1, 2, 1]
    assert gathered.rows("start")[0]["accumulation"] == 4
    for other in (two, gathered):
        for step, (loss, norm, rate) in one.loss_trace().items():
            found = other.loss_trace()[step]
            assert found[:2] == pytest.approx((loss, norm), rel=1e-4)
            assert found[2] == rate
        # The running average (ema.*) too, which under DDP once stood still.
        for name, tensor in one.final().model.items():
            torch.testing.assert_close(other.final().model[name], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_two_ranks_resumed_on_three_and_on_one_with_accumulation_keep_the_global_batches(
    small_set: Path, tmp_path: Path
) -> None:
    settings = ("train.steps=6", "train.rank_batch=2", "train.decay_steps=6")
    whole = Launch(small_set, tmp_path / "whole", settings, ranks=2)
    whole.finish()
    moved = Launch(small_set, tmp_path / "moved", settings, ranks=2)
    moved.finish("train.steps=2")
    Launch(small_set, moved.run, settings, ranks=3).finish("train.steps=4")
    Launch(small_set, moved.run, settings, ranks=1).finish()
    assert [row["world"] for row in moved.rows("resume")] == [3, 1]
    for step, values in whole.loss_trace().items():
        assert moved.loss_trace()[step] == pytest.approx(values, rel=1e-3), step


def test_a_global_batch_that_cannot_be_shared_out_is_refused_with_the_nearest(
    small_set: Path, tmp_path: Path
) -> None:
    told = (
        "train.global_batch: 13 cannot be shared out over 1 ranks x rank_batch 4; the nearest that can is 12"
    )
    with pytest.raises(UserError, match=re.escape(told)):
        Here(small_set, tmp_path / "run", ("train.global_batch=13", "train.rank_batch=4")).train()


def test_processes_that_did_not_find_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="started 2 processes but 1 found each other"):
        ranks.check_world(1)


@pytest.mark.parametrize("how", ["SIGTERM", "STOP"])
def test_asked_to_stop_a_run_saves_at_a_step_and_goes_on_bit_for_bit(
    small_set: Path, tmp_path: Path, how: str
) -> None:
    # The file is looked for a few times a second: the run must last longer than that.
    steps = 600 if how == "STOP" else 150
    settings = (f"train.steps={steps}", "train.threads=1")
    launch = Launch(small_set, tmp_path / "run", settings)
    with launch.going() as process:
        launch.wait_for_step(5, process)
        if how == "STOP":
            (launch.run / "STOP").touch()
        else:
            process.send_signal(getattr(signal, how))
        out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out
    marker = json.loads((launch.run / "STOPPED").read_text())
    assert marker["reason"] in (how, "STOP file")
    assert marker["step"] == launch.final().trainer["state"]["step"] < steps
    assert f"stopped at step {marker['step']}" in out
    assert not (launch.run / "STOP").exists()
    assert processes_of(launch.run) == []

    launch.finish()
    assert not (launch.run / "STOPPED").exists()
    assert list(launch.loss_trace()) == list(range(1, steps + 1))
    if how == "SIGTERM":
        whole = Here(small_set, tmp_path / "whole", settings)
        whole.train()
        assert_equal_states(launch.final(), whole.final())
        assert launch.loss_trace() == whole.loss_trace()


def test_a_run_whose_terminal_is_closed_saves_and_leaves(small_set: Path, tmp_path: Path) -> None:
    launch = Launch(small_set, tmp_path / "run", ("train.steps=100000",))
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execve(launch.command()[0], launch.command(), launch.environment())
    process = psutil.Process(child)
    try:
        with open(terminal, "rb", buffering=0, closefd=False) as shown:
            for line in iter(shown.readline, b""):
                if line.startswith(b"step "):
                    break
        os.close(terminal)
        _, alive = psutil.wait_procs([process], timeout=60)
    finally:
        if process.is_running():
            process.kill()
    assert alive == []
    marker = json.loads((launch.run / "STOPPED").read_text())
    assert marker == {"reason": "SIGHUP", "step": launch.final().trainer["state"]["step"]}


def test_a_run_that_waits_for_a_stopped_data_worker_still_saves_and_ends_at_a_signal(
    small_set: Path, tmp_path: Path
) -> None:
    launch = Launch(small_set, tmp_path / "run", ("train.steps=100000",))
    with launch.going() as process:
        launch.wait_for_step(5, process)
        (worker,) = psutil.Process(process.pid).children()
        worker.suspend()
        time.sleep(0.7)  # so that the run has used up what the worker had made
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out
    assert json.loads((launch.run / "STOPPED").read_text())["step"] == launch.final().trainer["state"]["step"]
    assert processes_of(launch.run) == []


@pytest.mark.slow
def test_term_to_the_whole_group_of_two_ranks_saves_and_leaves_no_process(
    small_set: Path, tmp_path: Path
) -> None:
    launch = Launch(small_set, tmp_path / "run", ("train.steps=3000", "data.workers=2"), ranks=2)
    with launch.going() as process:
        launch.wait_for_step(5, process)
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=600)
    step = launch.final().trainer["state"]["step"]
    assert json.loads((launch.run / "STOPPED").read_text()) == {"reason": "SIGTERM", "step": step}
    assert processes_of(launch.run) == []


@pytest.mark.slow
@pytest.mark.parametrize("ranks_", [1, 2])
def test_killed_at_any_moment_the_same_command_ends_in_the_same_bits(
    small_set: Path, tmp_path: Path, ranks_: int
) -> None:
    settings = (
        "train.steps=60",
        "train.checkpoint_every=7",
        "train.validate_every=20",
        "train.precision=bf16",
    )
    whole = Launch(small_set, tmp_path / "whole", settings, ranks=ranks_)
    whole.finish()
    killed = Launch(small_set, tmp_path / "killed", settings, ranks=ranks_)
    for step in (9, 33):
        with killed.going() as process:
            killed.wait_for_step(step, process)
            killed.wait_for_checkpoint(process)
            kill_tree(process)
    killed.finish()
    assert len(killed.rows("resume")) == 2
    assert_equal_states(killed.final(), whole.final())
    assert killed.loss_trace() == whole.loss_trace()
    assert killed.rows("val") == whole.rows("val")


def test_a_field_that_makes_the_run_what_it_is_cannot_change_on_resume(
    small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = Here(small_set, tmp_path / "run", ("train.steps=2",))
    here.train()
    for change, told in (
        ("model.widths=[9]", "model.widths"),
        ("train.seed=7", "train.seed"),
        ("data.kernel=bilinear", "data.kernel"),
    ):
        with pytest.raises(UserError, match=f"{told}: .* cannot change on resume"):
            here.train(change, "train.steps=3")
    here.train("train.learning_rate=5e-4", "train.steps=3", quiet=False)
    assert "train.learning_rate: 0.001 before, 0.0005 now" in capsys.readouterr().out
    assert here.rows("resume")[0]["changed"]["train.learning_rate"] == [0.001, 0.0005]


def test_another_set_of_images_is_refused_on_resume(small_set: Path, tmp_path: Path) -> None:
    Here(small_set, tmp_path / "run", ("train.steps=2",)).train()
    other = tmp_path / "other"
    images = small_set.parent / "images"
    pack(Recipe(name="other", split="hash", fractions={"train": 0.8, "val": 0.2}), images, out=other)
    with pytest.raises(UserError, match=r"data\.shards: manifest_id"):
        Here(other, tmp_path / "run", ("train.steps=3",)).train()


def test_steps_whose_loss_is_not_finite_change_nothing_and_end_the_run_after_a_few(
    small_set: Path, tmp_path: Path
) -> None:
    here = Here(small_set, tmp_path / "run", ("train.steps=3",))
    here.train()
    good = here.final()
    with pytest.raises(WorkError, match="not finite 4 steps in a row"):
        here.train("train.steps=40", "train.learning_rate=1e30", "train.max_bad_steps=4")
    refused = here.rows("refused")
    assert len(refused) == 4
    assert len(refused[0]["keys"]) == 12
    assert all(math.isfinite(row["loss"]) for row in here.rows("train") if isinstance(row["loss"], float))
    # The last good checkpoint is the one from before.
    assert_equal_states(here.final(), good)
    network, _ = load_weights(here.run)
    assert all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values())


def test_a_finished_run_says_so_and_changes_nothing(
    small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = Here(small_set, tmp_path / "run", ("train.steps=2",))
    result = here.train()
    before = (here.run / "last.safetensors").read_bytes()
    again = here.train(quiet=False)
    assert "already at step 2 of 2" in capsys.readouterr().out
    assert (here.run / "last.safetensors").read_bytes() == before
    assert (again.step, again.best_psnr_y_db, again.scores) == (2, result.best_psnr_y_db, None)


@pytest.mark.parametrize("loss", ["l1", "charbonnier"])
def test_other_losses_bring_the_error_down(small_set: Path, tmp_path: Path, loss: str) -> None:
    here = Here(
        small_set, tmp_path / "run", (f"train.loss={loss}", "train.steps=60", "train.learning_rate=3e-3")
    )
    result = here.train()
    assert result.scores is not None
    assert result.scores.psnr_y_db == result.best_psnr_y_db
    row = here.rows("val")[-1]
    assert result.scores.psnr_y_db > row["bicubic_psnr_y_db"]
    assert {name: row[name] for name in result.scores.more} == result.scores.more
    assert min(row["spectrum_db"], row["bicubic_spectrum_db"]) > 0
    assert row["bicubic_sharpness"] < row["sharpness_hr"]
    assert row["consistency_db"] > 30


def test_who_watches_sees_each_validation_and_may_stop_the_run(small_set: Path, tmp_path: Path) -> None:
    settings = ("train.steps=6", "train.validate_every=2")
    here, whole = (Here(small_set, tmp_path / name, settings) for name in ("run", "whole"))
    seen: list[tuple[int, float]] = []

    def stop_at_4(step: int, scores: Scores) -> str | None:
        seen.append((step, scores.psnr_y_db))
        return "worse than its neighbours" if step == 4 else None

    result = here.train(watch=stop_at_4)
    assert seen == [(row["step"], row["psnr_y_db"]) for row in here.rows("val")]
    assert (result.step, result.stopped) == (4, "worse than its neighbours")
    assert json.loads((here.run / "STOPPED").read_text()) == {
        "reason": "worse than its neighbours",
        "step": 4,
    }
    assert here.rows("stop")[0]["reason"] == "worse than its neighbours"

    assert here.train().stopped is None
    whole.train()
    assert here.loss_trace() == whole.loss_trace()
    assert_equal_states(here.final(), whole.final())


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("train.stepz=3", "train.stepz: no such field (found 3), did you mean steps?"),
        ("data.hr_patch=400", "patch"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(
    small_set: Path, tmp_path: Path, setting: str, told: str
) -> None:
    done = Launch(small_set, tmp_path / "run", (setting,)).finish(code=2)
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not list((tmp_path / "run").glob("*.safetensors"))


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("train.global_batch=4000", "less than train.global_batch 4000"),
        ("data.hr_patch=2000000", "data.hr_patch 2000000 is larger than the smallest image"),
        ("train.precision=fp16", "train.precision: fp16 needs a GPU"),
        ("train.init_from=nowhere.safetensors", "nowhere.safetensors: no such weights file"),
        ("data.shards=shards/folder", "make shards SET=folder"),
    ],
)
def test_what_does_not_fit_is_told_before_the_first_step(
    small_set: Path, tmp_path: Path, setting: str, told: str
) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        Here(small_set, tmp_path / "run", (setting,)).train()
    assert [path.name for path in (tmp_path / "run").glob("*") if path.name != ".lock"] == []


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl"])
def test_a_file_of_another_hand_in_the_run_folder_is_never_overwritten(
    small_set: Path, tmp_path: Path, name: str
) -> None:
    mine = tmp_path / "run" / name
    mine.parent.mkdir()
    mine.write_text("# my notes\n")
    with pytest.raises(UserError, match=re.escape(f"holds {name} that no training wrote")):
        Here(small_set, mine.parent, ("train.steps=1",)).train()
    assert mine.read_text() == "# my notes\n"
    mine.unlink()
    Here(small_set, mine.parent, ("train.steps=1",)).train()


def test_an_empty_name_of_a_run_folder_is_refused() -> None:
    refused = CliRunner().invoke(train.command, ["--run", ""])
    assert isinstance(refused.exception, UserError)
    assert str(refused.exception).startswith("--run: found an empty name")


def test_bare_launch_says_what_it_trains_and_how_to_choose_others(run: Run, tmp_path: Path) -> None:
    done = run(
        "accelerate",
        "launch",
        "--quiet",
        "srdist/train.py",
        "--run",
        tmp_path / "run",
        "--set",
        "train.steps=0",
    )
    assert done.stdout.splitlines()[0].startswith(
        "no --config given: the demo, configs/demo_x2.yaml on shards/demo"
    )
    assert "train.steps: found 0" in done.stderr


def test_a_training_that_could_not_start_leaves_its_folder_to_the_next_one(
    small_set: Path, tmp_path: Path
) -> None:
    here = Here(small_set, tmp_path / "run", ("train.steps=1",))
    with pytest.raises(UserError, match="no split 'none'") as refused:
        here.train("data.val_split=none")
    here.train()
    assert here.final().trainer["state"]["step"] == 1
    assert refused.value.exit_code == 2


def test_init_from_starts_at_the_given_weights(small_set: Path, tmp_path: Path) -> None:
    first = Here(small_set, tmp_path / "first", ("train.steps=20",))
    first.train()
    weights = first.run / "last.safetensors"
    still = ("train.learning_rate=1e-12", "train.final_learning_rate=0")
    second = Here(small_set, tmp_path / "second", ("train.steps=1", f"train.init_from={weights}", *still))
    second.train()
    for name, tensor in load_weights(second.run)[0].state_dict().items():
        torch.testing.assert_close(tensor, load_weights(weights)[0].state_dict()[name])


def test_a_run_goes_on_without_the_weights_that_it_began_with(small_set: Path, tmp_path: Path) -> None:
    first = Here(small_set, tmp_path / "first", ("train.steps=2",))
    first.train()
    weights = first.run / "last.safetensors"
    second = Here(small_set, tmp_path / "second", (f"train.init_from={weights}",))
    second.train("train.steps=2")
    weights.unlink()
    second.train("train.steps=4")
    assert second.final().trainer["state"]["step"] == 4


def test_init_from_of_another_scale_starts_what_depends_on_the_scale_anew(
    small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = ("model.upscale=after", "model.kernels=[3,3]", "model.widths=[4]")
    first = Here(small_set, tmp_path / "first", ("train.steps=2", *late))
    first.train()
    weights = first.run / "last.safetensors"
    still = ("train.learning_rate=1e-12", "train.final_learning_rate=0")
    other = ("model.scale=4", f"train.init_from={weights}", "train.steps=1", *late, *still)
    second = Here(small_set, tmp_path / "second", other)
    second.train(quiet=False)
    assert "is of another scale than 4; start anew: conv2.bias, conv2.weight" in capsys.readouterr().out
    before, after = (load_weights(one.run)[0].state_dict() for one in (first, second))
    torch.testing.assert_close(after["conv1.weight"], before["conv1.weight"])
    assert after["conv2.weight"].shape[0] == 4 * before["conv2.weight"].shape[0]


@pytest.mark.slow
def test_ranks_whose_launcher_is_killed_save_and_leave(small_set: Path, tmp_path: Path) -> None:
    launch = Launch(small_set, tmp_path / "run", ("train.steps=3000",), ranks=2)
    with launch.going() as process:
        launch.wait_for_step(5, process)
        left_over = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(left_over, timeout=60)
    assert alive == []
    assert (
        json.loads((launch.run / "STOPPED").read_text())["step"]
        == launch.final().trainer["state"]["step"]
        < 3000
    )


@pytest.mark.slow
def test_torchrun_restarts_a_run_whose_rank_was_killed(small_set: Path, tmp_path: Path) -> None:
    launch = Launch(small_set, tmp_path / "run", ("train.steps=120", "train.checkpoint_every=10"), ranks=2)
    options = launch.command()[launch.command().index("--config", 5) :]
    command = [
        str(BIN / "torchrun"),
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "2",
        "--rdzv-backend",
        "c10d",
    ]
    command += ["--rdzv-endpoint", "127.0.0.1:0", "--", "srdist/train.py", *options]
    env = launch.environment() | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        launch.wait_for_step(25, process)
        ranks_of(process.pid)[-1].kill()
        out, _ = process.communicate(timeout=600)
    finally:
        kill_tree(process)
    assert process.returncode == 0, out
    assert launch.rows("resume")
    assert list(launch.loss_trace()) == list(range(1, 121))


def test_a_resumption_tells_of_missing_rows_and_of_what_has_no_effect(
    small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = Here(small_set, tmp_path / "run", ("train.steps=4", "train.decay_steps=9"))
    here.train()
    capsys.readouterr()
    here.train("train.steps=5", quiet=False)
    said = capsys.readouterr()
    assert "missing" not in said.out + said.err
    log = here.run / "metrics.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:3]))  # start, steps 1 and 2
    here.train("train.steps=6", "train.init_from=nowhere.safetensors", quiet=False)
    said = capsys.readouterr()
    assert f"{log}: 3 of 5 rows of training are missing" in said.out + said.err
    assert "train.init_from has no effect: the run goes on from its checkpoint" in said.out
    assert "before" not in said.out.replace("5 before, 6 now", "")
    here.train("train.steps=7", "train.log_every=2", quiet=False)
    assert "missing" not in capsys.readouterr().err


def test_a_run_that_is_a_file_is_refused(small_set: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("notes")
    with pytest.raises(UserError, match=r"run: --run is a file, expected a run folder"):
        Here(small_set, tmp_path / "run").train()
    assert (tmp_path / "run").read_text() == "notes"


def test_ranks_that_were_given_other_values_are_refused_at_the_start(small_set: Path, tmp_path: Path) -> None:
    """They trained together, and what came of it was neither run; with other steps they waited for ever."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}

    def started(rank: str, steps: str) -> subprocess.Popen[str]:
        env = group | {"RANK": rank, "LOCAL_RANK": rank}
        launch = Launch(small_set, tmp_path / "run", (f"train.steps={steps}", "data.workers=0"), env=env)
        return subprocess.Popen(
            launch.command(), cwd=ROOT, env=launch.environment(), stderr=subprocess.PIPE, text=True
        )

    processes = [started("0", "20"), started("1", "10")]
    try:
        said = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [2, 2]
    assert "train.steps: rank 1 has 10, rank 0 has 20: all ranks need one config" in said[0]
