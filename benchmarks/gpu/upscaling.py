"""Directories of faces and of photos, upscaled, against what the codecs and the network need alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.gpu.material import Material, picture
from srdist.images.photo import Photo, decode_photo, encode_photo
from srdist.images.strange import vips
from srdist.machine.cores import usable_cores
from srdist.networks.precision import name_of
from srdist.networks.tilednetwork import TiledNetwork
from srdist.networks.weightfile import load_weights
from srdist.upscaling.job import Job, Output
from srdist.upscaling.tree import upscale_tree

_NETWORK = "srcnn_x2"
_BATCH = 64
_IN_A_FOLDER = 1000


def faces(material: Material) -> dict[str, Any]:
    """Many small JPEGs to JPEGs of twice the side."""
    source = material.folder / "small faces"
    for number, data in enumerate(material.train_images(material.sizes.faces)):
        path = source / f"{number // _IN_A_FOLDER:02d}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return _measured(material, source, codec=_small_codec)


def photos(material: Material) -> dict[str, Any]:
    """A few photos of 24 megapixels, JPEG to JPEG."""
    source = material.folder / "large photos"
    source.mkdir()
    height, width = material.sizes.photo
    one = picture(1, height=height, width=width)
    for number in range(material.sizes.photos):
        Image.fromarray(np.roll(one, number * 97, axis=1)).save(source / f"{number}.jpg", quality=90)
    return _measured(material, source, codec=_large_codec)


def _measured(material: Material, source: Path, *, codec: Callable[[Path, Path], None]) -> dict[str, Any]:
    """Seconds of the whole job, of the codecs alone on all cores, and of the network alone on tensors in memory."""
    paths = sorted(source.rglob("*.jpg"))
    tiled = TiledNetwork(load_weights(_NETWORK)[0], device=material.device, precision="auto")
    tiled.upscale(decode_photo(paths[0].read_bytes()).pixels[:64, :64])  # the device's libraries are started
    destination = material.folder / f"{source.name}-upscaled"
    begin = time.perf_counter()
    job = Job.of(source, destination, output=Output(), weights_digest=tiled.network.digest())
    report = upscale_tree(job, tiled, threads=max(2, usable_cores()))
    whole = time.perf_counter() - begin
    if report.done != len(paths):
        raise RuntimeError(
            f"{report.done} of {len(paths)} images were upscaled: see {destination}/failures.jsonl"
        )
    alone = material.folder / f"{source.name}-codecs"
    alone.mkdir()
    begin = time.perf_counter()
    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(lambda path: codec(path, alone / path.name), paths))
    codecs = time.perf_counter() - begin
    network = _network_seconds(material, paths)
    floor = max(codecs, network)
    found = {
        "images": len(paths),
        "images_per_s": len(paths) / whole,
        "megapixels_per_s": report.megapixels / whole,
        "codecs_per_s": len(paths) / codecs,
        "network_per_s": len(paths) / network,
        "share_of_floor": floor / whole,
        "computed_in": name_of(tiled.number_type),
    }
    print(
        f"upscaling {len(paths)} {source.name} in {found['computed_in']}: {found['images_per_s']:,.1f} images/s; codecs alone "
        f"{found['codecs_per_s']:,.1f}, network alone {found['network_per_s']:,.1f}; {found['share_of_floor']:.0%} of the slower"
    )
    return found


def _network_seconds(material: Material, paths: list[Path]) -> float:
    """For all of the images, by the time of a few of them that lie on the device: in batches where they are small."""
    network = load_weights(_NETWORK)[0].to(material.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pixels = decode_photo(paths[0].read_bytes()).pixels
    small = pixels.size < 1 << 20 and material.device.type == "cuda"
    batch = min(_BATCH, len(paths)) if small else 1
    lr = torch.from_numpy(pixels).to(material.device).permute(2, 0, 1)[None].expand(batch, -1, -1, -1)
    half = TiledNetwork(load_weights(_NETWORK)[0], device=material.device, precision="auto").number_type
    rounds = max(1, min(10, len(paths) // batch))
    # A large photo in strips, as it would not fit.
    strips = torch.arange(0, lr.shape[2], 512).tolist()
    with (
        torch.inference_mode(),
        torch.autocast(material.device.type, half, enabled=half is not torch.float32),
    ):

        def once() -> None:
            for top in strips:
                strip = lr[:, :, top : top + 512].float().div_(255)
                network(strip.contiguous(memory_format=torch.channels_last))

        once()
        _wait(material)
        begin = time.perf_counter()
        for _ in range(rounds):
            once()
        _wait(material)
    return (time.perf_counter() - begin) / (rounds * batch) * len(paths)


def _wait(material: Material) -> None:
    if material.device.type == "cuda":
        torch.cuda.synchronize()


def _small_codec(source: Path, destination: Path) -> None:
    """Decode and encode at twice the side as srdist does, the pixels repeated."""
    pixels = decode_photo(source.read_bytes()).pixels
    data, _ = encode_photo(Photo(pixels.repeat(2, 0).repeat(2, 1)), suffix=".jpg", quality=95)
    destination.write_bytes(data)


def _large_codec(source: Path, destination: Path) -> None:
    """The same by libvips, row by row, as srdist reads and writes what is large."""
    image = vips().Image.new_from_file(str(source), access="sequential")
    image.zoom(2, 2).jpegsave(str(destination), Q=95)
