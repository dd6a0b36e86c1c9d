"""Reading ahead, the network and writing behind: which images share a batch, who waits for whom, and that all ends."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from srdist.machine import watchdog
from srdist.machine.claims import Worker
from srdist.machine.files import whole_file
from srdist.networks.network import Network
from srdist.networks.tilednetwork import TiledNetwork
from srdist.networks.weightfile import load_weights
from srdist.upscaling import imagefile, maker, pipeline
from srdist.upscaling.job import Job, Output
from srdist.upscaling.plan import Inputs
from tests.networks.around import Around
from tests.upscaling.test_job import done_lines, go, outputs, write_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "w.safetensors")


class BlindToWhite(Around):
    """A network that overflows on white images."""

    def forward(self, lr: Tensor) -> Tensor:
        white = lr.mean((1, 2, 3)) > 0.99
        return torch.where(white[:, None, None, None], torch.nan, super().forward(lr))


class Counting(Around):
    """A network that notes the shapes it was given, and takes its time, in which others are read."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, lr: Tensor) -> Tensor:
        self.shapes.append(tuple(lr.shape))
        time.sleep(0.1)
        return super().forward(lr)


def test_small_images_of_one_size_share_a_batch_whatever_comes_between(
    tmp_path: Path, weights: Path, photos: dict[str, np.ndarray]
) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for k in range(16):
        side = 20 if k % 2 else 24
        Image.fromarray(photos["coffee"][k : k + side, k : k + side]).save(source / f"{k:02d}.png")
    network, _ = load_weights(weights)
    counting = Counting(network)
    batching = TiledNetwork(counting, device=torch.device("cpu"))
    batching.batch = 16  # as on a GPU
    go(source, tmp_path / "batched", weights, tiled=batching)
    go(source, tmp_path / "single", weights)
    assert sum(shape[0] for shape in counting.shapes) == 16
    assert len(counting.shapes) <= 8
    assert outputs(tmp_path / "batched") == outputs(tmp_path / "single")


def test_images_of_near_equal_sizes_share_batches_on_two_lanes_and_get_the_bytes_of_one_by_one(
    tmp_path: Path, weights: Path, photos: dict[str, np.ndarray]
) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for k in range(24):
        height, width = 48 - k % 4, 48 - k % 3
        Image.fromarray(photos["coffee"][k : k + height, k : k + width]).save(source / f"{k:02d}.png")
    counting = Counting(load_weights(weights)[0])
    batching = TiledNetwork(counting, device=torch.device("cpu"))
    batching.batch, batching.lanes = 8, 2  # as on a GPU
    go(source, tmp_path / "batched", weights, tiled=batching)
    go(source, tmp_path / "single", weights)
    whole = [shape for shape in counting.shapes if shape[2] > 40 and shape[3] > 40]
    assert sum(shape[0] for shape in whole) == 24
    assert len(whole) <= 8
    assert outputs(tmp_path / "batched") == outputs(tmp_path / "single")


@pytest.mark.parametrize("batch", [1, 8])
def test_only_the_image_of_which_the_network_makes_nan_fails(
    tmp_path: Path, weights: Path, batch: int
) -> None:
    source, dst = tmp_path / "src", tmp_path / "dst"
    source.mkdir()
    for k in range(6):
        Image.new("RGB", (8, 8), "white" if k == 3 else "navy").save(source / f"{k}.png")
    tiled = TiledNetwork(BlindToWhite(load_weights(weights)[0]), device=torch.device("cpu"))
    tiled.batch = batch
    report = go(source, dst, weights, tiled=tiled)
    assert (report.done, report.failed) == (5, 1)
    assert [line[:16] for line in (dst / "failures.jsonl").read_text().splitlines()] == ['{"path": "3.png"']


def test_a_slow_disk_holds_up_the_reading_of_further_images(
    tmp_path: Path, weights: Path, photos: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for k in range(60):
        Image.fromarray(photos["coffee"][k : k + 16, :16]).save(source / f"{k:02d}.png")
    read, written, ahead = [0], [0], [0]

    def load_and_count(path: Path, *, output_pixels: int) -> imagefile.Loaded:
        read[0] += 1
        return imagefile.load(path, output_pixels=output_pixels)

    def write_slowly(path: Path, **options: Any) -> Any:
        ahead[0] = max(ahead[0], read[0] - written[0])
        time.sleep(0.02)
        written[0] += 1
        return whole_file(path, **options)

    monkeypatch.setattr(maker, "load", load_and_count)
    monkeypatch.setattr(maker, "whole_file", write_slowly)
    assert go(source, tmp_path / "dst", weights).done == 60
    assert 5 <= ahead[0] <= 20


@pytest.fixture
def slow_to_look(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    """A `show` that takes so long that all that is read ahead is through when it returns, and that gives up after a minute."""
    monkeypatch.setattr(pipeline, "POLL_S", 0.0)
    began = time.monotonic()

    def show(_tally: object) -> None:
        assert time.monotonic() - began < 60, "the job waits for itself"
        time.sleep(0.02)

    return show


def test_a_job_ends_when_all_that_was_read_ahead_is_unreadable(
    tmp_path: Path, weights: Path, slow_to_look: Callable[[object], None]
) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for k in range(31):
        (source / f"{k:02d}.jpg").write_bytes(b"no image")
    Image.new("RGB", (8, 8)).save(source / "good.png")
    report = go(source, tmp_path / "dst", weights, working=slow_to_look)
    assert (report.done, report.failed) == (1, 31)


def test_a_job_ends_when_all_inputs_are_the_same_with_another_date(
    tmp_path: Path, weights: Path, slow_to_look: Callable[[object], None]
) -> None:
    source, dst = tmp_path / "src", tmp_path / "dst"
    source.mkdir()
    for k in range(40):
        Image.new("RGB", (4, 4), (k, k, k)).save(source / f"{k:02d}.png")
    go(source, dst, weights)
    for k in range(40):
        os.utime(source / f"{k:02d}.png", (k, k))
    report = go(source, dst, weights, working=slow_to_look)
    assert (report.done, report.failed) == (40, 0)
    assert set(done_lines(dst).values()) == {2}  # remembered anew, not made anew
    assert not list((dst / ".srdist" / "claims").iterdir())


def test_where_nothing_moves_it_is_said_who_waits_for_what(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, dst = tmp_path / "src", tmp_path / "dst"
    source.mkdir()
    Image.new("RGB", (8, 8)).save(source / "slow.png")
    said: list[str] = []

    def load_slowly(path: Path, *, output_pixels: int) -> imagefile.Loaded:
        time.sleep(0.4)
        return imagefile.load(path, output_pixels=output_pixels)

    monkeypatch.setattr(maker, "load", load_slowly)
    monkeypatch.setattr(watchdog, "PATIENCE_S", 0.1)
    with Worker(dst / ".srdist") as other:
        assert other.claim(f"{Inputs(Job(source, dst, Output(), '')).digest[:12]}-000000")
        release = threading.Timer(0.5, other.release, [*other._held])
        release.start()
        assert go(source, dst, weights, tell=said.append).done == 1
    assert f"nothing has moved for 0 s: units with open images are claimed by {other.name}" in said
    assert "nothing has moved for 0 s: slow.png is read (begun 0 s ago)" in said
