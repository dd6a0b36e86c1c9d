"""Directory upscaling against its floors and against plain loops: images in, tables out.

python -m benchmarks.upscale [--quick] [--json FILE] [--part speed|memory|kills|png] [--images DIR] [--device cpu|cuda]

speed   srdist's whole path (read, decode, network, encode, receipt) on many small images, beside the network alone on
        tensors in memory, the codecs alone, the seed's way as a loop, and a loop in the way of Real-ESRGAN's script
        (both with the same network, one image after the other). All in one run, in turns, so that drift hits all.
memory  peak memory of a process as one image grows, and as the number of images grows.
kills   2 of 3 processes killed at random, then a rerun: every output there, each made once after its last kill.
png     size against time of the PNG encoders and settings at hand.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from srdist.images.photo import Photo, decode_photo, encode_photo
from srdist.machine.device import pick_device
from srdist.machine.launcher import Launch
from srdist.networks.config import SRCNNConfig
from srdist.networks.network import Network
from srdist.networks.srcnn import SRCNN
from srdist.networks.tilednetwork import TiledNetwork
from srdist.networks.weightfile import WeightsInfo, save_weights
from srdist.upscaling.job import Job, Output
from srdist.upscaling.pipeline import CPU_LANES
from srdist.upscaling.tree import upscale_tree

SHARED = Path(__file__).parents[2] / "shared" / "data" / "celeba" / "img_align_celeba"
Contestant = Callable[[Path, Path, torch.device], float | None]
"""Makes a folder of images from another on a device; what it can tell of its network: the share of the time that it was at work."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Benchmarks of srdist upscale.")
    parser.add_argument("--quick", action="store_true", help="under a minute: fewer images, speed only")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--part", choices=["speed", "memory", "kills", "png", "all"], default="all")
    parser.add_argument(
        "--images", type=Path, help="a folder of photos that are halved [default: CelebA, or demo photos]"
    )
    parser.add_argument(
        "--threads", type=int, help="of torch [default: all cores]; on a busy machine 1, and compare CPU time"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], help="of speed [default: a GPU if there is one]")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU here")
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(arguments.threads or cores)
    figures: dict[str, Any] = {
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cores": cores,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "date": date.today().isoformat(),
            "load_before": os.getloadavg()[0],
        }
    }
    parts = {"memory": memory, "kills": kills, "png": png}
    every = ["speed", *parts]
    wanted = ["speed"] if arguments.quick else every if arguments.part == "all" else [arguments.part]
    for name in wanted:
        with tempfile.TemporaryDirectory() as folder:
            if name == "speed":
                device = (
                    torch.device(arguments.device) if arguments.device else pick_device(Launch.of(os.environ))
                )
                figures["machine"]["device"] = str(device)
                figures[name] = speed(Path(folder), arguments.images, arguments.quick, device)
            else:
                figures[name] = parts[name](Path(folder), arguments.images)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def halves(images: Path | None, count: int) -> list[np.ndarray]:
    """`count` photos at half their size, uint8 [h, w, 3]: 89x109 of CelebA's, or tiles of scikit-image's photos."""
    folder = images or SHARED
    if folder.is_dir():
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".png"))[-count:]
        photos = [Image.open(path).convert("RGB") for path in paths]
        return [np.asarray(p.resize((p.width // 2, p.height // 2), Image.Resampling.BICUBIC)) for p in photos]
    from skimage import data

    photo = np.concatenate([data.astronaut(), data.coffee()[:, :512]])
    place = random.Random(0)
    corners = [
        (place.randrange(photo.shape[0] - 109), place.randrange(photo.shape[1] - 89)) for _ in range(count)
    ]
    return [photo[y : y + 109, x : x + 89] for y, x in corners]


def network() -> SRCNN:
    """The default SRCNN; its weights do not change its speed."""
    return SRCNNConfig().build(seed=0).eval()


def speed(folder: Path, images: Path | None, quick: bool, device: torch.device) -> dict[str, Any]:
    """Images a second of each contestant, in rounds."""
    rounds, per_round = (2, 20) if quick else (10, 50)
    photos = halves(images, rounds * per_round)
    contestants: dict[str, Contestant] = {
        "srdist upscale": whole_path,
        "floor: network alone": network_alone,
        "floor: codecs alone": codecs_alone,
        "the seed's way, a loop": seed_loop,
        "Real-ESRGAN's way, a loop": plain_loop,
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in contestants}
    busy: list[float] = []
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
                    busy += [] if share is None else [share]
    ours, ours_cpu = seconds["srdist upscale"], cpu_seconds["srdist upscale"]
    pixels = statistics.mean(p.shape[0] * p.shape[1] for p in photos)
    rows = {}
    print(
        f"\n{len(photos)} images of {photos[0].shape[1]}x{photos[0].shape[0]}, SRCNN 128-64-3, x2, to PNG; median of {rounds} rounds"
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
    rows["srdist upscale"]["network_busy"] = statistics.median(busy)
    print(
        f"srdist's network was at work {statistics.median(busy):.0%} of the time, {min(busy):.0%} to {max(busy):.0%}"
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
            if contestant is network_alone:
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


def whole_path(source: Path, destination: Path, device: torch.device) -> float:
    """What the command does after its imports."""
    model = network()
    watched = Watched(model)
    began = time.perf_counter()
    job = Job.of(source, destination, output=Output(), weights_digest=model.digest())
    threads = max(2, len(os.sched_getaffinity(0)))
    upscale_tree(job, TiledNetwork(watched, device=device), threads=threads)
    lanes = min(torch.get_num_threads(), CPU_LANES) if device.type == "cpu" else 1
    return watched.seconds(device) / (time.perf_counter() - began) / lanes


def network_alone(source: Path, destination: Path, device: torch.device) -> None:
    """The network in its fastest layout on tensors that lie in memory, and nothing else (decoding is not counted)."""
    del destination
    model = network().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for lr in _resident(source, device):
        with torch.inference_mode():
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

    with ThreadPoolExecutor(2 * len(os.sched_getaffinity(0))) as pool:
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


def memory(folder: Path, images: Path | None) -> dict[str, Any]:
    """Peak memory of `srdist upscale` processes, with a network so small that the images are what counts."""
    del images
    config = SRCNNConfig(kernels=(3,), widths=(), upscale="after", residual=False)
    weights = folder / "tiny.safetensors"
    save_weights(weights, config.build(seed=0).state_dict(), WeightsInfo(config, "bicubic", "", 0))
    figures: dict[str, Any] = {}
    print(f"\n{'':34}{'peak RSS':>10}{'of it not backed by files':>28}")
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    for megapixels in (12, 50, 200, 450):
        side = int((megapixels * 1e6) ** 0.5)
        path = folder / "large.png"
        _write_large(path, noise, side)
        rss, private = peak_mb(path, folder / f"large{megapixels}", weights)
        figures[f"one image of {megapixels} MP"] = {"peak_rss_mb": rss, "private_mb": private}
        print(f"{f'one image of {megapixels} megapixels':34}{rss:7.0f} MB{private:25.0f} MB")
    for count in (500, 5_000, 50_000):
        source = folder / f"many{count}"
        for i in range(count):
            path = source / f"{i // 1000:03d}" / f"{i:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            data = io.BytesIO()
            Image.fromarray(noise[i % 490 : i % 490 + 16, i % 480 : i % 480 + 16]).save(data, "PNG")
            path.write_bytes(data.getvalue())
        began = time.perf_counter()
        rss, private = peak_mb(source, folder / f"out{count}", weights)
        taken = time.perf_counter() - began
        figures[f"{count} images"] = {
            "peak_rss_mb": rss,
            "private_mb": private,
            "images_per_s": count / taken,
        }
        print(f"{f'{count} images of 16x16':34}{rss:7.0f} MB{private:25.0f} MB{count / taken:10.0f} images/s")
    return figures


def _write_large(path: Path, tile: np.ndarray, side: int) -> None:
    import pyvips

    times = -(-side // tile.shape[0])
    image = pyvips.Image.new_from_array(tile).copy(interpretation="srgb")
    image.replicate(times, times).crop(0, 0, side, side).pngsave(str(path), compression=1)


def peak_mb(source: Path, destination: Path, weights: Path) -> tuple[float, float]:
    """Peak resident memory of one process, in MB, and the peak of that part which is no file's."""
    command = ["-m", "srdist", "upscale", str(source), str(destination), "--weights", str(weights)]
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    private = 0
    while True:
        found, status, usage = os.wait4(process.pid, os.WNOHANG)
        if found:
            break
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                private = max(private, int(line.split()[1]))
        time.sleep(0.05)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{source}: exit code {process.returncode}"
    return usage.ru_maxrss / 1024, private / 1024


def kills(folder: Path, images: Path | None) -> dict[str, Any]:
    """Twenty times: three processes, two killed at random moments, the last one and a rerun finish."""
    model, weights = network(), folder / "w.safetensors"
    save_weights(weights, model.state_dict(), WeightsInfo(model.config, "bicubic", "", 0))
    source = folder / "in"
    source.mkdir()
    for i, photo in enumerate(halves(images, 24)):
        Image.fromarray(photo).save(source / f"{i:03d}.png")
    whole_path(source, folder / "right", torch.device("cpu"))
    right = {path.name: path.read_bytes() for path in (folder / "right").glob("*.png")}
    chance, bad, redone = random.Random(0), [], 0
    for number in range(20):
        destination = folder / f"out{number}"
        command = [
            sys.executable,
            "-m",
            "srdist",
            "upscale",
            source,
            destination,
            "--weights",
            weights,
            "--shard",
        ]
        processes = [
            subprocess.Popen([str(part) for part in (*command, f"{i}/3")], stdout=subprocess.DEVNULL)
            for i in range(3)
        ]
        while not _made(destination):
            time.sleep(0.02)
        for process in chance.sample(processes, 2):
            time.sleep(chance.random())
            process.kill()
        for process in processes:
            process.wait()
        whole_path(source, destination, torch.device("cpu"))  # the rerun
        made = _made(destination)
        outputs = {path.name: path.read_bytes() for path in destination.glob("*.png")}
        left = [path for path in destination.rglob("*") if ".tmp" in path.name]
        redone += sum(made.values()) - len(made)
        if outputs != right or left or set(made.values()) != {1}:
            bad.append(number)
    print(f"\n20 rounds, 2 of 3 processes killed: {20 - len(bad)} in order, {redone} images made twice")
    return {"rounds": 20, "in_order": 20 - len(bad), "made_twice": redone}


def _made(destination: Path) -> Counter[str]:
    """How often each image was made, by the receipts."""
    made: Counter[str] = Counter()
    for log in (destination / ".srdist" / "receipts").glob("*.jsonl"):
        for line in log.read_text().splitlines(keepends=True):
            if line.endswith("\n") and (receipt := json.loads(line))["status"] == "done":
                made[receipt["path"]] += 1
    return made


def png(folder: Path, images: Path | None) -> dict[str, Any]:
    """Megapixels a second of one core, and bytes of raw bytes, of each setting."""
    del folder
    import pyvips

    pictures = [np.asarray(Image.fromarray(p).resize((178, 218))) for p in halves(images, 100)]
    megapixels = sum(p.shape[0] * p.shape[1] for p in pictures) / 1e6

    def pillow(level: int) -> Callable[[np.ndarray], int]:
        def encode(pixels: np.ndarray) -> int:
            data = io.BytesIO()
            Image.fromarray(pixels).save(data, "PNG", compress_level=level)
            return data.tell()

        return encode

    def vips(level: int, filter_name: Any) -> Callable[[np.ndarray], int]:
        def encode(pixels: np.ndarray) -> int:
            image = pyvips.Image.new_from_array(pixels).copy(interpretation="srgb")
            return len(image.pngsave_buffer(compression=level, filter=filter_name))

        return encode

    encoders = {f"Pillow, level {level}": pillow(level) for level in (0, 1, 2, 3, 6, 9)}
    encoders |= {
        f"libvips, level {level}, {f}": vips(level, f)
        for level in (1, 3, 6)
        for f in ("none", "sub", "up", "all")
    }
    figures = {}
    print(f"\n{'':28}{'MP/s':>8}{'of raw':>8}")
    for name, encode in encoders.items():
        began = time.process_time()
        size = sum(encode(picture) for picture in pictures)
        rate = megapixels / (time.process_time() - began)
        figures[name] = {"megapixels_per_s": rate, "of_raw": size / sum(p.nbytes for p in pictures)}
        print(f"{name:28}{rate:8.1f}{figures[name]['of_raw']:8.3f}")
    return figures


if __name__ == "__main__":
    main()
