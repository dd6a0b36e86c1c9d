"""Images of any size through a network, in tiles."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from srdist.networks.config import SRCNNConfig
from srdist.networks.network import Network
from srdist.networks.outofmemory import out_of_memory
from srdist.networks.piece import tiles
from srdist.networks.srcnn import SRCNN
from srdist.networks.tilednetwork import MIN_TILE, TiledNetwork
from srdist.networks.tiling import Box, cut
from srdist.networks.weightfile import load_weights
from tests.networks.around import Around

CPU = torch.device("cpu")


def lively(config: SRCNNConfig) -> SRCNN:
    """A network whose convolutions change the image by many levels: a small one would hide a wrong halo."""
    network = config.build(seed=3).eval()
    if config.residual:
        getattr(network, f"conv{network.num_layers}").weight.data.mul_(30)
    return network


def in_tiles(network: Network, tile: int | None = None) -> TiledNetwork:
    return TiledNetwork(network, device=CPU, tile=tile)


def small(**changes: object) -> SRCNNConfig:
    return SRCNNConfig.model_validate({"widths": (12, 8), **changes})


@pytest.mark.parametrize("tile", [32, 47, 64])
@pytest.mark.parametrize(
    "config",
    [
        small(),
        small(scale=3),
        small(scale=4, kernels=(9, 1, 5)),
        small(kernels=(9, 5, 5), residual=False, last_relu=True, pre_kernel="bilinear"),
        small(upscale="after"),
        small(scale=3, upscale="after", residual=False),
    ],
)
def test_tiled_equals_untiled(photos: dict[str, np.ndarray], config: SRCNNConfig, tile: int) -> None:
    network = lively(config)
    image = photos["coffee"][100:230, 200:301]
    whole = in_tiles(network, tile=1000).upscale(image)
    tiled = in_tiles(network, tile=tile).upscale(image)
    difference = np.abs(whole.astype(int) - tiled)
    assert difference.max() <= 1
    if config.upscale == "before" and config.scale != 3:
        # The arithmetic of a tile is that of the image. At scale 3 the bicubic's weights differ in their last bit, and
        # convolutions on small LR tiles may take another path.
        assert difference.max() == 0
    interpolated = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
    assert np.abs(whole - network.upscaled(interpolated)[0].permute(1, 2, 0).numpy() * 255).mean() > 2


def test_a_halo_that_is_too_small_would_be_seen(photos: dict[str, np.ndarray]) -> None:
    network = lively(small(kernels=(9, 5, 5)))
    image = photos["coffee"][100:230, 200:301]
    whole = in_tiles(network, tile=1000).upscale(image)
    assert network.halo is not None
    network.halo -= 3
    cut_off = in_tiles(network, tile=32).upscale(image)
    assert np.abs(whole.astype(int) - cut_off).max() > 1


def test_tiles_cover_the_image_once() -> None:
    seen = np.zeros((101, 67), int)
    for box in cut(Box(0, 101, 0, 67), tile=30):
        assert box.bottom - box.top <= 30
        assert box.right - box.left <= 30
        seen[box.top : box.bottom, box.left : box.right] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 900), (2, 2)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_images_of_any_shape_come_out_scaled(shape: tuple[int, int], channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, channels), dtype=np.uint8)
    large = in_tiles(lively(small())).upscale(pixels)
    assert large.shape == (shape[0] * 2, shape[1] * 2, channels)


def test_grey_equals_the_grey_of_the_same_image_in_rgb(photos: dict[str, np.ndarray]) -> None:
    grey = photos["chelsea"][:60, :70, :1]
    network = small().build(seed=3).eval()
    as_grey = in_tiles(network).upscale(grey)
    r, g, b = np.moveaxis(in_tiles(network).upscale(np.repeat(grey, 3, axis=2)).astype(float), 2, 0)
    assert np.abs(as_grey[..., 0] - (0.299 * r + 0.587 * g + 0.114 * b)).max() <= 1


def test_sixteen_bits_are_kept(photos: dict[str, np.ndarray]) -> None:
    image = photos["chelsea"][:60, :70]
    wide = image.astype(np.uint16) * 257
    network = lively(small())
    large = in_tiles(network).upscale(wide)
    assert large.dtype == np.uint16
    assert np.abs(np.rint(large / 257) - in_tiles(network).upscale(image)).max() <= 1
    assert len(np.unique(large)) > 300


def disc(colour: tuple[int, int, int], hidden: tuple[int, int, int]) -> np.ndarray:
    """A disc of one colour with a soft edge, on transparent pixels of another, hidden, colour."""
    y, x = np.mgrid[:64, :64]
    alpha = np.clip(20 - np.hypot(y - 31.5, x - 31.5), 0, 1)
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[...] = (*hidden, 0)
    pixels[alpha > 0, :3] = colour
    pixels[..., 3] = np.rint(alpha * 255)
    return pixels


def test_transparent_edges_get_no_fringe_of_the_hidden_colour() -> None:
    colour = (200, 120, 40)
    network = small().build(seed=0).eval()
    network.load_state_dict(
        network.state_dict() | {"conv3.weight": torch.zeros(3, 8, 3, 3)}
    )  # the bicubic alone, whose edges are known
    dark = in_tiles(network).upscale(disc(colour, hidden=(0, 0, 0)))
    bright = in_tiles(network).upscale(disc(colour, hidden=(255, 255, 255)))
    assert np.array_equal(dark, bright)
    seen = dark[..., 3] >= 32
    assert np.abs(dark[seen][:, :3].astype(int) - colour).max() <= 2
    straight = in_tiles(network).upscale(disc(colour, hidden=(0, 0, 0))[..., :3])
    assert np.abs(straight[seen].astype(int) - colour).max() > 40


@pytest.mark.shared_data
def test_a_trained_network_leaves_no_fringe_either(shared_data: Path) -> None:
    network, _ = load_weights(shared_data / "seed" / "weights_1em3.pth")
    colour = (200, 120, 40)
    job = TiledNetwork(network, device=CPU)
    large = job.upscale(disc(colour, hidden=(0, 0, 0)))
    edge = (large[..., 3] >= 32) & (large[..., 3] < 255)
    # What is seen on white: the error in colour times the share that shows. It has no bias to dark.
    error = (large[edge][:, :3].astype(float) - colour) * large[edge][:, 3:] / 255
    assert np.abs(error).mean() < 6
    assert error.mean() > -3


def test_what_is_opaque_or_transparent_all_around_stays_so(photos: dict[str, np.ndarray]) -> None:
    network = lively(small())
    pixels = np.dstack([photos["chelsea"][:64, :64], disc((0, 0, 0), (0, 0, 0))[..., 3]])
    alpha = in_tiles(network).upscale(pixels)[..., 3]
    assert (alpha[48:80, 48:80] == 255).all()
    assert (alpha[:10] == 0).all()


def test_an_opaque_image_gets_the_colours_that_it_has_without_alpha(photos: dict[str, np.ndarray]) -> None:
    image = photos["chelsea"][:50, :60]
    network = lively(small())
    opaque = in_tiles(network).upscale(np.dstack([image, np.full((50, 60), 255, np.uint8)]))
    assert np.array_equal(opaque[..., :3], in_tiles(network).upscale(image))
    assert (opaque[..., 3] == 255).all()


class Cramped(Around):
    """A network on a device that has room for so many LR pixels at a time."""

    def __init__(self, network: Network, room: int, error: type[Exception]) -> None:
        super().__init__(network)
        self.room, self.error = room, error
        self.tried: list[tuple[int, ...]] = []

    def forward(self, lr: Tensor) -> Tensor:
        self.tried.append(tuple(lr.shape))
        if lr.shape[0] * lr.shape[2] * lr.shape[3] > self.room:
            raise self.error(
                "CUDA out of memory" if self.error is torch.OutOfMemoryError else "can't allocate memory"
            )
        return super().forward(lr)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_when_memory_runs_out_batch_then_tile_are_halved_and_the_tile_is_computed_again(
    photos: dict[str, np.ndarray], error: type[Exception]
) -> None:
    network = lively(small())
    images = [photos["coffee"][i * 20 : i * 20 + 100, :90] for i in range(5)]
    wanted = [in_tiles(network).upscale(image) for image in images]
    cramped = Cramped(network, 70 * 70, error)
    job = TiledNetwork(cramped, device=CPU, tile=200)
    job.batch = 4
    for large, right in zip(job.upscale_many(images), wanted, strict=True):
        assert np.array_equal(large, right)
    assert [shape[0] for shape in cramped.tried[:3]] == [4, 2, 1]
    assert job.batch == 1
    assert job.tile == 50
    tried = len(cramped.tried)
    job.upscale(images[0])
    assert all(shape[2] <= 58 for shape in cramped.tried[tried:])  # what did not fit is not tried again


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: out of memory",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "GET was unable to find an engine to execute this computation",
    ],
)
def test_memory_that_cudnn_or_cublas_lack_is_known_as_such(words: str) -> None:
    assert out_of_memory(RuntimeError(words))
    assert not out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_BAD_PARAM"))


class Elsewhere(Around):
    """A network for which only the CPU has memory, and which two threads use at once."""

    def to(self, *places: Any, **options: Any) -> Any:
        return self if torch.device("meta") in places else super().to(*places, **options)

    def forward(self, lr: Tensor) -> Tensor:
        if lr.device.type != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return super().forward(lr)


def test_the_way_to_the_cpu_is_said_aloud_and_all_images_come_out(photos: dict[str, np.ndarray]) -> None:
    images = [photos["coffee"][k : k + 70, :90] for k in range(3)]
    said: list[str] = []
    job = TiledNetwork(Elsewhere(lively(small())), device=torch.device("meta"), tell=said.append)
    assert (job.batch, job.lanes) == (64, 2)
    with ThreadPoolExecutor(2) as lanes:
        made = [large for part in lanes.map(job.upscale_many, [images, images]) for large in part]
    for large, image in zip(made, images * 2, strict=True):
        assert np.array_equal(large, in_tiles(lively(small())).upscale(image))
    assert job.device == CPU
    (line,) = said
    assert line.startswith("meta has no memory left for a tile of")
    assert "the work goes on on the CPU" in line
    assert "Tried to allocate 2 GiB" in line


def batching(network: Network, *, tile: int | None = None, batch: int = 16) -> TiledNetwork:
    """As on a GPU."""
    job = in_tiles(network, tile=tile)
    job.batch = batch
    return job


@pytest.mark.parametrize("config", [small(), small(scale=4, kernels=(9, 1, 5))])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_of_near_equal_sizes_in_one_batch_get_the_bytes_of_one_by_one(
    photos: dict[str, np.ndarray], config: SRCNNConfig, channels: int
) -> None:
    network = lively(config)
    with_alpha = np.dstack([photos["coffee"], photos["coffee"][..., :1]])
    sizes = [(60, 64), (58, 64), (60, 61), (57, 60), (60, 64), (61, 59)]
    images = [with_alpha[k : k + h, k * 7 : k * 7 + w, :channels] for k, (h, w) in enumerate(sizes)]
    images[0] = np.where(np.arange(channels) == 3, 255, images[0]).astype(np.uint8)  # opaque, beside others
    around = Counted(network)
    job = batching(around)
    assert all(job.fit_one_batch(images[0].shape, image.shape) for image in images)
    for large, image in zip(job.upscale_many(images), images, strict=True):
        assert np.array_equal(large, in_tiles(network).upscale(image))
    passes = 2 if channels == 4 else 1  # colour and alpha
    assert len(around.shapes) == 4 * passes
    assert around.shapes[0][0] > 1


def test_what_is_too_different_or_too_small_or_has_no_halo_shares_no_batch() -> None:
    job = batching(lively(small()))
    assert job.fit_one_batch((60, 60, 3), (60, 60, 3))
    assert not job.fit_one_batch((60, 60, 3), (60, 60, 1))
    assert not job.fit_one_batch((60, 60, 3), (60, 90, 3))
    assert not job.fit_one_batch((7, 60, 3), (7, 61, 3))  # within the halo of both borders
    assert not job.fit_one_batch((300, 300, 3), (299, 300, 3))  # in tiles
    assert not batching(Restless(None)).fit_one_batch((60, 60, 3), (59, 60, 3))


class Counted(Around):
    """A network that notes the shapes that it is given."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.grid = network.grid
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, lr: Tensor) -> Tensor:
        self.shapes.append(tuple(lr.shape))
        return super().forward(lr)


