"""Decoding into a slot: the pixels of Pillow, upright, or one kind of error, whatever the bytes."""

from __future__ import annotations

import io
import random
import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps

from srdist.images.decode import UnreadableImageError, decode_into, image_size

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")


def _encoded(kind: str, *, orientation: int, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_is_decoded_upright_as_pillow_turns_it(kind: str, orientation: int) -> None:
    data = _encoded(kind, orientation=orientation)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert image_size(data) == expected.shape[:2]
    decoded = np.empty(expected.shape, np.uint8)
    decode_into(data, decoded)
    assert np.array_equal(decoded, expected)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_jpegs_of_every_colour_space_are_pillows(mode: str) -> None:
    data = _encoded("JPEG", orientation=1, mode=mode)
    decoded = np.empty((24, 32, 3), np.uint8)
    decode_into(data, decoded)
    assert np.array_equal(decoded, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("kind", [*FORMATS, "GIF", "BMP", "PPM"])
def test_damaged_bytes_end_in_pixels_or_in_the_one_error(kind: str) -> None:
    base = _encoded(kind, orientation=6) if kind in FORMATS else _plain(kind)
    generator = random.Random(0)
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for turn in range(300):
            data = bytearray(base)
            for _ in range(generator.choice((1, 2, 8, 30))):
                data[generator.randrange(len(data) if turn % 2 else min(len(data), 200))] = (
                    generator.randrange(256)
                )
            if turn % 7 == 0:
                del data[generator.randrange(len(data)) :]
            try:
                height, width = image_size(bytes(data))
                if height * width < 1e6:
                    decode_into(bytes(data), np.empty((height, width, 3), np.uint8))
            except UnreadableImageError:
                refused += 1
    assert refused > 20


def _plain(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def test_an_image_of_another_size_than_the_index_says_is_refused_before_decoding() -> None:
    with pytest.raises(UnreadableImageError, match=r"is 24x32 \(height x width\), expected 32x24"):
        decode_into(_plain("BMP"), np.empty((32, 24, 3), np.uint8))
