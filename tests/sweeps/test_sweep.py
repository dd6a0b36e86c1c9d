"""Sweeps as users run them: by one process, by several, killed, stopped, on two ranks; in real run folders."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from benchmarks.processes import BIN, ROOT, clean_environment, kill_tree
from benchmarks.runs import different_states
from srdist.config import load
from srdist.machine import locks
from srdist.machine.claims import Worker
from srdist.machine.errors import UserError
from srdist.networks.weightfile import load_weights
from srdist.report.page import write_report
from srdist.report.sweeprecord import read_record
from srdist.sweeps import desk as desks
from srdist.sweeps.desk import Desk
from srdist.sweeps.folder import SweepFolder
from srdist.sweeps.sweepfile import read_sweep
from tests.sweeps.small import events, found, state_of, sweep_file, sweep_here


@contextmanager
def going(path: Path, out: Path, *, ranks: int = 1) -> Iterator[subprocess.Popen[str]]:
    """`srdist sweep` as a process, alone or under a launcher."""
    command = [str(BIN / "srdist")]
    if ranks > 1:
        command = [
            str(BIN / "accelerate"),
            "launch",
            "--config_file",
            "launch/cpu2.yaml",
            "--num_processes",
            str(ranks),
        ]
        command += ["--main_process_port", "0", "-m", "srdist"]
    process = subprocess.Popen(
        [*command, "sweep", str(path), "--out", str(out)],
        cwd=ROOT,
        env=clean_environment() | {"ACCELERATE_USE_CPU": "true"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill_tree(process)


def finish(path: Path, out: Path, *, code: int = 0, ranks: int = 1) -> str:
    with going(path, out, ranks=ranks) as process:
        told = process.communicate(timeout=240)[0]
    assert process.returncode == code, told
    return told


def wait_for_checkpoint(out: Path, process: subprocess.Popen[str]) -> int:
    """Wait until a trial that has not ended has saved a step; its number."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert process.poll() is None, process.communicate()[0]
        for folder in out.glob("trial-*/checkpoints/step-*"):
            number = int(folder.parents[1].name.removeprefix("trial-"))
            if not (out / f".sweep/ended/{number:04d}.json").exists():
                return number
        time.sleep(0.01)
    raise AssertionError("no trial has saved anything")


