"""What each way of loading does to the samples of an epoch: run, not read in a manual.

Usage: python -m benchmarks.correctness [--quick] [--json FILE] [--only NAME ...]

381 of the demo's training tiles, a global batch of 32. Every rank is a process of its own with RANK and WORLD_SIZE in
its environment, as a launcher starts it; the library is used as its documentation says for several ranks.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.ownfolders import own_folders, working_folder

ROOT = Path(__file__).parents[1]
BATCH = 32
IMAGES = 381
"""No multiple of anything, as sets are."""
STOP = 4
"""Steps after which the resumed run goes on."""

LIBRARIES = {
    "srdist": "srdist",
    "files": "torch",
    "webdataset": "webdataset",
    "datasets": "datasets",
    "litdata": "litdata",
    "mosaic": "streaming",
}
WHAT = {
    "srdist": "this project",
    "files": "a file an image, Pillow, torch's DistributedSampler",
    "webdataset": "split_by_node, as its documentation says for several ranks, Pillow",
    "datasets": "arrow, split_dataset_by_node, Pillow",
    "litdata": "StreamingDataset and StreamingDataLoader, Pillow",
    "mosaic": "StreamingDataset (MosaicML), Pillow",
}
Ids = list[int]


def _decode(data: bytes) -> None:
    Image.open(io.BytesIO(data)).convert("RGB")


# One epoch of one rank, as lists of sample numbers, one a step.


def srdist_epoch(work: Path, rank: int, world: int, resume: Any) -> Iterator[tuple[Ids, Any]]:
    from srdist.shards.reader import ShardIndex
    from srdist.stream.config import DataConfig
    from srdist.stream.pairs import TrainStream
    from srdist.stream.share import Share

    index = ShardIndex.open(str(work / "srdist"), "train")
    start = resume or 0
    with TrainStream(
        index,
        DataConfig(hr_patch=48, workers=2),
        Share(rank, world),
        scale=2,
        seed=0,
        global_batch=BATCH,
        rank_batch=BATCH // world,
    ) as stream:
        stream.begin_at(start)
        for step, pair in enumerate(stream, 1):
            of_epoch = pair.ids[
                pair.positions < len(index)
            ].tolist()  # the last batch goes on in the next epoch
            yield [int(index.key(number)) for number in of_epoch], start + step * BATCH
            if start + step * BATCH >= len(index):
                return


def files_epoch(work: Path, rank: int, world: int, resume: Any) -> Iterator[tuple[Ids, Any]]:
    from torch.utils.data import DataLoader, DistributedSampler

    assert resume is None
    paths = sorted((work / "files").iterdir())
    sampler: Any = DistributedSampler(paths, num_replicas=world, rank=rank, seed=0)  # type: ignore[arg-type]
    loader: Any = DataLoader(_Files(paths), batch_size=BATCH // world, sampler=sampler, num_workers=2)  # type: ignore[arg-type]
    for batch in loader:
        yield batch.tolist(), None


class _Files:
    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> int:
        _decode(self.paths[number].read_bytes())
        return int(self.paths[number].stem)


def webdataset_epoch(work: Path, _rank: int, world: int, resume: Any) -> Iterator[tuple[Ids, Any]]:
    import webdataset.shardlists as splitters
    from torch.utils.data import DataLoader
    from webdataset.compat import WebDataset

    assert resume is None
    tars = sorted(str(path) for path in (work / "srdist").glob("*.tar"))
    dataset: Any = (
        WebDataset(tars, nodesplitter=splitters.split_by_node, shardshuffle=100, seed=0)
        .shuffle(100, seed=0)
        .decode("pil")
        .to_tuple("__key__", "jpg")
        .map(_wds_number)
    )
    loader: Any = DataLoader(dataset, batch_size=BATCH // world, num_workers=2)
    for batch in loader:
        yield batch.tolist(), None


def _wds_number(sample: tuple[str, Any]) -> int:
    return int(sample[0])


def datasets_epoch(work: Path, rank: int, world: int, resume: Any) -> Iterator[tuple[Ids, Any]]:
    import datasets as hf
    from datasets.distributed import split_dataset_by_node
    from torch.utils.data import DataLoader

    assert resume is None
    table = hf.load_from_disk(str(work / "datasets")).shuffle(seed=0)
    table = split_dataset_by_node(table, rank=rank, world_size=world)
    loader: Any = DataLoader(table, batch_size=BATCH // world, num_workers=2, collate_fn=_hf_numbers)
    for batch in loader:
        yield batch, None


def _hf_numbers(rows: list[dict[str, Any]]) -> Ids:
    return [row["number"] for row in rows]


def litdata_epoch(work: Path, _rank: int, world: int, resume: Any) -> Iterator[tuple[Ids, Any]]:
    import litdata

    _join(world)
    dataset = litdata.StreamingDataset(str(work / "litdata"), shuffle=True, seed=0)
    loader = litdata.StreamingDataLoader(
        dataset, batch_size=BATCH // world, num_workers=2, collate_fn=_decoded_numbers
    )
    if resume is not None:
        loader.load_state_dict(resume)
    for batch in loader:
        yield batch, loader.state_dict()


def mosaic_epoch(work: Path, _rank: int, world: int, resume: Any) -> Iterator[tuple[Ids, Any]]:
    from streaming import StreamingDataLoader, StreamingDataset

    _join(world)
    dataset = StreamingDataset(
        local=str(work / "mosaic"), shuffle=True, shuffle_seed=0, batch_size=BATCH // world
    )
    loader = StreamingDataLoader(
        dataset, batch_size=BATCH // world, num_workers=2, collate_fn=_decoded_numbers
    )
    if resume is not None:
        loader.load_state_dict(resume)
    for batch in loader:
        yield batch, loader.state_dict()


def _join(world: int) -> None:
    """These two ask torch.distributed which rank they are."""
    if world > 1:
        import torch.distributed

        torch.distributed.init_process_group("gloo")


def _decoded_numbers(rows: list[dict[str, Any]]) -> Ids:
    for row in rows:
        _decode(row["image"])
    return [int(row["number"]) for row in rows]


# What each library writes, from files/000123.jpg


def prepare(name: str, work: Path) -> None:
    """Write the set in the library's own form."""
    paths = sorted((work / "files").iterdir())
    match name:
        case "srdist" | "webdataset":
            (work / "recipe.yaml").write_text("name: bench\nfractions: {train: 1.0}\nshard_samples: 30\n")
            from srdist.shards.pack import pack
            from srdist.shards.recipe import read_recipe

            pack(read_recipe(work / "recipe.yaml"), work / "files", out=work / "srdist")
        case "datasets":
            import datasets as hf

            columns = {
                "number": [int(path.stem) for path in paths],
                "image": [{"bytes": path.read_bytes(), "path": None} for path in paths],
            }
            features = hf.Features({"number": hf.Value("int64"), "image": hf.Image()})
            hf.Dataset.from_dict(columns, features=features).save_to_disk(str(work / "datasets"))
        case "litdata":
            import litdata

            litdata.optimize(
                fn=_row,
                inputs=[str(path) for path in paths],
                output_dir=str(work / "litdata"),
                chunk_size=30,
                num_workers=1,
            )
        case "mosaic":
            from streaming import MDSWriter

            with MDSWriter(
                out=str(work / "mosaic"), columns={"number": "int", "image": "bytes"}, size_limit=700_000
            ) as writer:
                for path in paths:
                    writer.write(_row(str(path)))


