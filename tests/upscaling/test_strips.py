"""Images of 16 bits, and images too large to hold."""

from __future__ import annotations

import errno
import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import tifffile
import torch
from PIL import Image, ImageCms, ImageOps

from srdist.images.decode import UnreadableImageError
from srdist.images.photo import WRITABLE
from srdist.images.rows import RawPhoto, RowReader, encode_raw, is_deep
from srdist.networks.config import SRCNNConfig
from srdist.networks.tilednetwork import TiledNetwork
from srdist.networks.weightfile import WeightsInfo, save_weights
from srdist.upscaling import imagefile
from srdist.upscaling.job import Output
from srdist.upscaling.strips import upscale_rows
from tests.upscaling.test_job import go, outputs

SMALL = SRCNNConfig(widths=(12, 8))


def tiled(tile: int | None = None, *, strength: float = 30) -> TiledNetwork:
    network = SMALL.build(seed=0).eval()
    network.load_state_dict(
        network.state_dict() | {"conv3.weight": strength * network.state_dict()["conv3.weight"]}
    )
    return TiledNetwork(network, device=torch.device("cpu"), tile=tile)


def write_deep(path: Path, pixels: np.ndarray) -> None:
    """A 16-bit file of one to four channels, by libvips itself or, for TIFF, by tifffile."""
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels.squeeze(), photometric="rgb" if pixels.shape[2] > 2 else "minisblack")
        return
    image = pyvips.Image.new_from_array(pixels).copy(
        interpretation="grey16" if pixels.shape[2] < 3 else "rgb16"
    )
    image.write_to_file(str(path))


def read_deep(path: Path) -> np.ndarray:
    image = pyvips.Image.new_from_file(str(path))
    assert image.format == "ushort"
    return np.asarray(image.numpy()).reshape(image.height, image.width, image.bands)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "w.safetensors"
    save_weights(path, SMALL.build(seed=0).state_dict(), WeightsInfo(SMALL, "bicubic", "", 0))
    return path


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_images_stay_sixteen_bit(
    tmp_path: Path, weights: Path, photos: dict[str, np.ndarray], suffix: str, channels: int
) -> None:
    if suffix == ".tif" and channels in (2, 4):
        pytest.skip("alpha in 16-bit TIFF is written by few programs")
    source = tmp_path / "src"
    source.mkdir()
    photo = np.dstack([photos["coffee"][:50, :60], np.full((50, 60), 200, np.uint8)])
    pixels = (
        photo[..., {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]].astype(np.uint16) * 257 + 100
    )
    write_deep(source / f"deep{suffix}", pixels)
    assert is_deep((source / f"deep{suffix}").read_bytes())
    assert go(source, tmp_path / "dst", weights).failed == 0
    large = read_deep(tmp_path / "dst" / f"deep{suffix}")
    assert large.shape == (100, 120, channels)
    assert len(np.unique(large)) > 400
    bicubic = np.asarray(Image.fromarray(photo[..., 0]).resize((120, 100), Image.Resampling.BICUBIC), float)
    assert np.abs(large[..., 0] / 257 - bicubic).mean() < 6


def test_sixteen_bits_become_eight_where_the_format_holds_no_more(
    tmp_path: Path, weights: Path, photos: dict[str, np.ndarray]
) -> None:
    source = tmp_path / "src"
    source.mkdir()
    write_deep(source / "deep.png", photos["coffee"][:50, :60].astype(np.uint16) * 257)
    report = go(source, tmp_path / "dst", weights, output=Output(format="jpg"))
    assert report.notes == 1
    assert Image.open(tmp_path / "dst" / "deep.jpg").size == (120, 100)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", sorted(WRITABLE))
