"""Power cuts: what a save, a pack and a directory job leave behind at any moment, and whether the next run ends equal.

    python -m benchmarks.powercut [--quick] [--json FILE] [--part save|pack|upscale]

Each part is run once under strace (benchmarks/disk.py). Then, after each of its system calls that change the disk,
several states are made of which each could be what a power cut leaves: what was not synced is there, lost, or partly
there. In each state the same command is given again. It must end with the same files as an undisturbed one; what had
been promised before the cut must be there without it; and nothing that is half made may look whole.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import click
import numpy as np
from click.testing import CliRunner
from PIL import Image

from benchmarks.disk import Disk, emptied, record
from benchmarks.loader import machine
from benchmarks.ownfolders import working_folder
from benchmarks.processes import ROOT
from benchmarks.runs import BRIEF, THIN, pack_small_set
from srdist.cli.main import main as srdist

PROGRAM = """
import os, sys
from contextlib import suppress
from srdist.cli.main import main
for call in "\\0".join(sys.argv[1:]).split("\\0--then\\0"):
    mark, *arguments = call.split("\\0")
    main.main(arguments, standalone_mode=False)
    with suppress(OSError):
        os.unlink("/powercut-mark/" + mark)
"""
"""Commands one after the other; after each a mark says that it has ended well."""

MODES = ((0.0, 0.0), (1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.5, 0.5))
"""Chances of what was not synced to be there: of names, of data. The third is the classic: a name without its content."""

TIME_LIMIT_S = 90
"""Of one command given again."""


@dataclass(frozen=True, slots=True)
class Part:
    """Something that writes files, and what must hold of them."""

    name: str
    calls: tuple[tuple[str, ...], ...]
    """Each a mark and the words of a command; the folder under test is written as OUT."""
    begin: Callable[[Path], None]
    """Makes the folder as it is before."""
    look: Callable[[Path, list[str]], None]
    """Raises AssertionError where a state, before anything is run again, breaks a promise; given the marks so far."""
    equal: Callable[[Path, Path], None]
    """Raises AssertionError where the folder after the last command given again differs from the undisturbed one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one part."""

    cuts: int
    """System calls after which power was cut."""
    states: int
    broken: tuple[str, ...]
    """Where and how a promise was broken."""


def check(part: Part, work: Path, *, cuts: int | None, seed: int = 0) -> Outcome:
    """Cut the power after each changing call of `part`, or after `cuts` of them drawn by `seed`."""
    out, undisturbed = work / "out", work / "undisturbed"
    part.begin(emptied(out))
    disk = Disk(out)
    words: list[str] = []
    for mark, *command in part.calls:
        words += [*(["--then"] if words else []), mark, *(word.replace("OUT", str(out)) for word in command)]
    calls = record(PROGRAM, *words, folder=out)
    shutil.rmtree(undisturbed, ignore_errors=True)
    shutil.copytree(out, undisturbed)
    again = [word.replace("OUT", str(out)) for word in part.calls[-1][1:]]

    draw = random.Random(seed)
    dry = copy.deepcopy(disk)
    changing = [i for i, call in enumerate(calls) if dry.apply(call)]
    chosen = set(changing if cuts is None else draw.sample(changing, min(cuts, len(changing))))
    made, broken = 0, []
    for i, call in enumerate(calls):
        if not disk.apply(call) or i not in chosen:
            continue
        for names, data in MODES:
            disk.crash(names=names, data=data, draw=draw, target=emptied(out))
            made += 1
            try:
                part.look(out, disk.marks)
                with _time_limit():
                    result = CliRunner().invoke(srdist, again)
                assert result.exit_code == 0, (
                    f"given again: exit code {result.exit_code}: {_last(result.output)}"
                )
                assert result.exception is None, repr(result.exception)
                part.equal(out, undisturbed)
            except AssertionError as error:
                broken.append(
                    f"{part.name}, after call {i} ({call.name}), names {names}, data {data}: {error}"
                )
    return Outcome(len(chosen), made, tuple(broken))


@contextmanager
def _time_limit() -> Iterator[None]:
    """A command that waits for ever counts as broken."""

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"did not end within {TIME_LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(TIME_LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _last(text: str) -> str:
    return " / ".join(text.strip().splitlines()[-3:])


def parts(work: Path) -> Iterator[Part]:
    """The three, on a few small images that are made in `work`."""
    shards = pack_small_set(work / "small", images=24, height=24, width=24)
    yield _saving(shards)
    yield _packing(work / "small" / "images", work)
    yield _upscaling(work)


def _saving(shards: Path) -> Part:
    own = (
        "log.wandb=disabled",
        f"data.shards={shards}",
        "data.workers=0",
        "train.threads=1",
        "train.decay_steps=6",
    )
    every = (
        "train.checkpoint_every=2",
        "train.validate_every=2",
        "train.global_batch=4",
        "log.sample_images=1",
    )
    settings = [f"--set={value}" for value in (*THIN, *BRIEF, *own, *every)]

    def train(steps: int) -> tuple[str, ...]:
        config = str(ROOT / "configs/demo_x2.yaml")
        return (
            str(steps),
            "train",
            "--config",
            config,
            "--run",
            "OUT",
            *settings,
            "--set",
            f"train.steps={steps}",
        )

    def look(out: Path, marks: list[str]) -> None:
        from srdist.runs import checkpoint

        found = checkpoint.newest(out / "checkpoints")
        step = found[1].trainer["state"]["step"] if found else 0
        assert step >= int(marks[-1] if marks else 0), (
            f"a run of {marks[-1]} steps ended well, {step} are there"
        )

    def equal(out: Path, undisturbed: Path) -> None:
        for name in ("last.safetensors", "best.safetensors"):
            assert (out / name).read_bytes() == (undisturbed / name).read_bytes(), name
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        steps = [row["step"] for row in rows if "loss" in row]
        assert steps == sorted(set(steps)), f"steps in metrics.jsonl: {steps}"

    return Part("save", (train(2), train(4), train(6)), lambda _: None, look, equal)


def _packing(images: Path, work: Path) -> Part:
    recipe = work / "recipe.yaml"
    recipe.write_text("name: small\nsplit: hash\nshard_samples: 6\n")
    pack = ("pack", str(recipe), "--images", str(images), "--out", "OUT")

    def look(out: Path, marks: list[str]) -> None:
        done = CliRunner().invoke(srdist, ["shards", "verify", str(out)])
        assert done.exit_code in (0, 1, 2), f"verify: {done.exit_code}"
        assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
        if marks:
            assert done.exit_code == 0, f"packed, but {_last(done.output)}"

    def equal(out: Path, undisturbed: Path) -> None:
        _same(_content(out), _content(undisturbed))

    return Part("pack", (("packed", *pack),), lambda _: None, look, equal)


def _upscaling(work: Path) -> Part:
    source = work / "lr"
    draw = np.random.default_rng(0)
    for i in range(5):
        path = source / ("a" if i % 2 else "") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(path)

    def look(out: Path, marks: list[str]) -> None:
        images = {path.relative_to(out): path for path in out.rglob("*.png") if ".srdist" not in path.parts}
        for name, path in images.items():
            with Image.open(path) as image:
                image.load()
            assert image.size == (10, 12), name
        if marks:
            assert len(images) == 5, f"done, but {len(images)} of 5 images are there"

    def equal(out: Path, undisturbed: Path) -> None:
        _same(_pictures(out), _pictures(undisturbed))

    return Part("upscale", (("done", "upscale", str(source), "OUT"),), lambda _: None, look, equal)


def _same(found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    differing = [name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)]
    told = [
        f"{name}: {len(found[name])} bytes" if name in found else f"{name}: missing" for name in differing
    ]
    assert not told, f"given again: {', '.join(told)}"


def _pictures(folder: Path) -> dict[str, bytes]:
    return {
        name: data
        for name, data in _content(folder).items()
        if name.endswith(".png") and not name.startswith(".srdist")
    }


def _content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@click.command()
@click.option("--quick", is_flag=True, help="Forty cuts a part, drawn by a fixed seed, instead of all.")
@click.option("--part", "only", type=click.Choice(["save", "pack", "upscale"]), help="One of the parts.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the counts there as well.")
def main(quick: bool, only: str | None, json_file: Path | None) -> None:
    """Cut the power in the middle of a save, a pack and a directory job."""
    if shutil.which("strace") is None:
        raise click.ClickException("strace is not installed")
    outcomes: dict[str, Outcome] = {}
    with working_folder() as folder:
        for part in parts(folder):
            if only in (None, part.name):
                outcomes[part.name] = outcome = check(part, folder / part.name, cuts=40 if quick else None)
                click.echo(
                    f"{part.name}: power cut after {outcome.cuts} calls, {outcome.states} states, {len(outcome.broken)} broken"
                )
                for line in outcome.broken[:10]:
                    click.echo(f"  {line}")
    if json_file:
        counts = {
            name: {"cuts": o.cuts, "states": o.states, "broken": len(o.broken)}
            for name, o in outcomes.items()
        }
        json_file.write_text(json.dumps({"machine": machine(), "parts": counts}, indent=1) + "\n")
    sys.exit(1 if any(outcome.broken for outcome in outcomes.values()) else 0)


if __name__ == "__main__":
    main()
