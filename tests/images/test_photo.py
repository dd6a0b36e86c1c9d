"""Any image file to pixels and back."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from srdist.images.decode import OTHER_SAMPLES, UnreadableImageError, decode_rgb, image_size
from srdist.images.photo import Photo, decode_photo, encode_photo, over_white, probe_size


def stored(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


@pytest.fixture
def cat(photos: dict[str, np.ndarray]) -> Image.Image:
    return Image.fromarray(photos["chelsea"]).crop((100, 60, 180, 110))


@pytest.mark.parametrize(
    ("mode", "channels"), [("L", 1), ("1", 1), ("LA", 2), ("RGB", 3), ("P", 3), ("RGBA", 4)]
)
def test_each_mode_keeps_its_kind_and_pillows_values(cat: Image.Image, mode: str, channels: int) -> None:
    image = cat.convert(mode)
    photo = decode_photo(stored(image, "PNG"))
    assert photo.pixels.shape == (50, 80, channels)
    wanted = np.asarray(image.convert({1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]))
    assert np.array_equal(photo.pixels.squeeze(), wanted)


def test_a_palette_with_a_transparent_colour_becomes_rgba(cat: Image.Image) -> None:
    image = cat.quantize(16)
    data = stored(image, "PNG", transparency=3)
    photo = decode_photo(data)
    assert np.array_equal(photo.pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")))
    assert set(np.unique(photo.pixels[..., 3])) == {0, 255}


def test_grey_with_a_transparent_level_becomes_grey_with_alpha(cat: Image.Image) -> None:
    grey = cat.convert("L")
    level = int(np.asarray(grey)[5, 5])
    photo = decode_photo(stored(grey, "PNG", transparency=level))
    assert photo.pixels.shape[2] == 2
    assert np.array_equal(photo.pixels[..., 1] == 0, np.asarray(grey) == level)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_come_out_upright_and_say_so(cat: Image.Image, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "maker"
    data = stored(cat, "PNG", exif=exif)
    photo = decode_photo(data)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(photo.pixels, np.asarray(upright))
    written, _ = encode_photo(photo, suffix=".png", quality=95)
    again = Image.open(io.BytesIO(written))
    assert again.getexif().get(0x0112, 1) == 1
    assert again.getexif()[0x010F] == "maker"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_the_profile_travels_with_the_pixels(cat: Image.Image, suffix: str) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = decode_photo(stored(cat, "PNG", icc_profile=icc))
    written, _ = encode_photo(photo, suffix=suffix, quality=95)
    assert Image.open(io.BytesIO(written)).info["icc_profile"] == icc


def test_cmyk_becomes_rgb_without_a_profile(cat: Image.Image) -> None:
    photo = decode_photo(stored(cat.convert("CMYK"), "JPEG", quality=100, subsampling=0))
    assert photo.icc is None
    assert np.abs(photo.pixels.astype(int) - np.asarray(cat)).mean() < 3


def test_of_an_animation_the_first_frame_is_taken_and_that_is_noted(cat: Image.Image) -> None:
    other = ImageOps.invert(cat)
    photo = decode_photo(
        stored(cat, "WEBP", save_all=True, append_images=[other, ImageOps.flip(cat)], lossless=True)
    )
    assert np.array_equal(photo.pixels, np.asarray(cat))
    assert photo.notes == ("first of 3 frames",)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "an empty file"),
        (b"hello", "not an image"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "not an image|cannot be"),
    ],
)
def test_what_is_no_image_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImageError, match=reason):
        decode_photo(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_a_truncated_file_is_refused(cat: Image.Image, kind: str) -> None:
    data = stored(cat, kind)
    with pytest.raises(UnreadableImageError):
        decode_photo(data[: len(data) * 2 // 3])


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    header = stored(Image.new("L", (1, 1)), "PNG")
    chunk = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + header[24:29]
    bomb = header[:12] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + header[33:]
    with pytest.raises(UnreadableImageError, match=r"too many pixels|60000x60000"):
        decode_photo(bomb)


@pytest.mark.parametrize("suffix", [".jpg", ".ppm", ".bmp"])
def test_formats_without_transparency_get_white_behind_it(cat: Image.Image, suffix: str) -> None:
    rgba = cat.convert("RGBA")
    rgba.putalpha(Image.linear_gradient("L").resize(cat.size))
    pixels = np.asarray(rgba)
    written, notes = encode_photo(Photo(pixels), suffix=suffix, quality=100)
    white = Image.new("RGBA", cat.size, "white")
    white.alpha_composite(rgba)
    difference = np.asarray(Image.open(io.BytesIO(written))).astype(int) - np.asarray(white.convert("RGB"))
    assert np.abs(difference).mean() < 2
    assert "transparency" in notes[0]
    assert over_white(pixels).shape == (50, 80, 3)


def test_a_side_that_the_format_cannot_hold_is_refused_by_name() -> None:
    with pytest.raises(
        ValueError, match=r"17000x1: WEBP holds at most 16383 pixels a side, use --format png"
    ):
        encode_photo(Photo(np.zeros((1, 17_000, 3), np.uint8)), suffix=".webp", quality=90)


def test_the_size_is_read_from_the_header_alone(tmp_path: Any, cat: Image.Image) -> None:
    (tmp_path / "cut.png").write_bytes(stored(cat, "PNG")[:60])
    (tmp_path / "no.png").write_bytes(b"no")
    assert probe_size(tmp_path / "cut.png") == (80, 50)
    assert probe_size(tmp_path / "no.png") == (0, 0)


def test_sixteen_bit_grey_that_pillow_reads_is_reduced_by_rounding_and_that_is_noted() -> None:
    wide = np.arange(0, 65536, 97, dtype=np.uint16)[None]
    photo = decode_photo(stored(Image.fromarray(wide), "PPM"))
    assert np.array_equal(photo.pixels[0, :, 0], np.rint(wide[0] / 257))
    assert photo.notes == ("16 bits a sample reduced to 8",)


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [("PPM", "RGB", {}), ("JPEG2000", "I;16", {}), ("SGI", "RGB", {"bpc": 2}), ("PPM", "I;16", {})],
)
def test_sixteen_bits_that_become_eight_are_noted_whatever_the_format(
    cat: Image.Image, kind: str, mode: str, options: dict[str, Any]
) -> None:
    wide = np.asarray(cat if mode == "RGB" else cat.convert("L")).astype(np.uint16) * 257
    if (kind, mode) == ("PPM", "RGB"):
        data = b"P6\n# 255\n80 50\n65535\n" + wide.astype(">u2").tobytes()
    else:
        data = stored(cat if mode == "RGB" else Image.fromarray(wide), kind, **options)
    photo = decode_photo(data)
    assert np.abs(photo.pixels.squeeze().astype(int) - wide // 257).max() <= 1
    assert photo.notes == ("16 bits a sample reduced to 8",)
    assert decode_photo(stored(cat, kind)).notes == ()


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(
    "dtype", [np.float16, np.float32, np.float64, np.int32, np.uint32, np.int16, np.int8]
)
def test_samples_without_a_stated_white_are_refused_with_one_message_in_every_way_of_decoding(
    cat: Image.Image, dtype: type[np.generic], mode: str, tmp_path: Path
) -> None:
    kind = "rgb" if mode == "RGB" else "minisblack"
    tifffile.imwrite(tmp_path / "x.tif", np.asarray(cat.convert(mode)).astype(dtype), photometric=kind)
    data = (tmp_path / "x.tif").read_bytes()
    for decode in (decode_photo, decode_rgb, image_size):
        with pytest.raises(UnreadableImageError) as refused:
            decode(data)
        assert str(refused.value) == OTHER_SAMPLES


def test_a_lab_image_becomes_srgb_and_leaves_its_profile_behind(cat: Image.Image) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    photo = decode_photo(stored(cat.convert("LAB"), "TIFF", icc_profile=icc))
    assert np.abs(photo.pixels.astype(int) - np.asarray(cat)).mean() < 2
    assert photo.icc is None


def test_the_size_of_a_200_megapixel_image_is_read_though_pillow_alone_would_refuse_it(tmp_path: Any) -> None:
    header = stored(Image.new("L", (1, 1)), "PNG")
    chunk = b"IHDR" + (20_000).to_bytes(4, "big") + (10_000).to_bytes(4, "big") + header[24:29]
    (tmp_path / "large.png").write_bytes(
        header[:12] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + header[33:]
    )
    assert probe_size(tmp_path / "large.png") == (20_000, 10_000)