def _row(path: str) -> dict[str, Any]:
    return {"number": int(Path(path).stem), "image": Path(path).read_bytes()}


def _data_files(name: str, work: Path) -> list[Path]:
    folder = work / {"files": "files", "webdataset": "srdist"}.get(name, name)
    patterns = {"files": "*.jpg", "datasets": "data-*.arrow", "litdata": "*.bin", "mosaic": "*.mds"}
    return sorted(folder.glob(patterns.get(name, "*.tar")))


# The table


def judge(name: str, work: Path, *, flips: int) -> dict[str, Any]:
    """All columns for one contestant."""
    total = len(list((work / "files").iterdir()))
    if problem := _call("prepare", name, work).get("error"):
        return {"missing": problem}
    worlds = {world: _epoch(name, work, world) for world in (1, 2, 4)}
    if "error" in worlds[1]:
        return {"missing": worlds[1]["error"]}
    row: dict[str, Any] = {}
    two = [number for step in worlds[2].get("steps", []) for number in step]
    row["2 ranks"] = f"{len(set(two))} of {total} distinct, {len(two) - len(set(two))} repeated"
    row["steps of the 2 ranks"] = " and ".join(map(str, worlds[2].get("lengths", [])))
    sets = {world: [sorted(step) for step in epoch.get("steps", [])] for world, epoch in worlds.items()}
    row["same batches on 1, 2, 4 ranks"] = "yes" if sets[1] == sets[2] == sets[4] else "no"
    row["resume 2 to 4 ranks"] = _resumed(name, work, worlds[2], sets[2])
    row["truncated file noticed"] = _damaged(name, work, _truncate, 1)
    row["flipped bit noticed"] = _damaged(name, work, _flip, flips)
    return row


def _resumed(name: str, work: Path, two: dict[str, Any], steps: list[Ids]) -> str:
    if not two.get("states"):
        return "no means to"
    state = two["states"][STOP - 1]
    if state is None:
        return "no means to"
    again = _epoch(name, work, 4, resume=json.dumps(state))
    if "error" in again:
        return f"no: {again['error'][:60]}"
    went_on = [sorted(step) for step in again["steps"]]
    if went_on == steps[STOP:]:
        return "same batches"
    left = sorted(number for step in steps[STOP:] for number in step)
    return (
        "same samples, other batches"
        if sorted(number for step in went_on for number in step) == left
        else "no: other samples"
    )


