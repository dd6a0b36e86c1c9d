"""Every format that Pillow or libvips opens is an input, everywhere alike; what is skipped is counted."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import pyvips
from click.testing import CliRunner
from PIL import Image

from srdist.cli.main import main
from srdist.images.decode import (
    UnreadableImageError,
    decode_into,
    decode_rgb,
    image_size,
)
from srdist.images.formats import FORMATS, IMAGE_SUFFIXES, VIPS_SUFFIXES
from srdist.images.photo import decode_photo, probe_size
from srdist.shards.pack import pack
from srdist.shards.recipe import Recipe

SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" width="48" height="40">
<rect width="24" height="40" fill="#f00"/></svg>"""
WRITTEN = {
    ".avif": ("AVIF", "RGB"),
    ".jfif": ("JPEG", "RGB"),
    ".jp2": ("JPEG2000", "RGB"),
    ".tga": ("TGA", "RGBA"),
    ".pcx": ("PCX", "RGB"),
    ".ico": ("ICO", "RGBA"),
    ".dds": ("DDS", "RGB"),
    ".sgi": ("SGI", "RGB"),
    ".pbm": ("PPM", "1"),
    ".apng": ("PNG", "RGB"),
}


def heic() -> bytes:
    """An image in the container of HEIC; its codec is AV1, since no free library here writes HEVC."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    data: bytes = pyvips.Image.new_from_array(pixels).heifsave_buffer(compression="av1", Q=90)
    return data[:8] + b"heic" + data[12:]


@pytest.fixture
def folder(tmp_path: Path, photos: dict[str, np.ndarray]) -> Path:
    """One image of each kind, a raw photo, and two files that are none."""
    source = tmp_path / "src"
    source.mkdir()
    image = Image.fromarray(photos["chelsea"][100:140, 200:248])
    for suffix, (kind, mode) in WRITTEN.items():
        options = {"sizes": [(48, 40)]} if kind == "ICO" else {}
        image.convert(mode).save(source / f"x_{suffix[1:]}{suffix}", kind, **options)
    (source / "drawing.svg").write_bytes(SVG)
    (source / "phone.HEIC").write_bytes(heic())
    (source / "camera.cr2").write_bytes(b"II*\0")
    (source / "notes.txt").touch()
    (source / "Makefile").touch()
    return source


def test_the_endings_are_those_of_the_formats() -> None:
    Image.init()
    assert set(FORMATS) <= set(Image.OPEN)
    kinds = {*FORMATS, "MPO"}  # which is opened as a JPEG
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in kinds}
    assert endings | VIPS_SUFFIXES == IMAGE_SUFFIXES


@pytest.mark.parametrize(("name", "data"), [("a.svg", SVG), ("a.heic", heic())], ids=["svg", "heic"])
def test_what_only_libvips_opens_is_decoded_alike_by_every_way(
    tmp_path: Path, name: str, data: bytes
) -> None:
    rgb = decode_rgb(data).permute(1, 2, 0).numpy()
    photo = decode_photo(data)
    buffer = np.empty((40, 48, 3), np.uint8)
    decode_into(data, buffer)
    (tmp_path / name).write_bytes(data)
    assert rgb.shape == (40, 48, 3)
    assert image_size(data) == (40, 48)
    assert probe_size(tmp_path / name) == (48, 40)
    assert np.array_equal(buffer, rgb)
    assert np.array_equal(photo.pixels[..., :3], rgb)
    if name == "a.svg":
        assert photo.pixels.shape[2] == 4
        assert (photo.pixels[5, 5] == (255, 0, 0, 255)).all()
        assert photo.pixels[5, 40, 3] == 0


@pytest.mark.parametrize(
    "data",
    [SVG.replace(b'"48"', b'"48000"').replace(b'"40"', b'"40000"'), SVG[:60], heic()[:300], b"\x1f\x8b"],
)
def test_what_libvips_stumbles_over_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadableImageError):
        decode_rgb(data)


def test_a_file_that_would_start_another_program_is_not_opened() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "EPS")
    with pytest.raises(UnreadableImageError, match="not an image"):
        decode_rgb(buffer.getvalue())


def test_every_command_takes_them_and_counts_what_it_skips(folder: Path, tmp_path: Path) -> None:
    count = len(WRITTEN) + 2
    done = CliRunner().invoke(main, ["upscale", str(folder), str(tmp_path / "dst")])
    assert done.exit_code == 1
    assert f"{count} of {count + 1} images" in done.output
    assert "skipped: not an image extension: " in done.output
    summary = json.loads((tmp_path / "dst" / "summary.json").read_text())
    assert (summary["done"], summary["failed"], summary["skipped"]) == (count, 1, {".txt": 1, "": 1})
    (failure,) = [json.loads(line) for line in (tmp_path / "dst" / "failures.jsonl").open()]
    assert failure == {"path": "camera.cr2", "reason": "an image of a kind that is not read here (.cr2)"}
    for path in (tmp_path / "dst").glob("*.[!j]*"):
        if path.suffix in (".png", ".jfif"):
            assert Image.open(path).size == (96, 80), path
    report = pack(Recipe(name="odd", fractions={"train": 1.0}), folder, out=tmp_path / "set")
    assert (report.samples["train"], report.left_out) == (count, {"unreadable": 1})
    assert report.other_files == {".txt": 1, "": 1}
    done = CliRunner().invoke(main, ["evaluate", "--hr", str(folder), "--scale", "2"])
    assert f"1 of {count + 1} images could not be evaluated" in done.output
