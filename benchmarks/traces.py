"""What must be the same before and after a refactor: numbers to the last digit, files to the last byte.

Usage: python -m benchmarks.traces --out FILE.json [--root DIR] [--quick] [--compare OTHER.json]
                                   [--begin DIR | --resume DIR]

The traces of the checkout DIR (default: this one): the packed demo set and the order of 1,000 positions of it, the
demo config's run on 1 rank, on 2, and on 2 with a stop in the middle (each step's loss, each validation, the files
it leaves), a folder of common and odd images upscaled x2 and x3, and scores. All by the public commands and from
files whose format is fixed, so that this script does for any commit. Exit code 1 where --compare's traces differ,
or the stopped run from the other.

A run begun before a refactor and resumed after it: --begin DIR at the old commit keeps the stopped run in DIR,
--resume DIR at the new one goes on with (a copy of) it. Traces are equal on one machine only: the number of cores
and the version of torch change last digits.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import oddimages
from benchmarks.checkout import Checkout
from benchmarks.demorun import DemoRun, Trace, digest
from benchmarks.ownfolders import working_folder
from benchmarks.processes import ROOT

POSITIONS = 1000
MANY_SHARDS = "name: demo_in_many_shards\nsplit: folders\nshard_samples: 20\n"
"""A recipe by which the order in windows of 8 shards is another than the global one."""
SHOWN = 100
"""Letters of a value that a line of the comparison has room for."""
ABOUT = "about.json"
"""Beside a run that was begun: by which commit, on which machine."""
UNDISTURBED, STOPPED = "2 ranks", "2 ranks, stopped and resumed"


def main() -> None:
    """Make the traces, save them, say what differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="write the traces here")
    parser.add_argument(
        "--root", type=Path, default=ROOT, help="the checkout, with its .venv; default this one"
    )
    parser.add_argument(
        "--quick", action="store_true", help="60 steps instead of 2,000, fewer tiles upscaled"
    )
    parser.add_argument("--compare", type=Path, help="traces of another commit, made on this machine")
    stopped = parser.add_mutually_exclusive_group()
    stopped.add_argument("--begin", type=Path, help="keep the run that is stopped in the middle here")
    stopped.add_argument("--resume", type=Path, help="go on with the run that --begin kept here")
    options = parser.parse_args()
    other = json.loads(options.compare.read_text()) if options.compare else None
    if other and other["quick"] != options.quick:
        parser.error(f"{options.compare}: was made {'with' if other['quick'] else 'without'} --quick")
    if options.begin and options.begin.exists():
        parser.error(f"{options.begin}: is there already; --resume goes on with it")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    checkout = Checkout(options.root.resolve())
    result = checkout.about() | {"quick": options.quick}
    with working_folder() as work:
        begun = options.resume or options.begin or work / "begun"
        if options.resume:
            result["begun"] = json.loads((begun / ABOUT).read_text())
            if result["begun"]["quick"] != options.quick:
                parser.error(f"{begun}: was begun {'without' if options.quick else 'with'} --quick")
        else:
            begun.mkdir(parents=True)
            (begun / ABOUT).write_text(json.dumps(result, indent=1) + "\n")
        result["traces"] = make_traces(checkout, work, quick=options.quick, begun=begun.resolve())
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(1 if report(result, other) else 0)


def make_traces(checkout: Checkout, work: Path, *, quick: bool, begun: Path) -> dict[str, Trace]:
    """All traces by their names; the stopped run is begun in `begun` where there is none."""
    tiles, shards = work / "tiles", work / "shards"
    pack_demo(checkout, tiles, shards)
    found = {"packed set": tree(shards) | {"manifest_id": manifest_id(shards)}}
    (work / "recipe.yaml").write_text(MANY_SHARDS)
    checkout.run("srdist", "pack", work / "recipe.yaml", "--images", tiles, "--out", work / "many")
    for what, folder in (("one shard", shards), ("many shards", work / "many")):
        found |= {
            f"{mode} order, {what}": order(checkout, folder, mode=mode) for mode in ("global", "window")
        }
    say("packed, order read")
    found |= upscaled(checkout, work, [tiles / "test"] if quick else [tiles])
    say("upscaled")
    training = DemoRun(checkout, shards, quick)
    for name, ranks in (("1 rank", 1), (UNDISTURBED, 2)):
        found |= named(name, training.traces(work / "whole" / f"ranks{ranks}", ranks=ranks))
        say(f"trained, {name}")
    if not (begun / "ranks2").exists():
        training.begin(begun / "ranks2")
        say("trained half the way")
    # Of the same folder name as the undisturbed run, which stands in the pictures; a copy, to resume it again.
    resumed = work / "resumed" / "ranks2"
    shutil.copytree(begun / "ranks2", resumed)
    found |= named(STOPPED, training.traces(resumed, ranks=2))
    say("resumed")
    for weights in ("srcnn_x2", work / "whole" / "ranks2"):
        found[f"scores of {Path(weights).name}"] = scores(checkout, shards, weights)
    plain: dict[str, Trace] = json.loads(json.dumps(found))
    return plain