def test_the_tiles_of_one_image_share_a_batch(photos: dict[str, np.ndarray]) -> None:
    network = lively(small())
    image = photos["coffee"][100:230, 200:301]
    around = Counted(network)
    assert np.array_equal(batching(around, tile=40).upscale(image), in_tiles(network).upscale(image))
    assert [shape[0] for shape in around.shapes] == [12]


def test_memory_that_runs_out_on_padded_images_loses_none_of_their_values(
    photos: dict[str, np.ndarray],
) -> None:
    network = lively(small())
    images = [photos["coffee"][: 80 + k, : 88 - k] for k in range(4)]
    job = batching(Cramped(network, 50 * 50, torch.OutOfMemoryError))
    for large, image in zip(job.upscale_many(images), images, strict=True):
        assert np.array_equal(large, in_tiles(network).upscale(image))
    assert job.batch == 1


@given(st.integers(1, 80), st.integers(1, 80), st.integers(1, 50), st.integers(0, 9), st.integers(1, 5))
def test_tiles_of_one_shape_cover_an_image_once_each_with_its_halo(
    height: int, width: int, tile: int, halo: int, multiple: int
) -> None:
    image, whole = np.zeros((height, width, 1), np.uint8), Box(0, height, 0, width)
    pieces = list(tiles(image, image, whole, tile=tile, halo=halo, multiple=multiple, alike=True))
    covered = np.zeros((height, width), int)
    for piece in pieces:
        inner, wide = piece.inner, piece.wide
        covered[inner.top : inner.bottom, inner.left : inner.right] += 1
        assert wide.inside(whole) == wide
        assert inner.grown(halo, height=height, width=width).inside(wide) == inner.grown(
            halo, height=height, width=width
        )
        assert wide.top % multiple == wide.left % multiple == 0
        assert wide.bottom == height or wide.bottom % multiple == 0
        assert wide.right == width or wide.right % multiple == 0
    assert (covered == 1).all()
    if multiple == 1:
        assert len({piece.pixels().shape for piece in pieces}) == 1


