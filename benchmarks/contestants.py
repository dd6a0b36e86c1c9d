"""Ways to feed small JPEGs to a training process, each as an iterator of uint8 (lr, hr) batches.

One contract: whole frames, decoded and reduced by 2 with a bicubic, `BATCH` at a time, in the training process
(the seed's own way makes float tensors of bilinear LR instead: that is what it did). `prepare_*` writes what a
library needs once; `NAME(work, workers)` iterates for ever. Run as a program it measures one contestant and prints
one line of JSON, so that each runs in an environment of its own and in a fresh process.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import psutil
import simplejpeg
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

BATCH = 64
SCALE = 2
Batch = tuple[Tensor, Tensor]


def decode_and_reduce(images: list[bytes]) -> Batch:
    """The best known way to make one batch: simplejpeg, then the whole-batch uint8 bicubic."""
    height, width = (int(side) for side in simplejpeg.decode_jpeg_header(images[0])[:2])
    hr = np.empty((len(images), height, width, 3), np.uint8)
    for place, data in enumerate(images):
        simplejpeg.decode_jpeg(data, "RGB", buffer=hr[place])
    hr_batch = torch.from_numpy(hr).permute(0, 3, 1, 2)
    size = (height // SCALE, width // SCALE)
    return F.interpolate(hr_batch, size=size, mode="bicubic", antialias=True), hr_batch


def pillow_pair(image: Image.Image) -> Batch:
    """One image with Pillow: its bicubic reduction and itself, uint8."""
    image = image.convert("RGB")
    small = image.resize((image.width // SCALE, image.height // SCALE), Image.Resampling.BICUBIC)
    return _chw(small), _chw(image)


def _chw(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _for_ever(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def _worker_settings(workers: int) -> dict[str, Any]:
    return {"num_workers": workers, "persistent_workers": workers > 0}


# srdist


def srdist(work: Path, workers: int) -> Iterator[Batch]:
    """This project's stream."""
    from srdist.shards.reader import ShardIndex
    from srdist.stream.config import DataConfig
    from srdist.stream.pairs import TrainStream
    from srdist.stream.share import Share

    stream = TrainStream(
        ShardIndex.open(str(work / "shards"), "train"),
        DataConfig(hr_patch=None, flips=False, workers=workers),
        Share(),
        scale=SCALE,
        seed=0,
        global_batch=BATCH,
        rank_batch=BATCH,
    )
    return ((pair.lr, pair.hr) for pair in stream)


# the seed's way


class SeedDataset(Dataset[Batch]):
    """A file an image; Pillow's bilinear down and up; float tensors, as torchvision's ToTensor made them."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.iterdir())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Batch:
        image = Image.open(self.paths[number]).convert("RGB")
        small = image.resize((image.width // SCALE, image.height // SCALE), Image.Resampling.BILINEAR)
        lr = small.resize(image.size, Image.Resampling.BILINEAR)
        return _chw(lr).contiguous().float().div(255), _chw(image).contiguous().float().div(255)


def seed(work: Path, workers: int) -> Iterator[Batch]:
    """The seed's dataset in a default DataLoader."""
    loader = DataLoader(
        SeedDataset(work / "images"),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        **_worker_settings(workers),
    )
    return _for_ever(loader)


# webdataset


def _tars(work: Path) -> list[str]:
    return sorted(str(path) for path in (work / "shards").glob("*.tar"))


def webdataset(work: Path, workers: int) -> Iterator[Batch]:
    """webdataset as its README does it: shuffle, decode with Pillow, map, and a DataLoader that makes the batches."""
    from webdataset.compat import WebDataset

    dataset: Any = (
        WebDataset(_tars(work), shardshuffle=100)
        .shuffle(1000)
        .decode("pil")
        .to_tuple("jpg")
        .map_tuple(pillow_pair)
        .map(_first)
    )
    return _for_ever(DataLoader(dataset, batch_size=BATCH, drop_last=True, **_worker_settings(workers)))


def _first(sample: tuple[Batch]) -> Batch:
    return sample[0]


