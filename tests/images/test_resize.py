"""Pixels against the programs that the field trusts: Pillow, scikit-image, MATLAB's own LR images."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from skimage.color import rgb2ycbcr
from torch import Tensor

from srdist.images import decode as imaging
from srdist.images.decode import UnreadableImageError, decode_into, decode_rgb, image_size
from srdist.images.kernels import Kernel
from srdist.images.pixels import luma, mod_crop, to_float, to_pillow, to_u8
from srdist.images.resize import resize_u8, upscale_float

KERNELS: tuple[Kernel, ...] = get_args(Kernel)


def tensor(photo: np.ndarray) -> Tensor:
    return torch.from_numpy(photo.copy()).permute(2, 0, 1)


def file_bytes(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_resizing_by_a_factor_is_pillows(photos: dict[str, np.ndarray], kernel: Kernel, scale: int) -> None:
    height, width = 299 // scale, 449 // scale
    hr = torch.stack(
        [tensor(photos[name][: height * scale, : width * scale]) for name in ("chelsea", "coffee")]
    )
    lr = resize_u8(hr, height=height, width=width, kernel=kernel)
    again = resize_u8(lr, height=height * scale, width=width * scale, kernel=kernel)
    for source, result in [(hr, lr), (lr, again)]:
        difference = difference_to_pillow(source, result, kernel)
        assert difference.max() <= (kernel == "bicubic")
        assert (difference > 0).mean() < 5e-4


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", [(75, 112), (100, 149), (37, 61), (602, 898), (451, 299), (1, 1)], ids=str)
def test_resizing_to_any_size_is_pillows(
    photos: dict[str, np.ndarray], kernel: Kernel, size: tuple[int, int]
) -> None:
    source = torch.stack([tensor(photos["chelsea"][:299, :449]), tensor(photos["coffee"][:299, :449])])
    result = resize_u8(source, height=size[1], width=size[0], kernel=kernel)
    difference = difference_to_pillow(source, result, kernel)
    if kernel in ("bicubic", "bilinear"):  # through torch: see resize_u8
        assert difference.max() <= 2
        assert (difference > 0).mean() < 5e-3
    else:
        assert difference.max() == 0


def difference_to_pillow(source: Tensor, result: Tensor, kernel: Kernel) -> np.ndarray:
    size = (result.shape[-1], result.shape[-2])
    resampling = getattr(Image.Resampling, kernel.upper())
    expected = [np.array(to_pillow(image).resize(size, resampling), dtype=int) for image in source]
    difference: np.ndarray = np.abs(result.permute(0, 2, 3, 1).numpy() - np.stack(expected))
    return difference


@pytest.mark.shared_data
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_lr_is_matlabs(shared_data: Path, scale: int) -> None:
    for path in sorted((shared_data / "sr" / "Set5" / f"x{scale}" / "HR").iterdir()):
        matlab = path.parents[1] / "LR_matlab_bicubic" / path.name
        hr, theirs = (decode_rgb(file.read_bytes()) for file in (path, matlab))
        height, width = theirs.shape[-2:]
        ours = resize_u8(hr.unsqueeze(0), height=height, width=width, kernel="bicubic")[0]
        # MATLAB mirrors at the border, where Pillow renormalizes; and it rounds once, Pillow once a direction.
        inside = (ours.int() - theirs.int()).abs()[:, 3:-3, 3:-3]
        assert (inside > 1).double().mean() < 1e-3
        assert (inside > 0).double().mean() < 0.25


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_enlargement_inside_the_network_is_pillows_in_float(
    photos: dict[str, np.ndarray], kernel: str, scale: int
) -> None:
    photo = photos["rocket"][200:261, 300:347]
    found = upscale_float(to_float(tensor(photo).unsqueeze(0)), scale=scale, kernel=kernel)[0]
    for channel in range(3):
        plane = Image.fromarray((photo[..., channel] / 255).astype(np.float32))
        size = (plane.width * scale, plane.height * scale)
        expected = np.array(plane.resize(size, getattr(Image.Resampling, kernel.upper())))
        np.testing.assert_allclose(found[channel].numpy(), expected, rtol=0, atol=5e-6)


def test_luma_is_scikit_images(photos: dict[str, np.ndarray]) -> None:
    for photo in photos.values():
        np.testing.assert_allclose(luma(tensor(photo)).numpy(), rgb2ycbcr(photo)[..., 0], atol=1e-9)


def test_float_and_back_gives_the_same_levels_and_rounds_and_clamps() -> None:
    levels = torch.arange(256, dtype=torch.uint8).repeat(3, 1).reshape(1, 3, 16, 16)
    assert torch.equal(to_u8(to_float(levels)), levels)
    off = torch.tensor([-0.3, 1.7, 100.4 / 255, 100.6 / 255]).repeat(3, 1).reshape(3, 2, 2)
    assert to_u8(off)[0].flatten().tolist() == [0, 255, 100, 101]


def test_mod_crop_keeps_the_top_left() -> None:
    image = torch.arange(3 * 7 * 11).reshape(3, 7, 11)
    assert torch.equal(mod_crop(image, 4), image[:, :4, :8])
    assert torch.equal(mod_crop(image, 1), image)
    assert mod_crop(image, 8).numel() == 0


def _grey16(photo: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    wide = photo[..., 1].astype(np.uint16) * 257
    return Image.fromarray(wide), np.repeat(photo[..., 1:2], 3, axis=2)


def _with_alpha(photo: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    alpha = np.full((*photo.shape[:2], 1), 9, np.uint8)
    return Image.fromarray(np.concatenate([photo, alpha], axis=2)), photo


def _grey(photo: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    return Image.fromarray(photo[..., 0]), np.repeat(photo[..., :1], 3, axis=2)


def _palette(photo: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    image = Image.fromarray(photo).quantize(16)
    return image, np.array(image.convert("RGB"))


@pytest.mark.parametrize("kind", [_grey16, _with_alpha, _grey, _palette])
def test_every_mode_is_read_as_rgb(
    photos: dict[str, np.ndarray], kind: Callable[[np.ndarray], tuple[Image.Image, np.ndarray]]
) -> None:
    image, expected = kind(photos["chelsea"][:33, :45])
    found = decode_rgb(file_bytes(image, format="PNG"))
    assert np.array_equal(found.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpegs_are_read_upright_and_as_pillow_reads_them(
    photos: dict[str, np.ndarray], mode: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file_bytes(Image.fromarray(photos["coffee"][:40, :57]).convert(mode), format="JPEG", exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    assert image_size(data) == expected.shape[:2]
    assert np.array_equal(decode_rgb(data).permute(1, 2, 0).numpy(), expected)
    buffer = np.zeros_like(expected)
    decode_into(data, buffer)
    assert np.array_equal(buffer, expected)


def test_what_is_no_whole_image_is_refused(
    photos: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    jpeg = file_bytes(Image.fromarray(photos["coffee"]), format="JPEG")
    png = file_bytes(Image.fromarray(photos["coffee"]), format="PNG")
    for data, words in [
        (b"", "empty"),
        (b"not an image at all", "not an image"),
        (jpeg[: len(jpeg) // 2], "cannot be decoded"),
        (png[: len(png) // 2], "cannot be decoded"),
        (png[:20], "not an image|cannot be opened"),
    ]:
        with pytest.raises(UnreadableImageError, match=words):
            decode_rgb(data)
    monkeypatch.setattr(
        Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS
    )  # set by open_image, restored afterwards
    monkeypatch.setattr(imaging, "MAX_PIXELS", 200_000)
    with pytest.raises(UnreadableImageError, match="claims 600x400 pixels, over the limit"):
        decode_rgb(jpeg)