def test_a_grid_ends_with_run_folders_a_table_and_the_best_config(small_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    record = sweep_here(sweep_file(tmp_path, small_set), out)
    assert [trial.state for trial in record.trials] == ["done"] * 4
    assert [trial.step for trial in record.trials] == [4] * 4
    assert [trial.parameters for trial in record.trials] == [1100, 556, 1100, 556]
    assert events(out, "begins") == [0, 1, 2, 3]
    for trial in record.trials:
        run = out / trial.name
        scores = [
            row["psnr_y_db"]
            for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
            if row["kind"] == "val"
        ]
        assert trial.objective == max(scores)
        assert load_weights(str(run))[1].step == trial.best_step
        assert write_report(run).is_file()
    best = max(record.trials, key=lambda trial: trial.objective or 0)
    assert record.best == best
    assert load(out / "best.yaml") == load(out / best.name / "config.yaml")
    assert read_record(out) == record
    rows = list(csv.DictReader(io.StringIO((out / "sweep.csv").read_text())))
    assert [yaml.safe_load(row["model.widths"]) for row in rows] == [[8], [4], [8], [4]]


def test_a_trial_is_the_run_that_its_config_makes(small_set: Path, tmp_path: Path) -> None:
    sweep_here(sweep_file(tmp_path, small_set), tmp_path / "sweep")
    alone = sweep_file(tmp_path, small_set, fields={"train.learning_rate": [1e-4]}, set={})
    text = yaml.safe_load(alone.read_text())
    text["config"] = str(tmp_path / "sweep/trial-0002/config.yaml")
    alone.write_text(yaml.safe_dump(text))
    sweep_here(alone, tmp_path / "alone")
    assert different_states(state_of(tmp_path / "sweep", 2), state_of(tmp_path / "alone", 0)) == []


def test_a_finished_sweep_prints_its_table_and_changes_nothing(small_set: Path, tmp_path: Path) -> None:
    path, out = sweep_file(tmp_path, small_set), tmp_path / "sweep"
    first = sweep_here(path, out)
    before = {file: file.stat().st_mtime_ns for file in out.glob("trial-*/**/*") if file.is_file()}
    again = sweep_here(path, out)
    assert again == first
    assert {file: file.stat().st_mtime_ns for file in out.glob("trial-*/**/*") if file.is_file()} == before
    assert events(out, "begins") == [0, 1, 2, 3]


def test_a_sweep_of_an_earlier_version_without_a_field_of_today_goes_on(
    small_set: Path, tmp_path: Path
) -> None:
    path, out = sweep_file(tmp_path, small_set, fields={"train.learning_rate": [1e-3]}), tmp_path / "sweep"
    first = sweep_here(path, out)
    earlier = yaml.safe_load((out / "sweep.yaml").read_text())
    del earlier["config"]["train"]["deterministic"]
    (out / "sweep.yaml").write_text(yaml.safe_dump(earlier, sort_keys=False))
    assert sweep_here(path, out) == first


def test_a_trial_that_diverges_has_failed_with_its_reason_and_the_others_go_on(
    small_set: Path, tmp_path: Path
) -> None:
    fields = {"train.learning_rate": [1e-3, 1e30, 1e-4]}
    path = sweep_file(
        tmp_path, small_set, "train.max_bad_steps=2", "train.steps=6", "train.warmup_steps=0", fields=fields
    )
    told = finish(path, tmp_path / "sweep", code=1)
    record = read_record(tmp_path / "sweep")
    assert [trial.state for trial in record.trials] == ["done", "failed", "done"]
    assert "not finite" in record.trials[1].reason
    assert "trial-0001 failed: " in told.splitlines()[-2]
    assert record.best is not None
    assert record.best.number != 1


def test_a_folder_of_another_sweep_or_of_a_run_is_refused(small_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    sweep_here(sweep_file(tmp_path, small_set, fields={"train.learning_rate": [1e-3]}), out)
    other = sweep_file(tmp_path, small_set, fields={"train.learning_rate": [1e-3, 1e-4]})
    with pytest.raises(UserError, match=r"fields.train.learning_rate: the sweep in .* has \[0.001\], found"):
        sweep_here(other, out)
    longer = sweep_file(tmp_path, small_set, "train.steps=9", fields={"train.learning_rate": [1e-3]})
    with pytest.raises(UserError, match=r"config.train.steps: the sweep in .* has 4, found 9"):
        sweep_here(longer, out)
    with pytest.raises(UserError, match="is the folder of a run"):
        sweep_here(longer, out / "trial-0000")


def test_a_batch_or_images_that_a_trial_could_not_begin_with_are_told_before_the_first(
    small_set: Path, tmp_path: Path
) -> None:
    batches = {"train.global_batch": [12, 13]}
    with pytest.raises(UserError, match="global_batch: 13 cannot be shared out over 1 ranks x rank_batch 2"):
        sweep_here(sweep_file(tmp_path, small_set, "train.rank_batch=2", fields=batches), tmp_path / "sweep")
    sets = {"data.shards": [str(small_set), str(tmp_path / "none")]}
    with pytest.raises(UserError, match="none"):
        sweep_here(sweep_file(tmp_path, small_set, fields=sets), tmp_path / "sweep")
    pairs = ("data.kernel=null", "data.degradation={kind: pairs}")
    with pytest.raises(UserError, match="LR is to be that of pairs, but the set has HR images alone"):
        sweep_here(sweep_file(tmp_path, small_set, *pairs), tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_a_trial_over_which_three_processes_die_without_a_step_more_has_failed(
    small_set: Path, tmp_path: Path
) -> None:
    path, out = (
        sweep_file(tmp_path, small_set, fields={"train.learning_rate": [1e-3, 1e-4]}),
        tmp_path / "sweep",
    )
    for _ in range(desks.MOST_DEATHS):
        pid = os.fork()
        if pid == 0:  # a process that is killed as soon as it has a trial, as one that runs out of memory
            desk = Desk(read_sweep(path), SweepFolder(out))
            desk.open()
            desk.next()
            os.kill(os.getpid(), signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    record = sweep_here(path, out)
    assert [trial.state for trial in record.trials] == ["failed", "done"]
    assert "3 processes ended over it after step 0" in record.trials[0].reason


def test_a_trial_whose_folder_is_in_use_is_left_alone_until_it_is_free(
    small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = (
        sweep_file(tmp_path, small_set, fields={"train.learning_rate": [1e-3, 1e-4]}),
        tmp_path / "sweep",
    )
    monkeypatch.setattr(desks, "BUSY_S", 0.5)
    (out / "trial-0000").mkdir(parents=True)
    # As by a process that sleeps: its claim has lapsed, its lock has not.
    held = locks.take(out / "trial-0000/.lock", patience_s=1)
    assert held is not None
    with ExitStack() as stack:
        stack.callback(held.release)
        monkeypatch.setattr(Worker, "release", _releasing(held.release, Worker.release))
        record = sweep_here(path, out)
    assert [trial.state for trial in record.trials] == ["done", "done"]
    assert events(out, "left") == [0]
    assert events(out, "begins") == [0, 0, 1]


def _releasing(
    let_go: Callable[[], None], release: Callable[[Worker, str], None]
) -> Callable[[Worker, str], None]:
    """`release` that lets the lock go when the second trial has been done."""

    def both(self: Worker, unit: str) -> None:
        if unit == "trial-0001":
            let_go()
        release(self, unit)

    return both


@pytest.mark.slow
def test_two_processes_of_which_one_is_killed_do_every_trial_once_as_one_process_does(
    small_set: Path, tmp_path: Path
) -> None:
    path = sweep_file(
        tmp_path, small_set, "train.steps=40", "train.validate_every=20", "train.checkpoint_every=5"
    )
    out = tmp_path / "shared"
    with going(path, out) as victim:
        killed = wait_for_checkpoint(out, victim)
        with going(path, out) as other:
            victim.send_signal(signal.SIGKILL)
            told = other.communicate(timeout=240)[0]
    assert victim.returncode == -signal.SIGKILL
    assert other.returncode == 0, told
    one = sweep_here(path, tmp_path / "alone")
    record = read_record(out)
    assert found(record) == found(one)
    for number in range(4):
        assert different_states(state_of(out, number), state_of(tmp_path / "alone", number)) == []
    # Begun once each, but for the one that was taken over, which went on from its checkpoint.
    assert events(out, "begins") == sorted([0, 1, 2, 3, killed])
    rows = [json.loads(line) for line in (out / f"trial-{killed:04d}/metrics.jsonl").read_text().splitlines()]
    resumed = [row["step"] for row in rows if row["kind"] == "resume"]
    assert len(resumed) == 1
    assert resumed[0] >= 5


@pytest.mark.slow
def test_two_processes_share_the_trials(small_set: Path, tmp_path: Path) -> None:
    path, out = sweep_file(tmp_path, small_set, "train.steps=40"), tmp_path / "sweep"
    with going(path, out) as one, going(path, out) as other:
        told = [process.communicate(timeout=240)[0] for process in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0), told
    assert events(out, "begins") == [0, 1, 2, 3]
    logs = list((out / ".sweep/receipts").glob("*.jsonl"))
    assert len(logs) == 2, "one of them did everything"
    assert [text.splitlines()[-2] for text in told] == [told[0].splitlines()[-2]] * 2


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_asked_to_stop_a_sweep_saves_and_the_same_command_goes_on(
    small_set: Path, tmp_path: Path, ranks: int
) -> None:
    settings = ("train.steps=40", "train.validate_every=40", "train.checkpoint_every=5")
    path = sweep_file(tmp_path, small_set, *settings, fields={"train.learning_rate": [1e-3, 1e-4]})
    out = tmp_path / "sweep"
    with going(path, out, ranks=ranks) as process:
        stopped = wait_for_checkpoint(out, process)
        process.send_signal(signal.SIGTERM)
        told = process.communicate(timeout=120)[0]
    assert process.returncode == (128 + signal.SIGTERM if ranks == 1 else 1), told
    assert "srdist: stopped (SIGTERM), saved; the same command goes on" in told
    assert events(out, "left") == [stopped]
    finish(path, out, ranks=ranks)
    one = sweep_here(path, tmp_path / "alone")
    if ranks == 1:
        assert found(read_record(out)) == found(one)
    assert [trial.state for trial in read_record(out).trials] == ["done"] * 2


@pytest.mark.slow
def test_under_a_launcher_all_ranks_work_on_one_trial_together(small_set: Path, tmp_path: Path) -> None:
    path = sweep_file(
        tmp_path,
        small_set,
        "train.max_bad_steps=2",
        "train.warmup_steps=0",
        fields={"train.learning_rate": [1e-3, 1e30, 1e-4]},
    )
    told = finish(path, tmp_path / "sweep", code=1, ranks=2)
    record = read_record(tmp_path / "sweep")
    assert [trial.state for trial in record.trials] == ["done", "failed", "done"], told
    for trial in record.trials:
        first = json.loads((tmp_path / "sweep" / trial.name / "metrics.jsonl").read_text().splitlines()[0])
        assert first["world"] == 2
    assert told.count("trial-0000 of 3") == 1
