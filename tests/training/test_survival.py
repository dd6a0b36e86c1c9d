"""What can happen to a run, on real processes: signals, kills, full and read-only disks, shards that go or rot."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from benchmarks import survival
from benchmarks.processes import ROOT
from benchmarks.runs import CONTEST, THIN, Launch, differences, pack_small_set, processes_of, ranks_of
from srdist.config import load
from srdist.images.pixels import to_float
from srdist.networks.weightfile import WeightsInfo, save_weights
from srdist.shards.reader import ShardIndex
from srdist.stream.order import make_order
from srdist.stream.pairs import TrainStream
from srdist.stream.share import Share
from tests.training.runs import Here


def own_lines(output: str) -> list[str]:
    """The lines of srdist itself, not the launcher's."""
    return [line for line in output.splitlines() if line.startswith("srdist:")]


def wait_until(
    happened: Callable[[], bool], *, process: subprocess.Popen[str], timeout_s: float = 600
) -> None:
    end = time.monotonic() + timeout_s
    while not happened():
        assert process.poll() is None, f"ended early: {process.communicate()[0]}"
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def two_ranks(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The ranks of a launcher, as soon as there are two."""
    found: list[psutil.Process] = []

    def both() -> bool:
        found[:] = ranks_of(process.pid)
        return len(found) == 2

    wait_until(both, process=process)
    return found


def catches(process: psutil.Process, number: signal.Signals) -> bool:
    """Whether a process has a handler for this signal."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False  # it has ended: who waits sees why in the launcher's output
    caught = re.search(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


def test_ranks_that_have_ended_or_are_zombies_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def child(rank: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", "input()"]
        env = os.environ | {"RANK": str(rank)}
        return subprocess.Popen(command, env=env, stdin=subprocess.PIPE, text=True)

    me = psutil.Process()
    alive, zombie, gone = child(0), child(1), child(2)
    try:
        wait_until(lambda: {rank.pid for rank in ranks_of(me.pid)} >= {alive.pid, gone.pid}, process=alive)
        listed = me.children()
        zombie.kill()
        gone.kill()
        gone.wait()
        wait_until(lambda: psutil.Process(zombie.pid).status() == psutil.STATUS_ZOMBIE, process=alive)
        # They end after the launcher's children were listed, before their environments are read.
        monkeypatch.setattr(psutil.Process, "children", lambda _: listed)
        assert [rank.pid for rank in ranks_of(me.pid)] == [alive.pid]
        monkeypatch.undo()
        assert ranks_of(gone.pid) == []
    finally:
        for one in (alive, zombie, gone):
            one.kill()
            one.communicate()


# Signals.


@pytest.fixture(scope="module")
def many_to_validate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set whose validation takes seconds: about 240 images of 160x160."""
    return pack_small_set(
        tmp_path_factory.mktemp("val"),
        images=300,
        height=160,
        width=160,
        shard_samples=300,
        fractions=(0.15, 0.8, 0.05),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "to"),
    [(signal.SIGTERM, "one rank"), (signal.SIGINT, "all ranks"), (signal.SIGUSR1, "one rank")],
)
def test_a_signal_in_the_validation_of_two_ranks_saves_and_the_validation_is_made_up_for(
    many_to_validate: Path, tmp_path: Path, number: signal.Signals, to: str
) -> None:
    launch = Launch(many_to_validate, tmp_path / "run", ("train.steps=3",), ranks=2)
    with launch.going() as process:
        # The last step's row is written before its validation begins.
        launch.wait_for_step(3, process)
        victims = ranks_of(process.pid)
        for victim in victims if to == "all ranks" else victims[1:]:
            victim.send_signal(number)
        out, _ = process.communicate(timeout=300)
        assert processes_of(launch.run) == []
    assert process.returncode == 0, out
    marker = json.loads((launch.run / "STOPPED").read_text())
    assert marker["step"] == launch.final().trainer["state"]["step"] == 3
    assert launch.rows("val") == []
    assert own_lines(out) == []

    # On one rank, in this process: a start less.
    Here(launch.shards, launch.run, launch.settings).train()
    assert [row["step"] for row in launch.rows("val")] == [3]
    assert launch.final().trainer["state"]["validated_step"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("to", ["one rank", "the whole group"])
def test_a_signal_in_the_start_up_of_two_ranks_is_not_lost(small_set: Path, tmp_path: Path, to: str) -> None:
    launch = Launch(small_set, tmp_path / "run", ("train.steps=20",), ranks=2)
    with launch.going() as process:
        started = two_ranks(process)
        # From here on they import torch, which takes seconds.
        wait_until(lambda: all(catches(rank, signal.SIGTERM) for rank in started), process=process)
        if to == "one rank":
            started[1].terminate()
        else:
            os.killpg(process.pid, signal.SIGTERM)
            for rank in started:  # the launcher gives each a session of its own
                os.killpg(rank.pid, signal.SIGTERM)
        out, _ = process.communicate(timeout=300)
        assert processes_of(launch.run) == []
    assert json.loads((launch.run / "STOPPED").read_text())["step"] == 0, out
    assert launch.final().trainer["state"]["step"] == 0
    Here(launch.shards, launch.run, launch.settings).train()
    assert list(launch.loss_trace()) == list(range(1, 21))


# kill -9.


@pytest.mark.slow
def test_ranks_whose_launcher_is_killed_in_their_start_up_are_gone_at_once(
    small_set: Path, tmp_path: Path
) -> None:
    launch = Launch(small_set, tmp_path / "run", ("train.steps=20",), ranks=2)
    with launch.going() as process:
        started = two_ranks(process)
        wait_until(lambda: all(catches(rank, signal.SIGTERM) for rank in started), process=process)
        process.kill()
        process.wait()
        _, left = psutil.wait_procs(started, timeout=60)
        assert left == []


@pytest.mark.slow
def test_killed_with_9_again_and_again_a_run_of_two_ranks_ends_in_the_same_bits(
    small_set: Path, tmp_path: Path
) -> None:
    """Of a run with all that has state: a critic, the degradation's draws, the running average, other weights to begin with."""
    # Weights that a resumption does not begin with: what should follow the run and does not, shows.
    section = load(ROOT / "configs/demo_x2.yaml", THIN).model
    start = tmp_path / "start.safetensors"
    save_weights(start, section.build(seed=7).state_dict(), WeightsInfo(section, "bicubic", "", 0))
    more = (
        *CONTEST,
        "data.kernel=null",
        "data.degradation.kind=second_order",
        "train.ema_decay=0.9",
        f"train.init_from={start}",
    )
    kills = len(survival.VICTIMS)
    told = survival.survive(small_set, tmp_path, precision="fp32", kills=kills, seed=1, steps=200, more=more)
    assert {kill["victim"] for kill in told["kills"]} == set(survival.VICTIMS)
    assert told["different"] == []
    assert told["left_over"] == 0


def test_the_comparison_of_two_runs_finds_a_single_flipped_bit(small_set: Path, tmp_path: Path) -> None:
    launch, other = (
        Here(small_set, tmp_path / "run", ("train.steps=2",)),
        Here(small_set, tmp_path / "other"),
    )
    launch.train()
    shutil.copytree(launch.run, other.run)
    assert differences(launch, other) == []
    checkpoint = other.run / "checkpoints/step-00000002"
    _edit(checkpoint, "optimizer.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    (found,) = differences(launch, other)
    assert found.startswith("optimizer ")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_data_worker_killed_with_9_ends_both_ranks_with_one_clear_line(
    small_set: Path, tmp_path: Path, rank: int
) -> None:
    launch = Launch(small_set, tmp_path / "run", ("train.steps=100000",), ranks=2)
    with launch.going() as process:
        launch.wait_for_step(3, process)
        (worker,) = ranks_of(process.pid)[rank].children()
        worker.kill()
        out, _ = process.communicate(timeout=300)
        assert processes_of(launch.run) == []
    assert process.returncode != 0
    (line,) = own_lines(out)
    assert f"a data worker (process {worker.pid}) was killed by SIGKILL" in line
    assert "Error:" not in out.split("srdist:")[0]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_killed_with_9_ends_the_other_with_one_clear_line(
    small_set: Path, tmp_path: Path, rank: int
) -> None:
    launch = Launch(small_set, tmp_path / "run", ("train.steps=100000",), ranks=2)
    with launch.going() as process:
        launch.wait_for_step(3, process)
        ranks_of(process.pid)[rank].kill()
        out, _ = process.communicate(timeout=300)
        assert processes_of(launch.run) == []
    assert process.returncode != 0
    (line,) = own_lines(out)
    assert f"rank {1 - rank} lost another rank" in line
    assert "the same command goes on" in line


# Disks.


def _fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096):
            while shutil.disk_usage(disk).free >= size:
                file.write(bytes(size))
    return filler


@pytest.mark.slow
@pytest.mark.parametrize("log_every", [1, 1000], ids=["met by the log", "met by a checkpoint"])
def test_a_full_disk_ends_the_run_with_one_line_and_with_room_it_goes_on(
    small_set: Path, tiny_disk: Path, tmp_path: Path, log_every: int
) -> None:
    settings = (
        "train.steps=200",
        "train.checkpoint_every=20",
        "train.threads=1",
        f"train.log_every={log_every}",
    )
    launch = Launch(small_set, tiny_disk / "run", settings)
    with launch.going() as process:
        wait_until((launch.run / "checkpoints/step-00000020").is_dir, process=process)
        filler = _fill(tiny_disk)
        out, _ = process.communicate(timeout=300)
    assert process.returncode == 1, out
    (line,) = own_lines(out)
    assert f"{launch.run}" in line
    assert "No space left on device: free some room and run the same command again" in line
    good = launch.final().trainer["state"]["step"]
    assert 20 <= good < 200

    filler.unlink()
    assert f"resumes at step {good}" in launch.finish().stdout
    whole = Here(small_set, tmp_path / "whole", settings)
    whole.train()
    assert differences(launch, whole) == []


def test_a_read_only_run_folder_is_one_line(small_set: Path, tiny_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", tiny_disk], check=True)
    done = Launch(small_set, tiny_disk / "run").finish(code=1)
    (line,) = done.stderr.splitlines()
    assert f"{tiny_disk}/run" in line
    assert "Read-only file system: choose a folder that can be written to" in line


# Shards.


@pytest.mark.slow
@pytest.mark.parametrize("what", ["deleted", "cut to nothing"])
def test_a_shard_that_goes_during_the_run_ends_it_with_one_line_that_names_it(
    tmp_path: Path, what: str
) -> None:
    # More shards than a worker keeps open at a time: a deleted file that is open can still be read.
    shards = pack_small_set(tmp_path, images=200, shard_samples=1, fractions=(0.9, 0.05, 0.05))
    launch = Launch(shards, tmp_path / "run", ("train.steps=100000",), ranks=2)
    with launch.going() as process:
        launch.wait_for_step(3, process)
        for shard in (shards / "train-00000.tar", shards / "train-00007.tar"):
            if what == "deleted":
                shard.unlink()
            else:
                os.truncate(shard, 0)
        out, _ = process.communicate(timeout=300)
        assert processes_of(launch.run) == []
    assert process.returncode != 0
    (line,) = own_lines(out)
    assert re.search(r"train-0000[07]\.tar", line), line


def _damage(index: ShardIndex, sample: int) -> None:
    """Flip a byte in the middle of a sample's bytes."""
    bad = index.bad(sample, "")
    place = bad.offset + int(index.data_sizes(np.array([sample]))[0]) // 2
    with Path(bad.shard).open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 0xFF]))


@pytest.mark.slow
def test_a_damaged_sample_that_is_skipped_on_two_ranks_is_listed_and_weighs_nothing(
    small_set: Path, tmp_path: Path
) -> None:
    shards = shutil.copytree(small_set, tmp_path / "set")
    index = ShardIndex.open(str(shards), "train")
    order = make_order("global", shard_samples=index.shard_samples, window_shards=8, seed=0)
    sample = int(order.ids(np.arange(12))[8])
    _damage(index, sample)
    settings = ("data.on_bad_sample=skip", "train.steps=8", "data.max_bad_fraction=0.5")
    launch = Launch(shards, tmp_path / "run", settings, ranks=2)
    launch.finish()
    alone = Here(shards, tmp_path / "alone", settings)
    alone.train()

    assert list(launch.loss_trace()) == list(range(1, 9))
    listed = [json.loads(line) for line in (launch.run / "bad_samples.jsonl").read_text().splitlines()]
    assert listed == [json.loads(line) for line in (alone.run / "bad_samples.jsonl").read_text().splitlines()]
    assert listed[0]["step"] == 1
    assert {row["key"] for row in listed} == {index.key(sample)}
    assert len(listed) in (8 * 12 // len(index), -(-8 * 12 // len(index)))
    assert launch.rows("train")[-1]["bad_samples"] == len(listed)
    assert launch.rows("train")[0]["loss"] == pytest.approx(
        _first_loss(launch, index, without=sample), rel=1e-5
    )
    for step, values in alone.loss_trace().items():
        assert launch.loss_trace()[step] == pytest.approx(values, rel=1e-4)

    strict = Launch(shards, tmp_path / "strict", ("data.on_bad_sample=skip", "train.steps=8"), ranks=2)
    done = strict.finish(code=1)
    (line,) = own_lines(done.stderr)
    assert "above data.max_bad_fraction 0.001" in line
    assert index.key(sample) in line


def _first_loss(launch: Launch, index: ShardIndex, *, without: int) -> float:
    """The first step's loss, computed here: the sum over the good samples, over the batch's size."""
    options = [part for part in launch.command() if "=" in part]
    config = load(ROOT / "configs/demo_x2.yaml", options)
    data = config.data.model_copy(update={"workers": 0, "on_bad_sample": "skip"})
    with TrainStream(index, data, Share(), scale=2, seed=0, global_batch=12, rank_batch=12) as stream:
        pair = next(iter(stream))
        good = pair.ids != without
        assert int(good.sum()) == 11
        with torch.no_grad():
            sr = config.model.build(seed=0)(to_float(pair.lr[good]))
        return float(((sr - to_float(pair.hr[good])) ** 2).flatten(1).mean(1).sum() / 12)


def _edit(checkpoint: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change a file of a checkpoint, and its manifest so that it verifies."""
    data = change((checkpoint / name).read_bytes())
    (checkpoint / name).write_bytes(data)
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": len(data), "sha256": sha256(data).hexdigest()}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


def test_an_epoch_that_is_not_every_sample_exactly_once_ends_the_run(small_set: Path, tmp_path: Path) -> None:
    launch = Here(small_set, tmp_path / "run", ("train.steps=2",))
    launch.train()

    def change(data: bytes) -> bytes:
        trainer = json.loads(data)
        trainer["proof"][1] += 1  # the hash: another sample than the right one
        return json.dumps(trainer).encode()

    _edit(launch.run / "checkpoints/step-00000002", "trainer.json", change)
    done = launch.finish("train.steps=20", code=1)
    (line,) = done.stderr.splitlines()
    assert "epoch 0 was not every sample exactly once" in line
    # The run ended at the end of that epoch, and nothing of it was saved.
    assert launch.final().trainer["state"]["step"] == 2


@pytest.mark.slow
def test_when_two_ranks_have_parted_no_thread_of_the_process_group_is_left(
    small_set: Path, tmp_path: Path
) -> None:
    # One that still ran when the interpreter ended took the process down with SIGABRT, now and then.
    script = tmp_path / "train_and_tell.py"
    script.write_text(
        "import atexit, os\n"
        "from pathlib import Path\n"
        "def tell():\n"
        "    names = sorted((t / 'comm').read_text().strip() for t in Path('/proc/self/task').iterdir())\n"
        "    os.write(1, f'threads {names}\\n'.encode())\n"
        "atexit.register(tell)\n"
        "from srdist.train import command\n"
        "command()\n"
    )
    launch = Launch(small_set, tmp_path / "run", ("train.steps=2",), ranks=2)
    command = [str(script) if part == "srdist/train.py" else part for part in launch.command()]
    env = launch.environment() | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("threads")]
    assert len(told) == 2
    assert not [line for line in told if "gloo" in line]
