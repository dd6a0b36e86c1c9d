"""The speed part of `python -m benchmarks.upscale`: srdist, its floors and plain loops, in turns."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.lowres import halves, network
from srdist.images.photo import Photo, decode_photo, encode_photo
from srdist.machine.cores import usable_cores
from srdist.networks.network import Network
from srdist.networks.precision import Precision, name_of, number_type
from srdist.networks.tilednetwork import TiledNetwork
from srdist.upscaling.job import Job, Output
from srdist.upscaling.pipeline import CPU_LANES
from srdist.upscaling.tree import upscale_tree

Contestant = Callable[[Path, Path, torch.device], float | None]
"""Makes a folder of images from another on a device; what it can tell of its network: the share of the time that it was at work."""


def speed(folder: Path, images: Path | None, quick: bool, device: torch.device) -> dict[str, Any]:
    """Images a second of each contestant, in rounds."""
    rounds, per_round = (2, 20) if quick else (10, 50)
    photos = halves(images, rounds * per_round)
    contestants: dict[str, Contestant] = {
        OURS: functools.partial(whole_path, precision="auto"),
        IN_FP32: functools.partial(whole_path, precision="fp32"),
        "floor: network alone, auto": functools.partial(network_alone, precision="auto"),
        "floor: network alone, fp32": functools.partial(network_alone, precision="fp32"),
        "floor: codecs alone": codecs_alone,
        **PLAIN_LOOPS,
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in contestants}
    busy: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        processes = {
            name: stack.enter_context(own_process(contestant, device))
            for name, contestant in contestants.items()
        }
        for number in range(-1, rounds):
            source = folder / f"in{number}"
            source.mkdir()
            for i, photo in enumerate(
                photos[max(number, 0) * per_round :][: per_round if number >= 0 else 2]
            ):
                Image.fromarray(photo).save(source / f"{i:03d}.png")
            for name, process in processes.items():
                process.send((source, folder / f"out{number}-{hashlib.md5(name.encode()).hexdigest()[:6]}"))
                taken, taken_cpu, share = process.recv()
                if number >= 0:
                    seconds[name].append(taken)
                    cpu_seconds[name].append(taken_cpu)
                    if share is not None:
                        busy.setdefault(name, []).append(share)
    rows = table(photos, seconds, cpu_seconds, per_round=per_round)
    for name, shares in busy.items():
        rows[name]["network_busy"] = statistics.median(shares)
        print(
            f"{name}: its network was at work {statistics.median(shares):.0%} of the time, "
            f"{min(shares):.0%} to {max(shares):.0%}"
        )
    numbers = name_of(number_type("auto", network(), device=device))
    plain = min(rows[name]["srdist_is_times"] for name in PLAIN_LOOPS)
    for what, ratio, goal in (
        (f"{OURS} ({numbers}) over fp32", rows[IN_FP32]["srdist_is_times"], 1.8),
        (f"{OURS} ({numbers}) over the faster plain loop", plain, 3.5),
    ):
        print(f"{what}: {ratio:.2f}x; goal {goal}x: {'reached' if ratio >= goal else 'missed'}")
    return rows | {"auto_computes_in": numbers}


def table(
    photos: list[np.ndarray],
    seconds: dict[str, list[float]],
    cpu_seconds: dict[str, list[float]],
    *,
    per_round: int,
) -> dict[str, Any]:
    """One row a contestant, printed, by its seconds in each round."""
    ours, ours_cpu = seconds[OURS], cpu_seconds[OURS]
    pixels = statistics.mean(p.shape[0] * p.shape[1] for p in photos)
    rows = {}
    print(
        f"\n{len(photos)} images of {photos[0].shape[1]}x{photos[0].shape[0]}, SRCNN 128-64-3, x2, to PNG; median of {len(ours)} rounds"
    )
    print(
        f"{'':28}{'images/s':>10}{'input MP/s':>12}{'srdist is':>11}{'in rounds':>16}{'CPU ms/image':>14}{'by CPU':>9}"
    )
    for name, times in seconds.items():
        rate = per_round / statistics.median(times)
        ratios = [t / o for t, o in zip(times, ours, strict=True)]
        ratio = statistics.median(ratios)
        cpu_ms = statistics.median(cpu_seconds[name]) / per_round * 1e3
        cpu_ratio = statistics.median(t / o for t, o in zip(cpu_seconds[name], ours_cpu, strict=True))
        rows[name] = {
            "images_per_s": rate,
            "megapixels_per_s": rate * pixels / 1e6,
            "srdist_is_times": ratio,
            "srdist_is_times_in_rounds": ratios,
            "cpu_ms_per_image": cpu_ms,
            "srdist_is_times_by_cpu": cpu_ratio,
        }
        print(
            f"{name:28}{rate:10.1f}{rate * pixels / 1e6:12.3f}{ratio:10.2f}x"
            f"{min(ratios):9.2f} to{max(ratios):5.2f}{cpu_ms:13.1f}{cpu_ratio:8.2f}x"
        )
    return rows


@contextlib.contextmanager
def own_process(contestant: Contestant, device: torch.device) -> Iterator[Connection]:
    """A process that runs the contestant on each (source, destination) sent.

    It answers with seconds, CPU seconds and what the contestant returns.

    In one process they would change each other's speed: whether the C library gives the memory of a large activation
    back to the system each time hangs on what else lies in its heap, and makes a plain loop half as fast again.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(contestant, device, theirs, torch.get_num_threads()))
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join()


