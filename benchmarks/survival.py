"""What `kill -9` costs a run: N kills at random moments, and the same bits at the end as if there had been none.

Usage: python -m benchmarks.survival [--quick] [--json FILE] [--kills 20] [--precision no bf16] [--seed 0]
                                      [--gan] [--set SECTION.FIELD=VALUE ...]
                                      [--config FILE --shards DIR [--steps 300]]

A run of two ranks is killed N times: one of its ranks, everything at once, a data worker, or the launcher; at a
random moment of its steps, and sometimes of its start-up; each time the same command is given again. At the end
weights, optimizer, best weights, loss trace and validation scores must equal those of a run that nobody killed.
With --gan the network learns against a small critic: two optimizers, spectral norm, R1, two steps of the critic for
each of the network. With --config a config's own network, degradation, losses and batches on a packed set take the
place of the thin ones (--set makes less of them where that takes too long).
Exit code 1 where they do not, or where a process outlives what was killed by more than a minute.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.ownfolders import working_folder
from benchmarks.processes import ROOT, children_of, command_of, kill_tree
from benchmarks.runs import CONTEST, Launch, differences, pack_small_set, processes_of, ranks_of
from srdist import __version__
from srdist.machine.cores import usable_cores
from srdist.runs import checkpoint

VICTIMS = ("rank", "all", "worker", "launcher")
STEPS = 400
RANKS = 2
PATIENCE_S = 60.0
"""How long what is left of a killed run may take to end by itself."""
PATIENCE_FOR_A_RUN_S = 3600.0
START_UPS = 5
"""One kill in so many comes before the first step."""


@dataclass(frozen=True)
class Kill:
    """One kill and what came of it."""

    victim: str
    moment: str
    """`start-up`, or the newest step in the log when it fell."""
    exit_code: int
    """Of the launcher."""
    said: str
    """The run's last line of its own, if it had time for one."""
    ended_after_s: float
    """Until no process of the run was left."""
    left_over: int
    """Processes still there after a minute."""
    goes_on_at: int
    """Step of the newest good checkpoint, from which the same command goes on; 0: there is none yet."""


