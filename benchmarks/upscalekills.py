"""The kills part of `python -m benchmarks.upscale`: processes of one job that die, sleep and meet bad inputs at any moment.

Each round starts three processes on one folder. By chance each is killed, stopped and continued, or left alone; in
half of the rounds a lease is one second, so that whoever is stopped is taken for dead; inputs are touched; a job with
other weights tries the same folder. Then the same command is given once more. Of the inputs two are damaged.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.lowres import halves
from srdist.networks.config import SRCNNConfig
from srdist.networks.weightfile import WeightsInfo, save_weights

IMAGES = 24
DAMAGED = ("bad.png", "empty.jpg")
TIME_LIMIT_S = 300
"""Of one process, alone a matter of seconds: one that takes longer is taken to hang, and killed."""
SHORT_LEASE_S = 1.0


@dataclass(frozen=True, slots=True)
class Round:
    """What one round is to meet."""

    fates: tuple[str, ...]
    """Of each process: killed, stopped or left alone."""
    short_lease: bool
    touched: bool
    second_job: bool

    @classmethod
    def drawn(cls, chance: random.Random) -> Round:
        fates = tuple(chance.choice(["killed", "killed", "stopped", "left alone"]) for _ in range(3))
        return cls(fates, *(chance.random() < 0.5 for _ in range(3)))

    @property
    def once(self) -> bool:
        """Whether each image must be recorded as done once: nobody sleeps through a lease, and no date is new."""
        return not (self.short_lease or self.touched or self.second_job)


def kills(folder: Path, images: Path | None, *, rounds: int) -> dict[str, Any]:
    """That many rounds; what was in order, what was not, and what hung."""
    weights, others = (
        job_weights(folder / "w.safetensors", seed=0),
        job_weights(folder / "v.safetensors", seed=1),
    )
    source = folder / "in"
    source.mkdir()
    for i, photo in enumerate(halves(images, IMAGES)):
        Image.fromarray(photo).save(source / f"{i:03d}.png")
    (source / DAMAGED[0]).write_bytes(b"damaged")
    (source / DAMAGED[1]).touch()
    spawn = multiprocessing.get_context("forkserver")
    spawn.set_forkserver_preload(["srdist.cli.main", "srdist.upscaling.tree", "srdist.cli.upscale"])

    def start(
        destination: Path, weights: Path, *more: str, lease_s: float | None = None
    ) -> ForkServerProcess:
        words = ["upscale", str(source), str(destination), "--weights", str(weights), *more]
        process = spawn.Process(target=_command, args=(words, str(folder / "said"), lease_s))
        process.start()
        return process

    assert _ended(start(folder / "right", weights)) == 1
    right = _outputs(folder / "right")
    assert len(right) == IMAGES
    chance, wrong, hung, twice = random.Random(0), [], 0, 0
    for number in range(rounds):
        asked = Round.drawn(chance)
        destination = folder / f"out{number}"
        lease_s = SHORT_LEASE_S if asked.short_lease else None
        processes = [start(destination, weights, "--part", f"{i}/3", lease_s=lease_s) for i in range(3)]
        until = time.monotonic() + TIME_LIMIT_S
        while not _made(destination) and time.monotonic() < until:
            time.sleep(0.02)
        second = start(destination, others) if asked.second_job else None
        if asked.touched:
            for path in chance.sample(sorted(source.glob("0*.png")), 4):
                os.utime(path)
        for process, fate in zip(processes, asked.fates, strict=True):
            time.sleep(chance.random() / 4)
            _meet(process, fate, sleep_s=2 * chance.random())
        ends = [_ended(process) for process in [*processes, *([second] if second else [])]]
        last = _ended(start(destination, weights))
        made = _made(destination)
        twice += sum(made.values()) - len(made)
        hung += sum(end is None for end in [*ends, last])
        problems = [f"exit codes {ends}, then {last}"] if _strange(asked, ends, last) else []
        problems += ["outputs differ"] if _outputs(destination) != right else []
        problems += ["temporary files"] if [p for p in destination.rglob("*") if ".tmp" in p.name] else []
        problems += ["made twice"] if asked.once and set(made.values()) != {1} else []
        if problems:
            wrong.append({"round": number, "asked": str(asked), "problems": problems})
            print(f"round {number}: {'; '.join(problems)}; {asked}")
        shutil.rmtree(destination)
    print(
        f"\n{rounds} rounds of 3 processes and a rerun: {rounds - len(wrong)} in order, {hung} processes hung, "
        f"{twice} times an image was recorded once more where a process slept or an input was touched"
    )
    return {
        "rounds": rounds,
        "in_order": rounds - len(wrong),
        "hung": hung,
        "once_more": twice,
        "wrong": wrong,
    }


def _strange(asked: Round, ends: list[int | None], last: int | None) -> bool:
    """Whether an exit code is none that a round may have: 1 for the damaged inputs, 2 for a refused second job."""
    for fate, end in zip(asked.fates, ends, strict=False):
        if end not in ((-signal.SIGKILL, 1, 2) if fate == "killed" else (1, 2 if asked.second_job else 1)):
            return True
    return last != 1 or (asked.second_job and ends[3] not in (1, 2))


def _meet(process: ForkServerProcess, fate: str, *, sleep_s: float) -> None:
    assert process.pid is not None
    with suppress(ProcessLookupError):
        if fate == "killed":
            os.kill(process.pid, signal.SIGKILL)
        elif fate == "stopped":
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(sleep_s)
            os.kill(process.pid, signal.SIGCONT)


def _ended(process: ForkServerProcess) -> int | None:
    """Its exit code; None where it did not end in time."""
    process.join(TIME_LIMIT_S)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None
    return process.exitcode


def _command(words: list[str], said: str, lease_s: float | None) -> None:
    """`srdist` with these words, in a process that has imported it already."""
    from srdist.cli.main import main
    from srdist.machine.claims import Worker

    descriptor = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    if lease_s is not None:
        shorter: Any = Worker.__init__
        shorter.__kwdefaults__ |= {"lease_s": lease_s, "heartbeat_s": lease_s / 5}
    sys.argv = ["srdist", *words]
    main()


def job_weights(path: Path, *, seed: int) -> Path:
    """A file of small weights that depend on the seed."""
    config = SRCNNConfig(widths=(16, 8))
    save_weights(path, config.build(seed=seed).state_dict(), WeightsInfo(config, "bicubic", "", 0))
    return path


def _outputs(destination: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in destination.glob("*.png")}


def _made(destination: Path) -> Counter[str]:
    """How often each image was recorded as done."""
    made: Counter[str] = Counter()
    for log in (destination / ".srdist" / "receipts").glob("*.jsonl"):
        for line in log.read_text().splitlines(keepends=True):
            if line.endswith("\n") and (receipt := json.loads(line))["status"] == "done":
                made[receipt["path"]] += 1
    return made