def _serve(contestant: Contestant, device: torch.device, connection: Connection, threads: int) -> None:
    torch.set_num_threads(threads)
    with contextlib.suppress(EOFError):
        while True:
            source, destination = connection.recv()
            if isinstance(contestant, functools.partial) and contestant.func is network_alone:
                _resident(source, device)  # before the clock starts
            began, began_cpu = time.perf_counter(), time.process_time()
            share = contestant(source, destination, device)
            connection.send((time.perf_counter() - began, time.process_time() - began_cpu, share))


class Watched(Network):
    """A network that notes when it was at work; on a GPU by the GPU's own clock."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.scale, self.halo = network.scale, network.halo
        self.sums_in_float32, self.precisions = network.sums_in_float32, network.precisions
        self.spans: list[tuple[Any, ...]] = []

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        if lr.is_cuda:
            span = tuple(torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            span[0].record()
            sr: torch.Tensor = self.network(lr)
            span[1].record()
            self.spans.append(span)
        else:
            began = time.perf_counter()
            sr = self.network(lr)
            self.spans.append((began, time.perf_counter()))
        return sr

    def identity(self) -> dict[str, Any]:
        return self.network.identity()

    def seconds(self, device: torch.device) -> float:
        if device.type == "cpu":
            return float(sum(end - begin for begin, end in self.spans))
        torch.cuda.synchronize(device)
        return float(sum(begin.elapsed_time(end) for begin, end in self.spans)) / 1e3


def whole_path(source: Path, destination: Path, device: torch.device, *, precision: Precision) -> float:
    """What the command does after its imports."""
    model = network()
    watched = Watched(model)
    began = time.perf_counter()
    job = Job.of(source, destination, output=Output(), weights_digest=model.digest())
    threads = max(2, usable_cores())
    upscale_tree(job, TiledNetwork(watched, device=device, precision=precision), threads=threads)
    lanes = min(torch.get_num_threads(), CPU_LANES) if device.type == "cpu" else 1
    return watched.seconds(device) / (time.perf_counter() - began) / lanes


def network_alone(source: Path, destination: Path, device: torch.device, *, precision: Precision) -> None:
    """The network in its fastest layout on tensors that lie in memory, and nothing else (decoding is not counted)."""
    del destination
    model = network().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    numbers = number_type(precision, model, device=device)
    half = numbers is not torch.float32
    with torch.inference_mode(), torch.autocast(device.type, numbers, enabled=half):
        for lr in _resident(source, device):
            model(lr)
    if device.type == "cuda":
        torch.cuda.synchronize(device)


_TENSORS: dict[Path, list[torch.Tensor]] = {}


def _resident(source: Path, device: torch.device) -> list[torch.Tensor]:
    """Batches, of one image on a CPU and of 64 on a GPU."""
    if source not in _TENSORS:
        _TENSORS.clear()
        images = [
            torch.from_numpy(decode_photo(path.read_bytes()).pixels).permute(2, 0, 1)[None].float().div_(255)
            for path in sorted(source.iterdir())
        ]
        size = 1 if device.type == "cpu" else 64
        _TENSORS[source] = [torch.cat(images[i : i + size]).to(device) for i in range(0, len(images), size)]
    return _TENSORS[source]


def codecs_alone(source: Path, destination: Path, device: torch.device) -> None:
    """Decode the inputs, encode and write outputs of their doubled size, in as many threads as srdist has."""
    del device
    destination.mkdir()

    def one(path: Path) -> None:
        pixels = decode_photo(path.read_bytes()).pixels
        data, _ = encode_photo(Photo(pixels.repeat(2, 0).repeat(2, 1)), suffix=".png", quality=95)
        (destination / path.name).write_bytes(data)

    with ThreadPoolExecutor(2 * usable_cores()) as pool:
        list(pool.map(one, sorted(source.iterdir())))


def seed_loop(source: Path, destination: Path, device: torch.device) -> None:
    """The seed's demo for each image: Pillow in, plain NCHW tensors, Pillow out with its defaults."""
    destination.mkdir()
    model = network().to(device)
    for path in sorted(source.iterdir()):
        image = np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 255
        with torch.no_grad():
            sr = model(torch.from_numpy(image.transpose(2, 0, 1).copy())[None].to(device))[0].cpu()
        pixels = (sr.clamp(0, 1).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(destination / path.name)


def plain_loop(source: Path, destination: Path, device: torch.device) -> None:
    """One image after the other, padded by 10 pixels before the network and cropped after, as Real-ESRGAN's script does."""
    destination.mkdir()
    model = network().to(device)
    for path in sorted(source.iterdir()):
        image = np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 255
        lr = torch.from_numpy(image.transpose(2, 0, 1).copy())[None].to(device)
        with torch.no_grad():
            sr = model(torch.nn.functional.pad(lr, (0, 10, 0, 10), "reflect"))
        sr = sr[0, :, : lr.shape[2] * 2, : lr.shape[3] * 2].clamp(0, 1).cpu()
        pixels = (sr.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(destination / path.name)


OURS, IN_FP32 = "srdist upscale", "srdist upscale, fp32"
PLAIN_LOOPS: dict[str, Contestant] = {
    "the seed's way, a loop": seed_loop,
    "Real-ESRGAN's way, a loop": plain_loop,
}
