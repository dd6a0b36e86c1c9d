"""Damaged state of every kind, met by the command that reads it: the right result, or one line and exit code 1 or 2.

A part of `python -m benchmarks.fuzz`. A set is packed, a run trained and a directory upscaled, once. Then one file of
theirs is damaged and a command is given: it must end in time and without a traceback. Where it says that all is well,
its files must be those of the undisturbed command: a resumed run ends in the same weights, a job in the same outputs.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from click.testing import CliRunner, Result
from PIL import Image

from benchmarks.processes import ROOT
from benchmarks.runs import BRIEF, THIN, pack_small_set
from srdist.cli.main import main as srdist
from srdist.networks.config import SRCNNConfig
from srdist.networks.weightfile import WeightsInfo, save_weights

TIME_LIMIT_S = 120
"""Of one command; undisturbed each takes some seconds at most."""


class TooSlowError(Exception):
    """A command did not end in time."""


@dataclass(frozen=True, slots=True)
class Case:
    """Files of one kind and a command that reads them; OUT stands for the folder that holds all state."""

    name: str
    files: str
    """Pattern below OUT."""
    command: tuple[str, ...]
    made: str = ""
    """Pattern of the files that must be those of the undisturbed command where it says that all is well."""


_RUN = tuple(
    part
    for setting in (*THIN, *BRIEF, "data.workers=0", "train.threads=1", "log.wandb=disabled")
    for part in ("--set", setting)
)
_TRAIN = ("train", "--config", str(ROOT / "configs/demo_x2.yaml"), "--run", "OUT/run", "--quiet", *_RUN)
_TRAIN += ("--set", "data.shards=OUT/set", "--set", "train.checkpoint_every=1")
_ON = (*_TRAIN, "--set", "train.steps=3")
_JOB = ("upscale", "OUT/src", "OUT/dst", "--weights", "OUT/w.safetensors")

CASES = (
    Case("manifest", "set/manifest.json", ("shards", "info", "OUT/set")),
    Case("manifest", "set/manifest.json", ("shards", "verify", "OUT/set")),
    Case("index", "set/index/*", ("shards", "verify", "OUT/set")),
    Case("index", "set/index/*", ("shards", "order", "OUT/set", "--seed", "0", "--from", "0", "--count", "3")),
    Case("shard", "set/**/*.tar", ("shards", "verify", "OUT/set")),
    Case("checkpoint", "run/checkpoints/*/*.safetensors", _ON, "run/last.safetensors"),
    Case("checkpoint's manifest", "run/checkpoints/*/manifest.json", _ON, "run/last.safetensors"),
    Case("checkpoint's state", "run/checkpoints/*/trainer.json", _ON, "run/last.safetensors"),
    Case("metrics, resumed", "run/metrics.jsonl", _ON, "run/last.safetensors"),
    Case("metrics, reported", "run/metrics.jsonl", ("report", "OUT/run", "--out", "OUT/report.html")),
    Case("run config", "run/config.yaml", ("config", "show", "OUT/run/config.yaml")),
    Case("run config, reported", "run/config.yaml", ("report", "OUT/run", "--out", "OUT/report.html")),
    Case("run config, resumed", "run/config.yaml", _ON, "run/last.safetensors"),
    Case("receipts", "dst/.srdist/receipts/*", _JOB, "dst/*.png"),
    Case("receipts, looked at", "dst/.srdist/receipts/*", ("upscale", "--status", "OUT/dst")),
    Case("plan", "dst/.srdist/plans/*", _JOB, "dst/*.png"),
    Case("job", "dst/.srdist/job.json", ("upscale", "--status", "OUT/dst")),
    Case("job", "dst/.srdist/job.json", _JOB, "dst/*.png"),
    Case("run of a job", "dst/.srdist/runs/*", _JOB, "dst/*.png"),
    Case("weights", "w.safetensors", ("upscale", "OUT/src/0.png", "OUT/one.png", "--weights", "OUT/w.safetensors")),
    Case("weights", "run/last.safetensors", ("export", "OUT/run", "--onnx", "OUT/x.onnx")),
)  # fmt: skip


class State:
    """State of every kind in one folder, and the means to have it back as it was."""

    def __init__(self, work: Path) -> None:
        self.out, self._kept = work / "out", work / "kept"
        out = self.out
        pack_small_set(out, images=24)
        (out / "src").mkdir()
        noise = np.random.default_rng(0)
        for number in range(6):
            pixels = noise.integers(0, 256, (8, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(out / "src" / f"{number}.png")
        config = SRCNNConfig(kernels=(3, 3), widths=(8,))
        save_weights(
            out / "w.safetensors", config.build(seed=0).state_dict(), WeightsInfo(config, "bicubic", "", 0)
        )
        for words in ((*_TRAIN, "--set", "train.steps=2"), _JOB):
            result = self.give(words)
            assert result.exit_code == 0, result.output
        shutil.copytree(out, self._kept, symlinks=True)
        self.right: dict[str, dict[str, bytes]] = {}
        for case in CASES:
            if case.made and case.made not in self.right:
                result = self.give(case.command)
                assert result.exit_code == 0, result.output
                self.right[case.made] = self.made(case)
                self.restore()

    def give(self, words: tuple[str, ...]) -> Result:
        """Give a command, in this process."""
        with _time_limit():
            return CliRunner().invoke(srdist, [word.replace("OUT", str(self.out)) for word in words])

    def made(self, case: Case) -> dict[str, bytes]:
        """What the command of a case leaves."""
        return {path.name: path.read_bytes() for path in self.out.glob(case.made)}

    def restore(self) -> None:
        """Have everything as it was before anything was damaged."""
        for name in ("run", "dst", "set"):
            shutil.rmtree(self.out / name, ignore_errors=True)
            shutil.copytree(self._kept / name, self.out / name, symlinks=True)
        for path in (self.out / "w.safetensors", self.out / "one.png"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
        shutil.copy(self._kept / "w.safetensors", self.out / "w.safetensors")


def findings(
    work: Path, *, seed: int, first: int, count: int, mutated: Callable[[bytes, random.Random], bytes]
) -> list[dict[str, object]]:
    """What ended in a traceback, too late, without a word, or in other files than the undisturbed command.

    Args:
        work: an empty folder.
        mutated: damages bytes somewhere.
    """
    state = State(work)
    found: list[dict[str, object]] = []
    for number in range(first, first + count):
        chance = random.Random(f"state-{seed}-{number}")
        case = CASES[number % len(CASES)]
        files = sorted(path for path in state.out.glob(case.files) if path.is_file())
        assert files, f"{case.files}: no such file"
        how = _damage(chance.choice(files), chance, mutated)
        if problem := _problem(state, case):
            found.append(
                {"file": number, "kind": case.name, "way": f"{case.command[0]}, {how}", "problem": problem}
            )
        state.restore()
    return found


def _problem(state: State, case: Case) -> str:
    try:
        result = state.give(case.command)
    except TooSlowError:
        return f"took more than {TIME_LIMIT_S} s"
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        frames = traceback.extract_tb(result.exception.__traceback__)
        where = [
            f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames if "srdist" in frame.filename
        ]
        return f"{result.exception!r:.200} at {' '.join(where[-3:])}"
    if result.exit_code not in (0, 1, 2):
        return f"exit code {result.exit_code}: {result.output[-200:]}"
    if "Traceback" in result.output:
        return f"a traceback: {result.output[-300:]}"
    if result.exit_code and not result.output.strip():
        return f"exit code {result.exit_code} without a word"
    if result.exit_code == 0 and case.made and state.made(case) != state.right[case.made]:
        return "exit code 0, and other files than without the damage"
    return ""


def _damage(path: Path, chance: random.Random, mutated: Callable[[bytes, random.Random], bytes]) -> str:
    """Damage a file; tells how."""
    data = path.read_bytes()
    kind = chance.choice(
        ["bytes", "bytes", "bytes", "value", "value", "value", "empty", "gone", "folder", "link"]
    )
    if kind == "value":
        try:
            changed = _with_another_value(data, chance)
        except ValueError:
            kind = "bytes"  # no JSON
        else:
            path.write_bytes(changed)
            return f"{path.name}: a value"
    if kind == "bytes" and data:
        path.write_bytes(mutated(data, chance))
        return f"{path.name}: bytes"
    path.unlink()
    match kind:
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to("nowhere")
        case "empty" | "bytes":
            path.touch()
    return f"{path.name}: {kind}"


def _with_another_value(data: bytes, chance: random.Random) -> bytes:
    """JSON, or one line of JSON lines, with one value of another kind or size, or without a key."""
    lines = data.decode().splitlines(keepends=True)
    whole = chance.randrange(len(lines)) if len(lines) > 1 and not lines[0].startswith("{\n") else None
    value = json.loads(data if whole is None else lines[whole])
    places = list(_places(value))
    if not places:
        raise ValueError("no value inside")
    holder, key = chance.choice(places)
    if chance.randrange(5) == 0 and isinstance(holder, dict):
        del holder[key]
    else:
        now = holder[key]
        others: list[Any] = [
            None,
            [],
            {},
            "",
            "x",
            -1,
            0,
            2**31,
            2**63,
            1e300,
            True,
            [[now]],
            "../../x",
            "\0",
        ]
        holder[key] = chance.choice([*others, now + 1 if isinstance(now, int) else str(now) + "0"])
    text = json.dumps(value)
    if whole is None:
        return text.encode()
    return "".join([*lines[:whole], text + "\n", *lines[whole + 1 :]]).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in list(inside):
        yield value, key
        yield from _places(one)


@contextmanager
def _time_limit() -> Iterator[None]:
    def too_slow(_number: int, _frame: FrameType | None) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(TIME_LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