def main() -> None:
    """Kill, compare, print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="four kills (each victim once), fp32")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--kills", type=int, default=20, help="kills for each precision")
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--seed", type=int, default=0, help="of the victims and moments")
    parser.add_argument("--gan", action="store_true", help="against a small critic")
    parser.add_argument("--set", nargs="+", default=[], help="settings of the runs beside their own")
    parser.add_argument("--config", type=Path, help="runs of this config instead of thin ones; with --shards")
    parser.add_argument("--shards", type=Path, help="the packed set of --config")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each run, more than 50 + kills")
    options = parser.parse_args()
    if (options.config is None) != (options.shards is None):
        parser.error("--config and --shards: expected both or neither")
    if options.steps < 51 + options.kills:
        parser.error(f"--steps: found {options.steps}, expected at least {51 + options.kills}")
    kills, precisions = (4, ["fp32"]) if options.quick else (options.kills, options.precision)
    more = (*(CONTEST if options.gan else ()), *options.set)
    results: dict[str, Any] = {
        "gan": options.gan,
        "machine": machine(),
        "ranks": RANKS,
        "steps": options.steps,
        "config": options.config and str(options.config),
        "set": options.set,
        "runs": {},
    }
    with working_folder() as work:
        shards = options.shards.resolve() if options.shards else pack_small_set(work)
        for precision in precisions:
            results["runs"][precision] = survive(
                shards,
                work,
                precision=precision,
                kills=kills,
                seed=options.seed,
                steps=options.steps,
                more=more,
                config=options.config and str(options.config.resolve()),
            )
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    sys.exit(0 if all(run["equal"] and run["left_over"] == 0 for run in results["runs"].values()) else 1)


def survive(
    shards: Path,
    work: Path,
    *,
    precision: str,
    kills: int,
    seed: int,
    steps: int = STEPS,
    more: Sequence[str] = (),
    config: str | None = None,
) -> dict[str, Any]:
    """One run killed `kills` times, compared with one that was left alone; of this config, or a thin one."""
    settings = (
        f"train.precision={precision}",
        f"train.steps={steps}",
        "train.checkpoint_every=7",
        "train.validate_every=20",
        "log.sample_images=0",
        *more,
    )
    print(f"\nprecision {precision}: {RANKS} ranks, {steps} steps, a checkpoint every 7, {kills} kills")
    whole = Launch(shards, work / f"{precision}-whole", settings, ranks=RANKS)
    if config is not None:
        whole = replace(whole, config=config, thin=())
    begin = time.perf_counter()
    whole.finish(timeout_s=PATIENCE_FOR_A_RUN_S)
    whole_s = time.perf_counter() - begin
    launch = replace(whole, run=work / f"{precision}-killed")
    done: list[Kill] = []
    print(f"{'killed':>8} {'at step':>8}  exit  gone after  goes on at  said")
    for victim, step in plan(kills, random.Random(seed), steps=steps):
        kill = kill_once(launch, victim, step, random.Random(f"{seed} {len(done)}"))
        done.append(kill)
        print(
            f"{kill.victim:>8} {kill.moment:>8} {kill.exit_code:>5} {kill.ended_after_s:>9.1f} s"
            f"  {kill.goes_on_at:>10}  {kill.said[:110]}",
            flush=True,
        )
    launch.finish(timeout_s=PATIENCE_FOR_A_RUN_S)
    different = differences(launch, whole)
    left_over = sum(kill.left_over for kill in done)
    print(
        f"{len(done)} kills: "
        + (
            "equal to the run that nobody killed, bit for bit"
            if not different
            else f"DIFFERENT in {different}"
        )
        + (f"; {left_over} processes LEFT OVER" if left_over else "; no process left over")
    )
    return {
        "equal": not different,
        "different": different,
        "left_over": left_over,
        "uninterrupted_s": round(whole_s, 1),
        "kills": [asdict(kill) for kill in done],
    }


def plan(kills: int, rng: random.Random, *, steps: int) -> list[tuple[str, int | None]]:
    """Whom to kill, and at which step; None: before the first."""
    victims = [victim for i in range(0, kills, len(VICTIMS)) for victim in rng.sample(VICTIMS, len(VICTIMS))]
    moments = sorted(rng.sample(range(1, steps - 50), kills))
    return [
        (victims[i], None if i % START_UPS == START_UPS // 2 else moment) for i, moment in enumerate(moments)
    ]


def kill_once(launch: Launch, victim: str, step: int | None, rng: random.Random) -> Kill:
    """Start the run, kill, and wait until nothing of it is left."""
    log = launch.run.parent / f"{launch.run.name}.out"
    before = _inode(launch.run)
    with log.open("w") as out:
        process = subprocess.Popen(
            launch.command(),
            cwd=ROOT,
            env=launch.environment(),
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    try:
        _await_moment(launch, process, step=step, before=before, rng=rng)
        _kill(process, victim, launch.run, rng)
        now = _newest_step(launch) if _inode(launch.run) != before else None
        begin = time.monotonic()
        while (left := processes_of(launch.run)) and time.monotonic() - begin < PATIENCE_S:
            process.poll()
            time.sleep(0.1)
        ended = time.monotonic() - begin
    finally:
        kill_tree(process)
        for one in processes_of(launch.run):
            with suppress(psutil.NoSuchProcess):
                one.kill()
    own = [line for line in log.read_text().splitlines() if line.startswith(("srdist:", "stopped"))]
    return Kill(
        victim=victim,
        moment="start-up" if now is None else str(now),
        exit_code=process.returncode,
        said=own[-1] if own else "",
        ended_after_s=round(ended, 1),
        left_over=len(left),
        goes_on_at=_newest_checkpoint(launch),
    )


def _await_moment(
    launch: Launch, process: subprocess.Popen[str], *, step: int | None, before: int, rng: random.Random
) -> None:
    """Wait for the step, or in start-up for a while of it, and then a little more: also within a save."""
    wait_s = rng.uniform(0, 15) if step is None else PATIENCE_FOR_A_RUN_S
    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        assert process.poll() is None, f"ended early: see {launch.run}.out"
        # A resumption writes the log anew: rows of the life before do not count.
        if _inode(launch.run) != before and _newest_step(launch) >= (step or 1):
            break
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.1))


def _kill(process: subprocess.Popen[str], victim: str, run: Path, rng: random.Random) -> None:
    match victim:
        case "all":
            kill_tree(process)
        case "launcher":
            process.kill()
        case _:
            with suppress(
                psutil.NoSuchProcess
            ):  # it has just ended by itself: the run is looked at all the same
                rng.choice(_await_victims(process.pid, victim, run)).kill()


def _await_victims(launcher: int, victim: str, run: Path) -> list[psutil.Process]:
    """The ranks or the data workers; in an early moment of the start-up, as soon as there are any."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        found = ranks_of(launcher)
        if victim == "worker":
            # A rank that starts asks other programs of the machine: their end is nobody's loss.
            children = [child for rank in found for child in children_of(rank.pid)]
            found = [child for child in children if str(run) in command_of(child)]
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"no {victim} to kill within two minutes")


def _newest_step(launch: Launch) -> int:
    rows = launch.rows_so_far() if (launch.run / "metrics.jsonl").is_file() else []
    return max((row["step"] for row in rows), default=0)


def _newest_checkpoint(launch: Launch) -> int:
    found = checkpoint.newest(launch.run / "checkpoints")
    return int(found[1].trainer["state"]["step"]) if found else 0


def _inode(run: Path) -> int:
    path = run / "metrics.jsonl"
    return path.stat().st_ino if path.is_file() else 0


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "srdist": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": usable_cores(),
    }


if __name__ == "__main__":
    main()
