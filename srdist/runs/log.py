"""What a run tells: a line on the console, a row in metrics.jsonl, a picture in samples/, and the same in W&B.

metrics.jsonl holds one JSON object a line, each with `step` (optimizer steps done) and `kind`:
- start, resume: world, batch, device, versions, what changed in the config;
- train: loss (mean over the steps since the last such row), loss_last, learning_rate, grad_norm, images_per_s,
  data_wait_share, memory_mb, refused_steps and bad_samples so far; of several losses loss_NAME, each for itself,
  and of a critic grad_norm_critic, loss_critic, critic_right_hr and critic_right_sr (shares of the places of HR and SR
  that it judges rightly), critic_r1, and drift_red, drift_green, drift_blue (SR brighter than HR, in levels of 255);
- refused: a step whose loss or gradient was not finite, and the keys of its samples;
- sign: what was noticed of the balance between network and critic, name and says;
- overflow: a step of fp16 that was left out as its scaled gradients were too large, and the factor, which is halved then;
- val: psnr_y_db, ssim_y, rmse, sharpness, spectrum_db and, where a kernel alone makes LR, consistency_db of the network, the same
  of bicubic beside it as bicubic_NAME, sharpness_hr, images;
- stop, done: why, and the seconds trained.
Rows of steps that a killed run had logged after its last checkpoint are removed when it resumes there.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from PIL import Image

from srdist.machine.files import named_in_errors, whole_file, write_bytes
from srdist.machine.plainjson import parse_json
from srdist.quality.grid import save_grid
from srdist.quality.terminal import as_text
from srdist.runs.liveline import LiveLine
from srdist.runs.wandb_run import WandbRun

Value = float | int | str | bool | None | dict[str, Any] | list[Any]


class RunLog:
    """The log of one run; on ranks other than the first it does nothing.

    Args:
        run: the run folder.
        main: whether this rank writes.
        quiet: no console lines but warnings.
        show_samples: whether the console, a terminal, shows the sample grids too.
    """

    def __init__(self, run: Path, *, main: bool, quiet: bool, show_samples: bool = False) -> None:
        self.run = run
        self.main = main
        self.quiet = quiet
        self.show_samples = show_samples
        self.live = LiveLine(visible=main and not quiet)
        self.wandb: WandbRun | None = None

    def say(self, line: str) -> None:
        """Print one line on the console."""
        if self.main and not self.quiet:
            self.live.clear()
            _print(line, sys.stdout)

    def warn(self, line: str) -> None:
        """Print one line on stderr, under --quiet too."""
        if self.main:
            self.live.clear()
            _print(f"srdist: warning: {line}", sys.stderr)

    def forget_after(self, step: int) -> None:
        """Remove rows and pictures of later steps: the run goes on from `step`."""
        for name in ("metrics.jsonl", "bad_samples.jsonl"):
            path = self.run / name
            if path.is_file():
                lines = path.read_bytes().splitlines(keepends=True)
                write_bytes(path, b"".join(line for line in lines if _step_of(line) <= step))
        for picture in (self.run / "samples").glob("step-*.png"):
            number = picture.stem.removeprefix("step-")
            if number.isdecimal() and int(number) > step:
                picture.unlink()

    def missing_rows(self, step: int, *, every: int) -> int:
        """How many of the rows that a training has written by `step`, one each `every` steps, are not in metrics.jsonl.

        0 where the log says that the interval was another once: which rows there should be is not known then.
        """
        path = self.run / "metrics.jsonl"
        found: set[float] = set()
        for line in path.read_bytes().splitlines() if path.is_file() else ():
            with suppress(ValueError, TypeError, KeyError):
                row = parse_json(line)
                if "train.log_every" in row.get("changed", {}):
                    return 0
                if row["kind"] == "train":
                    found.add(row["step"])
        return sum(number not in found for number in range(every, step + 1, every))

    def row(self, kind: str, step: int, **values: Value) -> None:
        """Write one row; numbers of train and val rows go to W&B too (val's as `val/NAME`)."""
        if not self.main:
            return
        row = {"step": step, "kind": kind, **{name: _plain(value) for name, value in values.items()}}
        _append(self.run / "metrics.jsonl", [row])
        if self.wandb is not None and kind in ("train", "val"):
            prefix = "val/" if kind == "val" else ""
            self.wandb.row(step, _numbers(values, prefix))

    def bad_samples(self, step: int, samples: list[dict[str, Any]]) -> None:
        """List damaged samples, met in the batch of `step`, in bad_samples.jsonl."""
        _append(self.run / "bad_samples.jsonl", [{"step": step, **sample} for sample in samples])

    def picture(self, step: int, image: Image.Image) -> None:
        """Save one sample grid as samples/step-XXXXXXXX.png."""
        if not self.main:
            return
        path = self.run / "samples" / f"step-{step:08d}.png"
        with whole_file(path) as temporary:
            save_grid(temporary, image)
        if self.show_samples:
            self.say(as_text(image, columns=shutil.get_terminal_size().columns))
        if self.wandb is not None:
            self.wandb.picture(step, path)

    def close(self) -> None:
        """Finish the W&B run, and the line of the terminal."""
        self.live.clear()
        if self.wandb is not None:
            self.wandb.close()
            self.wandb = None


def _print(line: str, console: TextIO) -> None:
    try:
        print(line, file=console, flush=True)
    except OSError:
        # A closed ssh window, a `| head` that has gone: no reason to end a run, whose log has it all.
        os.dup2(os.open(os.devnull, os.O_WRONLY), console.fileno())


def _append(path: Path, rows: list[dict[str, Any]]) -> None:
    with named_in_errors(path), path.open("a") as file:
        file.writelines(json.dumps(row, allow_nan=False) + "\n" for row in rows)


def _numbers(values: Mapping[str, Value], prefix: str) -> dict[str, float]:
    return {prefix + name: value for name, value in values.items() if isinstance(value, (int, float))}


def _plain(value: Value) -> Value:
    """JSON has no NaN or infinity: they stand as words."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _step_of(line: bytes) -> float:
    """The step of a row; a torn last line of a killed run, and what is no row at all, is after every step."""
    try:
        return float(parse_json(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return math.inf