def webdataset_tuned(work: Path, workers: int) -> Iterator[Batch]:
    """webdataset with simplejpeg and the reduction of whole batches, in the workers."""
    from webdataset.compat import WebDataset

    dataset: Any = (
        WebDataset(_tars(work), shardshuffle=100)
        .shuffle(1000)
        .to_tuple("jpg")
        .map(_first_bytes)
        .batched(BATCH, collation_fn=decode_and_reduce, partial=False)
    )
    return _for_ever(DataLoader(dataset, batch_size=None, **_worker_settings(workers)))


def _first_bytes(sample: tuple[bytes]) -> bytes:
    return sample[0]


# Hugging Face datasets


def prepare_datasets(work: Path) -> None:
    """An arrow table of the files' bytes."""
    import datasets as hf

    images = [{"bytes": path.read_bytes(), "path": None} for path in sorted((work / "images").iterdir())]
    features = hf.Features({"image": hf.Image()})
    hf.Dataset.from_dict({"image": images}, features=features).save_to_disk(str(work / "datasets"))


def datasets(work: Path, workers: int) -> Iterator[Batch]:
    """datasets as its documentation does it: the Image feature (Pillow), a transform, and a DataLoader."""
    import datasets as hf

    table = hf.load_from_disk(str(work / "datasets")).with_transform(_hf_pairs)
    loader = DataLoader(
        table,
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        collate_fn=_hf_collate,
        **_worker_settings(workers),
    )
    return _for_ever(loader)


def _hf_pairs(rows: dict[str, list[Image.Image]]) -> dict[str, list[Batch]]:
    return {"pair": [pillow_pair(image) for image in rows["image"]]}


def _hf_collate(rows: list[dict[str, Batch]]) -> Batch:
    return torch.stack([row["pair"][0] for row in rows]), torch.stack([row["pair"][1] for row in rows])


def datasets_tuned(work: Path, workers: int) -> Iterator[Batch]:
    """datasets' arrow table for the bytes alone; simplejpeg and the reduction of whole batches in the workers."""
    import datasets as hf

    table = hf.load_from_disk(str(work / "datasets")).cast_column("image", hf.Image(decode=False))
    loader = DataLoader(
        table,
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        collate_fn=_hf_bytes,
        **_worker_settings(workers),
    )
    return _for_ever(loader)


def _hf_bytes(rows: list[dict[str, dict[str, bytes]]]) -> Batch:
    return decode_and_reduce([row["image"]["bytes"] for row in rows])


# litdata


def prepare_litdata(work: Path) -> None:
    """litdata's chunks of the files' bytes."""
    import litdata

    paths = [str(path) for path in sorted((work / "images").iterdir())]
    litdata.optimize(
        fn=_read_file, inputs=paths, output_dir=str(work / "litdata"), chunk_bytes="40MB", num_workers=1
    )


def _read_file(path: str) -> bytes:
    return Path(path).read_bytes()


def litdata_tuned(work: Path, workers: int) -> Iterator[Batch]:
    """litdata's streaming of the bytes, shuffled; simplejpeg and the reduction of whole batches in the workers."""
    import litdata

    dataset = litdata.StreamingDataset(str(work / "litdata"), shuffle=True, drop_last=True)
    loader = litdata.StreamingDataLoader(
        dataset, batch_size=BATCH, collate_fn=decode_and_reduce, **_worker_settings(workers)
    )
    return _for_ever(loader)


# MosaicML streaming


def prepare_mosaic(work: Path) -> None:
    """MDS shards of the files' bytes."""
    from streaming import MDSWriter

    with MDSWriter(out=str(work / "mosaic"), columns={"image": "bytes"}, size_limit=40_000_000) as writer:
        for path in sorted((work / "images").iterdir()):
            writer.write({"image": path.read_bytes()})


def mosaic_tuned(work: Path, workers: int) -> Iterator[Batch]:
    """MosaicML streaming of the bytes, shuffled; simplejpeg and the reduction of whole batches in the workers."""
    from streaming import StreamingDataset

    dataset = StreamingDataset(local=str(work / "mosaic"), shuffle=True, batch_size=BATCH)
    loader = DataLoader(
        dataset, batch_size=BATCH, drop_last=True, collate_fn=_mosaic_bytes, **_worker_settings(workers)
    )
    return _for_ever(loader)


def _mosaic_bytes(rows: list[dict[str, bytes]]) -> Batch:
    return decode_and_reduce([row["image"] for row in rows])