def test_memory_that_does_not_suffice_for_the_smallest_tile_is_an_error() -> None:
    cramped = Cramped(lively(small()), 100, torch.OutOfMemoryError)
    with pytest.raises(torch.OutOfMemoryError):
        TiledNetwork(cramped, device=CPU).upscale(np.zeros((200, 200, 3), np.uint8))
    assert min(shape[2] for shape in cramped.tried) <= 2 * MIN_TILE + 8


def test_an_error_that_is_not_about_memory_is_not_swallowed() -> None:
    class Broken(Around):
        def forward(self, lr: Tensor) -> Tensor:
            raise RuntimeError(f"size mismatch: {tuple(lr.shape)}")

    with pytest.raises(RuntimeError, match="size mismatch"):
        in_tiles(Broken(lively(small()))).upscale(np.zeros((8, 8, 3), np.uint8))


class Restless(Around):
    """A network whose every tile comes out brighter or darker than it should: what no halo can mend."""

    def __init__(self, halo: int | None) -> None:
        super().__init__(lively(small()))
        self.halo = halo

    def forward(self, lr: Tensor) -> Tensor:
        return F.interpolate(lr, scale_factor=2, mode="nearest") + 0.4 * (lr.mean() - 0.5)


def test_where_no_halo_suffices_tiles_fade_into_each_other() -> None:
    ramp = np.repeat(np.linspace(60, 200, 128, dtype=np.uint8)[None, :, None], 128, axis=0).repeat(3, axis=2)
    seams, faded = (in_tiles(Restless(halo), tile=32).upscale(ramp) for halo in (8, None))
    steps, smooth = (np.abs(np.diff(image.astype(int), axis=1)).max() for image in (seams, faded))
    assert steps > 6
    assert smooth <= 3
    whole = in_tiles(Restless(None), tile=128).upscale(ramp)
    assert np.abs(np.diff(whole.astype(int), axis=1)).max() <= 2