def test_rows_can_be_written_in_every_format_with_white_where_it_holds_no_transparency(
    tmp_path: Path, suffix: str, dtype: type[np.unsignedinteger[Any]], channels: int
) -> None:
    pixels = np.full((40, 30, channels), np.iinfo(dtype).max // 2, dtype)
    if channels in (2, 4):
        pixels[:20, :, -1], pixels[20:, :, -1] = 0, np.iinfo(dtype).max
    pixels.tofile(tmp_path / "raw")
    raw = RawPhoto(tmp_path / "raw", 40, 30, channels, np.dtype(dtype), None, None, ())
    notes = encode_raw(raw, tmp_path / f"out{suffix}", suffix=suffix, quality=95)
    kind, deep = WRITABLE[suffix], dtype is np.uint16
    out = read_back(tmp_path / f"out{suffix}", deep=deep and kind in ("PNG", "TIFF", "PPM"))
    assert ("8 bits" in " ".join(notes)) == (deep and kind in ("JPEG", "WEBP", "BMP"))
    if channels in (2, 4) and kind in ("JPEG", "PPM", "BMP"):
        assert "laid on white" in notes[0]
        assert (out[:19, :, 0] >= 250 / 255 * np.iinfo(out.dtype).max).all()
    elif channels in (2, 4):
        assert (out[:19, :, -1] == 0).all()
    assert abs(int(out[30, 10, 0]) * (257 if out.dtype == np.uint8 else 1) - 32767) < 600


def read_back(path: Path, *, deep: bool) -> np.ndarray:
    if path.suffix in (".tif", ".tiff"):
        return np.asarray(tifffile.imread(path)).reshape(40, 30, -1)
    if deep and path.suffix == ".png":
        return read_deep(path)
    if deep:
        return read_pnm(path)
    with Image.open(path) as image:
        return np.asarray(image).reshape(40, 30, -1)


def read_pnm(path: Path) -> np.ndarray:
    """A 16-bit PGM or PPM by its definition, which Pillow reads as 8 bits."""
    magic, width, height, peak, samples = path.read_bytes().split(maxsplit=4)
    assert peak == b"65535"
    return np.frombuffer(samples, ">u2").reshape(int(height), int(width), 1 if magic == b"P5" else 3)


def test_memory_does_not_hold_the_rows_that_are_encoded(tmp_path: Path) -> None:
    script = """
import sys, numpy as np
from pathlib import Path
from srdist.images.rows import RawPhoto, encode_raw
folder = Path(sys.argv[1])
rows = np.random.default_rng(0).integers(0, 256, (512, 8192, 3), dtype=np.uint8)
with (folder / "raw").open("wb") as file:
    for _ in range(24):
        rows.tofile(file)
photo = RawPhoto(folder / "raw", 24 * 512, 8192, 3, np.dtype(np.uint8), None, None, ())
import pyvips
peak = lambda: int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
before = peak()
encode_raw(photo, folder / "out.png", suffix=".png", quality=95)
print((peak() - before) / 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True, timeout=600
    )
    assert float(done.stdout) < 100  # of 302 MB


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("tile", [16, 33, 500])
def test_an_image_in_strips_equals_the_image_at_once(
    tmp_path: Path, photos: dict[str, np.ndarray], suffix: str, tile: int
) -> None:
    image = photos["astronaut"][:173, :90]
    Image.fromarray(image).save(tmp_path / f"in{suffix}")
    raw = upscale_rows(RowReader(tmp_path / f"in{suffix}"), tiled(tile), tmp_path / "raw")
    encode_raw(raw, tmp_path / f"out{suffix}", suffix=suffix, quality=95)
    difference = np.abs(
        np.asarray(Image.open(tmp_path / f"out{suffix}")).astype(int) - tiled().upscale(image)
    )
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= 5


def test_strips_fade_into_each_other_where_tiles_do(tmp_path: Path, photos: dict[str, np.ndarray]) -> None:
    image = photos["astronaut"][:173, :90]
    Image.fromarray(image).save(tmp_path / "in.png")
    job = tiled(40)
    job.blend = 8
    raw = upscale_rows(RowReader(tmp_path / "in.png"), job, tmp_path / "raw")
    strips = np.fromfile(raw.path, np.uint8).reshape(346, 180, 3)
    assert np.abs(strips.astype(int) - tiled().upscale(image)).max() <= 1


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_strips_keep_what_belongs_to_a_photo(
    tmp_path: Path, photos: dict[str, np.ndarray], suffix: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "maker"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.fromarray(photos["chelsea"][:60, :90])
    image.save(tmp_path / f"in{suffix}", exif=exif, icc_profile=icc)
    raw = upscale_rows(RowReader(tmp_path / f"in{suffix}"), tiled(strength=1), tmp_path / "raw")
    encode_raw(raw, tmp_path / f"out{suffix}", suffix=suffix, quality=95)
    out = Image.open(tmp_path / f"out{suffix}")
    upright = ImageOps.exif_transpose(Image.open(tmp_path / f"in{suffix}"))
    assert out.size == (upright.width * 2, upright.height * 2)
    assert out.getexif().get(0x0112, 1) == 1
    assert out.getexif()[0x010F] == "maker"
    assert out.info["icc_profile"] == icc
    difference = np.asarray(out.resize(upright.size), float) - np.asarray(upright)
    assert np.abs(difference).mean() < 12


@pytest.mark.parametrize("kind", ["L", "RGB", "CMYK", "RGBA"])
def test_large_images_take_the_same_kinds_as_small_ones(
    tmp_path: Path, weights: Path, photos: dict[str, np.ndarray], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "src"
    source.mkdir()
    suffix = ".jpg" if kind == "CMYK" else ".png"
    Image.fromarray(photos["rocket"][:80, :70]).convert(kind).save(source / f"x{suffix}", quality=95)
    go(source, tmp_path / "small", weights)
    monkeypatch.setattr(imagefile, "STREAM_PIXELS", 100)
    go(source, tmp_path / "large", weights)
    small, large = (Image.open(tmp_path / name / f"x{suffix}") for name in ("small", "large"))
    assert large.mode == small.mode
    difference = np.abs(np.asarray(large).astype(int) - np.asarray(small))
    # CMYK without a profile: libvips and Pillow have different ideas of the inks.
    assert difference.mean() < 40 if kind == "CMYK" else difference.max() == 0


def test_a_truncated_large_image_is_listed_and_leaves_nothing(
    tmp_path: Path, weights: Path, photos: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imagefile, "STREAM_PIXELS", 100)
    source = tmp_path / "src"
    source.mkdir()
    for name in ("a.png", "b.jpg", "c.png"):
        Image.fromarray(photos["coffee"]).save(source / name)
    for name in ("a.png", "b.jpg"):
        (source / name).write_bytes((source / name).read_bytes()[:30_000])
    report = go(source, tmp_path / "dst", weights)
    assert (report.done, report.failed) == (1, 2)
    assert outputs(tmp_path / "dst").keys() == {"c.png"}
    assert not list((tmp_path / "dst").rglob("*.raw"))


def test_floating_point_samples_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "f.tif", np.zeros((5, 5, 3), np.float32), photometric="rgb")
    with pytest.raises(UnreadableImageError, match="signed, floating point or of other"):
        RowReader(tmp_path / "f.tif")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".ppm"])
def test_a_full_disk_is_told_as_one_whether_rows_or_the_file_fill_it(
    tiny_disk: Path, tmp_path: Path, suffix: str
) -> None:
    rows = np.random.default_rng(0).integers(0, 255, (900, 900, 3), dtype=np.uint8)
    rows.tofile(tmp_path / "raw")
    raw = RawPhoto(tmp_path / "raw", 900, 900, 3, np.dtype(np.uint8), None, None, ())
    with pytest.raises(OSError, match="No space left") as caught:
        encode_raw(raw, tiny_disk / f"out{suffix}", suffix=suffix, quality=100)
    assert caught.value.errno == errno.ENOSPC
    del caught  # libvips keeps the file open as long as its traceback does, and the disk is to be unmounted
    gc.collect()
    if suffix == ".png":
        Image.fromarray(rows[:500]).save(tmp_path / "in.png")
        with pytest.raises(OSError, match="No space left"):
            upscale_rows(RowReader(tmp_path / "in.png"), tiled(64), tiny_disk / "raw")