def name_torchvision() -> None:
    """Stand in for torchvision where its operators do not load with this torch: streaming imports it, and uses
    two names of it in classes that are not used here."""
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        for name in (
            "torchvision",
            "torchvision.datasets",
            "torchvision.transforms",
            "torchvision.transforms.functional",
        ):
            sys.modules[name] = module = ModuleType(name)
            module.__spec__ = ModuleSpec(name, None)
            vars(module).update(VisionDataset=object, to_tensor=None)


# megatron-energon


def prepare_energon(work: Path) -> None:
    """Tars of the files' bytes, and energon's own index beside them."""
    folder, images = work / "energon", sorted((work / "images").iterdir())
    folder.mkdir()
    for number in range(0, len(images), 4000):
        with tarfile.open(folder / f"train-{number // 4000:05d}.tar", "w") as tar:
            for path in images[number : number + 4000]:
                tar.add(path.resolve(), arcname=path.name)
    command = [str(Path(sys.executable).parent / "energon"), "prepare", str(folder), "--non-interactive"]
    command += ["--split-ratio", "1,0,0", "--sample-type", "CrudeWebdataset", "--num-workers", "1"]
    subprocess.run(command, check=True, capture_output=True)


def energon_tuned(work: Path, workers: int) -> Iterator[Batch]:
    """megatron-energon over tars, shuffled; simplejpeg and the reduction of whole batches in the workers."""
    from megatron import energon

    @energon.stateless  # type: ignore[untyped-decorator]
    def cook(sample: dict[str, Any]) -> dict[str, Any]:
        return {**energon.basic_sample_keys(sample), "jpg": sample["jpg"]}

    class Encoder(energon.DefaultTaskEncoder):  # type: ignore[misc]
        decoder = None
        cookers = (energon.Cooker(cook),)

        @energon.stateless  # type: ignore[untyped-decorator]
        def batch(self, samples: list[dict[str, Any]]) -> Batch:
            return decode_and_reduce([sample["jpg"] for sample in samples])

    dataset = energon.get_train_dataset(
        str(work / "energon"),
        worker_config=energon.WorkerConfig(rank=0, world_size=1, num_workers=workers),
        batch_size=BATCH,
        shuffle_buffer_size=1000,
        max_samples_per_sequence=100,
        task_encoder=Encoder(),
    )
    return _for_ever(energon.get_loader(dataset))


# SPDL


def spdl_tuned(work: Path, workers: int) -> Iterator[Batch]:
    """SPDL's pipeline of threads in the training process over the files: `workers` threads decode and reduce."""
    from spdl.pipeline import PipelineBuilder

    paths = sorted((work / "images").iterdir())

    def shuffled() -> Iterator[Path]:
        generator = np.random.default_rng(0)
        while True:
            for number in generator.permutation(len(paths)):
                yield paths[number]

    torch.set_num_threads(1)
    builder = (
        PipelineBuilder()
        .add_source(shuffled())
        .aggregate(BATCH, drop_last=True)
        .pipe(_read_and_decode, concurrency=workers)
        .add_sink(4)
    )
    pipeline = builder.build(num_threads=workers)
    pipeline.start()
    return iter(pipeline.get_iterator())


def _read_and_decode(paths: list[Path]) -> Batch:
    return decode_and_reduce([path.read_bytes() for path in paths])


CONTESTANTS: dict[str, tuple[str, str]] = {
    "srdist": ("srdist", "this project"),
    "seed": ("torch", "a file an image, Pillow bilinear down and up, float tensors, default DataLoader"),
    "webdataset": ("webdataset", "as its README does it, Pillow"),
    "webdataset_tuned": ("webdataset", "with simplejpeg and the batched reduction"),
    "datasets": ("datasets", "arrow, as its documentation does it, Pillow"),
    "datasets_tuned": ("datasets", "arrow bytes, with simplejpeg and the batched reduction"),
    "litdata_tuned": ("litdata", "with simplejpeg and the batched reduction"),
    "mosaic_tuned": ("streaming", "MosaicML streaming with simplejpeg and the batched reduction"),
    "energon_tuned": (
        "megatron.energon",
        "megatron-energon with simplejpeg and the batched reduction",
    ),
    "spdl_tuned": ("spdl.pipeline", "threads over files, with simplejpeg and the batched reduction"),
}
"""Name: (module it needs, what it is)."""