def test_tiles_that_agree_are_not_changed_by_fading(photos: dict[str, np.ndarray]) -> None:
    network = lively(small())
    image = photos["coffee"][100:230, 200:301]
    whole = in_tiles(network, tile=1000).upscale(image)
    network.halo = None
    assert np.array_equal(in_tiles(network, tile=40).upscale(image), whole)


SIDE = st.integers(1, 90)


@given(SIDE, SIDE, st.integers(0, 9), st.integers(0, 9), st.integers(1, 50))
def test_tiles_cover_every_pixel_once_and_none_is_larger_than_asked(
    height: int, width: int, top: int, left: int, tile: int
) -> None:
    whole = Box(top, top + height, left, left + width)
    covered = np.zeros((top + height, left + width), int)
    for box in cut(whole, tile=tile):
        assert 0 < box.bottom - box.top <= tile
        assert 0 < box.right - box.left <= tile
        covered[box.top : box.bottom, box.left : box.right] += 1
    assert (covered[top:, left:] == 1).all()
    assert covered.sum() == height * width


@given(SIDE, SIDE, st.integers(1, 50), st.integers(0, 20), st.integers(1, 8))
def test_a_tile_with_its_halo_lies_in_the_image_and_on_the_networks_grid(
    height: int, width: int, tile: int, halo: int, multiple: int
) -> None:
    for box in cut(Box(0, height, 0, width), tile=tile):
        grown = box.grown(halo, height=height, width=width, multiple=multiple)
        assert grown.inside(Box(0, height, 0, width)) == grown
        assert box.inside(grown) == box
        assert grown.top % multiple == grown.left % multiple == 0
        assert grown.bottom == height or grown.bottom % multiple == 0
        assert grown.top <= max(box.top - halo, 0)
        assert grown.bottom >= min(box.bottom + halo, height)