def pack_demo(checkout: Checkout, tiles: Path, shards: Path) -> None:
    """Pack the demo set into `shards`, and lay its tiles into `tiles`, a folder a split."""
    script = checkout.root / "shards/demo/cut_tiles.py"
    if script.exists():  # a commit from before recipes could cut tiles
        checkout.run("python", script, tiles)
        checkout.run("srdist", "pack", "shards/demo/recipe.yaml", "--images", tiles, "--out", shards)
        return
    photos = checkout.run("python", "-c", "import skimage; print(*skimage.__path__)").strip()
    checkout.run(
        "srdist", "pack", "shards/demo/recipe.yaml", "--images", Path(photos, "data"), "--out", shards
    )
    for tar in shards.glob("*.tar"):
        with tarfile.open(tar) as archive:
            archive.extractall(tiles / tar.name.rpartition("-")[0], filter="data")


# The traces.


def order(checkout: Checkout, shards: Path, *, mode: str) -> Trace:
    """The key at each of the first positions of the training stream."""
    asked = ("--seed", "0", "--count", str(POSITIONS), "--order", mode)
    keys = checkout.run("srdist", "shards", "order", shards, *asked).splitlines()
    return {str(position): key for position, key in enumerate(keys)}


def upscaled(checkout: Checkout, work: Path, tiles: Sequence[Path]) -> dict[str, Trace]:
    """Tiles and odd images as the bundled networks make them: x2 by one process, x3 by two ranks."""
    source = work / "images"
    oddimages.make(source)
    for folder in tiles:
        shutil.copytree(folder, source / folder.name)
    small, large = work / "x2", work / "x3"
    # Older versions have nothing but float32.
    has_precision = "--precision" in checkout.run("srdist", "upscale", "--help")
    exact = ("--precision", "fp32") if has_precision else ()
    checkout.run("srdist", "upscale", source, small, "--weights", "srcnn_x2", *exact)
    checkout.launch(2, "-m", "srdist", "upscale", source, large, "--weights", "srcnn_x3", *exact)
    return {"images to upscale": tree(source), "upscaled x2": tree(small), "upscaled x3": tree(large)}


def scores(checkout: Checkout, shards: Path, weights: str | Path) -> Trace:
    """What `srdist evaluate` finds on the test tiles, by method and score."""
    answer = json.loads(checkout.run("srdist", "evaluate", "--weights", weights, "--hr", shards, "--json"))
    methods: dict[str, dict[str, float]] = answer["methods"]
    return {f"{method} {name}": value for method, found in methods.items() for name, value in found.items()}


def tree(folder: Path) -> Trace:
    """The sha256 of each file, but for an upscaling's own state and its summary of seconds."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): digest(path.read_bytes())
        for path in paths
        if ".srdist" not in path.parts and path.name != "summary.json"
    }


def manifest_id(shards: Path) -> str:
    """The packed set's name for itself."""
    return str(json.loads((shards / "manifest.json").read_bytes())["manifest_id"])


def named(name: str, traces: dict[str, Trace]) -> dict[str, Trace]:
    """The traces of one run among those of others."""
    return {f"{what}, {name}": trace for what, trace in traces.items()}


# Their comparison.


def report(result: dict[str, Any], other: dict[str, Any] | None) -> int:
    """Print a line for each comparison; how many differ."""
    traces: dict[str, Trace] = result["traces"]
    whole = {name: trace for name, trace in traces.items() if name.endswith(f", {UNDISTURBED}")}
    print(f"the stopped and resumed run beside the undisturbed one, at {result['commit'][:10]}:")
    different = compare(whole, {name: traces[name.removesuffix(UNDISTURBED) + STOPPED] for name in whole})
    if other is not None:
        print(
            f"{other['commit'][:10]} of {other['date']} beside {result['commit'][:10]} of {result['date']}:"
        )
        if other["machine"] != result["machine"]:
            print(f"another machine, so last digits may differ: {other['machine']}, now {result['machine']}")
        different += compare(other["traces"], traces)
    return different


def compare(before: dict[str, Trace], now: dict[str, Trace]) -> int:
    """Print whether each trace is equal, and the first place where not; how many are not."""
    different = 0
    for name in before | now:
        told = difference(before.get(name, {}), now.get(name, {}))
        different += told is not None
        length = len(before.get(name, {}))
        print(
            f"  {'equal' if told is None else 'DIFFERS':8} {name} ({told or f'{length} entries'})", flush=True
        )
    return different


def difference(before: Trace, now: Trace) -> str | None:
    """How many entries differ and the first of them; None where all are the same."""
    missing = object()
    places = [place for place in before | now if before.get(place, missing) != now.get(place, missing)]
    if not places:
        return None
    first = places[0]
    sides = [json.dumps(trace[first]) if first in trace else "nothing" for trace in (before, now)]
    was, has = _where_they_part(*sides)
    return f"{len(places)} of {len(before | now)} entries, the first at {first}: {was} before, {has} now"


def _where_they_part(before: str, now: str) -> tuple[str, str]:
    """Two texts, long ones cut to where they begin to differ."""
    if max(len(before), len(now)) <= SHOWN:
        return before, now
    same = next((i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), 0)
    start = max(0, same - SHOWN // 2)
    lead = "..." if start else ""
    cut = [
        f"{lead}{text[start : start + SHOWN]}{'...' * (len(text) > start + SHOWN)}" for text in (before, now)
    ]
    return cut[0], cut[1]


def say(line: str) -> None:
    """Tell how far it is."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