def measure(batches: Callable[[], Iterator[Batch]], *, seconds: float, warm_up: int) -> dict[str, float]:
    """images/s, main-process and all processes' CPU microseconds an image, first-batch latency and memory of one contestant."""
    start = time.perf_counter()
    iterator = batches()
    lr, hr = next(iterator)
    first = time.perf_counter() - start
    assert len(lr) == len(hr) == BATCH
    assert hr.shape[1:] == (3, 218, 178)
    for _ in range(warm_up):
        next(iterator)
    count, cpu, everyone, start = 0, time.process_time(), _cpu_s(), time.perf_counter()
    while time.perf_counter() - start < seconds:
        next(iterator)
        count += BATCH
    wall, cpu, everyone = time.perf_counter() - start, time.process_time() - cpu, _cpu_s() - everyone
    return {
        "images_per_s": count / wall,
        "main_us_per_image": cpu / count * 1e6,
        "cpu_us_per_image": everyone / count * 1e6,
        "first_batch_s": first,
        "memory_mb": _memory_mb(),
    }


def _cpu_s() -> float:
    """CPU seconds of this process and its children: what a busy machine distorts least."""
    me = psutil.Process()
    total = 0.0
    for process in [me, *me.children(recursive=True)]:
        with suppress(psutil.Error):  # it has ended since it was listed
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _memory_mb() -> float:
    """Memory of this process and its children, pages that they share counted once (PSS)."""
    me = psutil.Process()
    total = 0
    for process in [me, *me.children(recursive=True)]:
        with suppress(psutil.Error):  # it has ended since it was listed
            total += process.memory_full_info().pss
    return total / 1e6


def memory_by_epoch(work: Path, workers: int, epochs: int) -> list[float]:
    """MB of srdist's stream, its workers included, at the end of each epoch."""
    batches = srdist(work, workers)
    count = len(list((work / "images").iterdir()))
    memory = []
    for _ in range(epochs):
        for _ in range(count // BATCH):
            next(batches)
        memory.append(_memory_mb())
    return memory


def measure_floor(work: Path, *, reduce: bool, core: int, seconds: float) -> dict[str, float]:
    """A bare loop over images in memory, pinned to one core: decode alone, or decode and reduce."""
    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    images = [path.read_bytes() for path in sorted((work / "images").iterdir())[: 16 * BATCH]]
    hr = np.empty((BATCH, 218, 178, 3), np.uint8)
    count, cpu, start = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - start < seconds:
        first = count % len(images)
        if reduce:
            decode_and_reduce(images[first : first + BATCH])
        else:
            for place, data in enumerate(images[first : first + BATCH]):
                simplejpeg.decode_jpeg(data, "RGB", buffer=hr[place])
        count += BATCH
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"images_per_s": count / wall, "cpu_us_per_image": cpu / count * 1e6}


def main() -> None:
    """Prepare or measure one contestant, or one floor, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("what", choices=["prepare", "measure", "floor", "memory"])
    parser.add_argument("name")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--core", type=int, default=0)
    options = parser.parse_args()
    result: dict[str, Any] = {}
    if options.what == "floor":
        result = measure_floor(
            options.work,
            reduce=options.name == "decode_downscale",
            core=options.core,
            seconds=options.seconds,
        )
    elif options.what == "memory":
        result["memory_mb"] = memory_by_epoch(options.work, options.workers, epochs=10)
    else:
        if options.name.startswith("mosaic"):
            name_torchvision()
        try:
            module = importlib.import_module(CONTESTANTS[options.name][0])
        except ImportError as error:
            print(json.dumps({"missing": str(error)}))
            return
        result["version"] = getattr(module, "__version__", "")
        prepare = globals().get(f"prepare_{options.name.removesuffix('_tuned')}")
        if options.what == "prepare" and prepare is not None:
            prepare(options.work)
        if options.what == "measure":
            result |= measure(
                lambda: globals()[options.name](options.work, options.workers),
                seconds=options.seconds,
                warm_up=10,
            )
    print(json.dumps(result), flush=True)
    sys.stdout.flush()
    os._exit(0)  # some contestants leave threads behind that would be waited for


if __name__ == "__main__":
    main()