def _truncate(path: Path, _turn: int) -> None:
    """Cut a file: a tar between two members (the cut that tarfile does not see), any other at two thirds."""
    size = path.stat().st_size
    if path.suffix == ".tar":
        import tarfile

        with tarfile.open(path) as archive:
            members = archive.getmembers()
            size = members[len(members) * 2 // 3].offset
    else:
        size = size * 2 // 3
    with path.open("r+b") as file:
        file.truncate(size)


def _flip(path: Path, turn: int) -> None:
    """Turn one bit somewhere in the middle of an image's entropy-coded data."""
    with path.open("r+b") as file:
        data = file.read()
        starts = [place for place in range(len(data) - 1) if data[place : place + 3] == b"\xff\xd8\xff"]
        ends = [*starts[1:], len(data)]
        number = turn * 7 % len(starts)
        place = starts[number] + (ends[number] - starts[number]) * 6 // 10
        file.seek(place)
        file.write(bytes([data[place] ^ 8]))


def _damaged(name: str, work: Path, damage: Any, turns: int) -> str:
    noticed = 0
    for turn in range(turns):
        files = _data_files(name, work)
        path = files[turn * len(files) // turns]
        kept = path.read_bytes()
        damage(path, turn)
        noticed += "error" in _epoch(name, work, 1)
        path.write_bytes(kept)
    return f"{noticed} of {turns}" if turns > 1 else ("yes" if noticed else "no")


def _epoch(name: str, work: Path, world: int, resume: str | None = None) -> dict[str, Any]:
    """One epoch on `world` ranks at once: the global batches as the steps of all ranks put together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [_start("epoch", name, work, rank, world, resume, port=port) for rank in range(world)]
    answers = [_answer(process) for process in ranks]
    if failed := next((answer for answer in answers if "error" in answer), None):
        return failed
    length = max(len(answer["steps"]) for answer in answers)
    steps = [
        [
            number
            for answer in answers
            for number in (answer["steps"][step] if step < len(answer["steps"]) else [])
        ]
        for step in range(length)
    ]
    return {
        "steps": steps,
        "lengths": [len(answer["steps"]) for answer in answers],
        "states": answers[0]["states"],
    }


def _call(what: str, name: str, work: Path) -> dict[str, Any]:
    return _answer(_start(what, name, work, 0, 1, None))


def _start(
    what: str, name: str, work: Path, rank: int, world: int, resume: str | None, *, port: int = 29613
) -> subprocess.Popen[str]:
    own = ROOT / ".venv-bench" / name / "bin" / "python"
    environment = (
        dict(os.environ)
        | own_folders(work / "contestant")
        | {
            "RANK": str(rank),
            "WORLD_SIZE": str(world),
            "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
        }
    )
    command = [
        str(own) if own.exists() else sys.executable,
        "-m",
        "benchmarks.correctness",
        "--probe",
        what,
        name,
    ]
    command += ["--work", str(work), "--rank", str(rank), "--world", str(world)]
    command += ["--resume", resume] if resume else []
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    try:
        out, err = process.communicate(timeout=180)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return {"error": "no end in 180 s"}
    lines = [line for line in out.splitlines() if line.startswith('{"')]
    if not lines:
        return {"error": (err.strip().splitlines() or ["no output"])[-1]}
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def probe(options: argparse.Namespace) -> None:
    """One rank's part, as a line of JSON: what it was given, or the error that it met."""
    what, name = options.probe
    try:
        importlib.import_module(LIBRARIES[name])
        if what == "prepare":
            prepare(name, options.work)
            answer: dict[str, Any] = {"prepared": True}
        else:
            steps, states = [], []
            resume = json.loads(options.resume) if options.resume else None
            for ids, state in globals()[f"{name}_epoch"](options.work, options.rank, options.world, resume):
                steps.append(ids)
                states.append(state if len(steps) == STOP else None)
            answer = {"steps": steps, "states": states}
    except Exception as error:  # whatever a contestant raises is its answer
        answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    print(json.dumps(answer), flush=True)
    os._exit(0)


def main() -> None:
    """Run every contestant and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="srdist and webdataset only")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--only", nargs="*", choices=list(LIBRARIES))
    parser.add_argument("--flips", type=int, default=12, help="bits turned, one at a time")
    parser.add_argument("--images", type=Path, default=ROOT / "shards" / "demo" / "tiles" / "train")
    parser.add_argument("--probe", nargs=2, help=argparse.SUPPRESS)
    for name in ("--rank", "--world"):
        parser.add_argument(name, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--resume", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        probe(options)
    names = options.only or (["srdist", "webdataset"] if options.quick else list(LIBRARIES))
    images = sorted(options.images.glob("*.jpg"))[:IMAGES]
    if not images:
        sys.exit(f"{options.images}: no .jpg in it: type `make shards` for the demo tiles")
    results = {}
    for name in names:
        with working_folder() as work:
            (work / "files").mkdir()
            for number, path in enumerate(images):
                shutil.copyfile(path, work / "files" / f"{number:06d}.jpg")
            results[name] = {"what": WHAT[name]} | judge(name, work, flips=options.flips)
    columns = list(next((row for row in results.values() if "missing" not in row), {"what": ""}))[1:]
    print("| contestant | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for name, row in results.items():
        cells = [f"not run: {row['missing']}"] if "missing" in row else [row[column] for column in columns]
        print(f"| {name}: {row['what']} | " + " | ".join(cells) + " |")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
