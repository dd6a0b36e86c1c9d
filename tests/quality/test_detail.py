"""Sharpness, spectrum and consistency against formulas of others and written out once more, and what they say of images."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from scipy import ndimage
from torch import Tensor

from srdist.images.pixels import luma, to_pillow
from srdist.images.resize import resize_u8
from srdist.quality import detail


@pytest.fixture(scope="module")
def cat(photos: dict[str, np.ndarray]) -> Tensor:
    """A part of a photo, uint8 [1, 3, 270, 290]: larger than what is summed at a time, and no multiple of it."""
    return torch.from_numpy(photos["chelsea"][10:280, 30:320].copy()).permute(2, 0, 1)[None]


def blurred(image: Tensor, radius: float) -> Tensor:
    soft = to_pillow(image[0]).filter(ImageFilter.GaussianBlur(radius))
    return torch.from_numpy(np.array(soft)).permute(2, 0, 1)[None]


def noisy(image: Tensor, sigma: float) -> Tensor:
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0)) * sigma
    return (image + noise).round().clamp(0, 255).to(torch.uint8)


def test_sharpness_is_one_minus_crete_and_others_blur_where_the_filters_lie_inside(cat: Tensor) -> None:
    plane = luma(cat)[0, 3:-3, 3:-3].numpy()
    blurs = []
    for axis in (0, 1):
        soft = ndimage.uniform_filter1d(plane, detail.BLUR, axis=axis)
        sharp, dull = (np.abs(ndimage.sobel(x, axis=axis)) for x in (plane, soft))
        inside = [slice(6, -6), slice(6, -6)]
        sharp, dull = sharp[tuple(inside)], dull[tuple(inside)]
        blurs.append(1 - np.maximum(0, sharp - dull).sum() / sharp.sum())
    assert detail.sharpness_y(cat, border=3).item() == pytest.approx(1 - max(blurs), rel=1e-9)


def test_sharpness_is_near_scikit_images_which_mirrors_at_the_border(cat: Tensor) -> None:
    from skimage.measure import blur_effect

    theirs = 1 - blur_effect(luma(cat)[0].numpy())
    assert detail.sharpness_y(cat, border=0).item() == pytest.approx(theirs, abs=0.01)


def test_a_blurred_image_is_less_sharp_the_more_it_is_blurred_and_noise_is_sharp(cat: Tensor) -> None:
    found = [
        detail.sharpness_y(image, border=2).item()
        for image in (noisy(cat, 10), cat, blurred(cat, 1), blurred(cat, 3))
    ]
    assert found == sorted(found, reverse=True)
    assert 0 < found[-1] < found[0] < 1


def test_the_rings_of_white_noise_are_its_variance() -> None:
    grey = noisy(torch.full((1, 3, 400, 400), 128, dtype=torch.uint8), 12)
    expected = luma(grey).var().item()
    assert detail.rings_y(grey, border=0)[0].tolist() == pytest.approx([expected] * detail.RINGS, rel=0.05)


def test_a_wave_stands_in_the_ring_of_its_frequency() -> None:
    wave = 128 + 60 * torch.sin(2 * math.pi * 7 / 32 * torch.arange(96))
    image = wave.round().to(torch.uint8).expand(1, 3, 64, 96)
    rings = detail.rings_y(image, border=0)[0]
    assert rings.argmax().item() + 1 == 7
    assert detail.rings_y(image.transpose(-1, -2), border=0)[0].tolist() == pytest.approx(rings.tolist())


def test_a_spectrums_rings_are_those_of_numpys_transform_of_each_square(cat: Tensor) -> None:
    part = cat[..., :70, :50]
    window = np.hanning(detail.SEGMENT + 1)[:-1]
    window = np.outer(window, window)
    down, across = np.meshgrid(*[np.fft.fftfreq(32) * 32] * 2, indexing="ij")
    ring = np.round(np.hypot(down, across))
    powers = []
    for top in (0, 16, 32):
        for left in (0, 16):
            square = luma(part)[0, top : top + 32, left : left + 32].numpy()
            powers.append(np.abs(np.fft.fft2((square - square.mean()) * window)) ** 2 / (window**2).sum())
    expected = [np.mean(powers, axis=0)[ring == number].mean() for number in range(1, 17)]
    assert detail.rings_y(part, border=0)[0].tolist() == pytest.approx(expected, rel=1e-9)


def test_the_distance_of_a_spectrum_to_itself_is_none_and_blur_and_noise_both_have_one(cat: Tensor) -> None:
    rings = {
        name: detail.rings_y(image, border=2)
        for name, image in {
            "itself": cat,
            "soft": blurred(cat, 0.7),
            "softer": blurred(cat, 2),
            "noisy": noisy(cat, 15),
        }.items()
    }
    found = {name: detail.spectrum_db(each, rings["itself"]).item() for name, each in rings.items()}
    assert found["itself"] == 0
    assert 1 < found["soft"] < found["softer"]
    assert found["noisy"] > 1
    # Twice the contrast is four times the power: 6 dB in every ring.
    louder = detail.spectrum_db(4 * rings["itself"], rings["itself"], floor=0).item()
    assert louder == pytest.approx(10 * math.log10(4))


def test_what_no_image_has_is_nan() -> None:
    small = torch.zeros(2, 3, 20, 40, dtype=torch.uint8)
    assert detail.rings_y(small, border=0).isnan().all()
    assert detail.sharpness_y(small[..., :12], border=0).isnan().all()  # too small
    assert detail.sharpness_y(small, border=0).isnan().all()  # flat
    assert detail.sharpness_y(small[:0], border=0).shape == (0,)
    assert detail.rings_y(small[:0], border=0).shape == (0, 16)


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear", "lanczos", "box"])
def test_what_is_consistent_gives_lr_again(cat: Tensor, kernel: str) -> None:
    hr = cat[..., :240, :280]
    pillow = getattr(Image.Resampling, kernel.upper())
    lr = torch.from_numpy(np.array(to_pillow(hr[0]).resize((140, 120), pillow))).permute(2, 0, 1)[None]
    assert detail.consistency_db(hr, lr, kernel=kernel).item() > 75  # type: ignore[arg-type]
    smooth = resize_u8(lr, height=240, width=280, kernel="bicubic")
    invented = noisy(smooth, 25)
    found = [detail.consistency_db(sr, lr, kernel=kernel).item() for sr in (smooth, invented)]  # type: ignore[arg-type]
    assert found[0] > 36 > found[1]
    again = np.array(to_pillow(invented[0]).resize((140, 120), pillow)).astype(float)
    error = np.square(again - np.array(to_pillow(lr[0]))).mean()
    assert found[1] == pytest.approx(10 * math.log10(255**2 / error), abs=0.01)


def test_repeated_pixels_reduced_by_the_box_are_lr_itself(cat: Tensor) -> None:
    repeated = cat.repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert math.isinf(detail.consistency_db(repeated, cat, kernel="box").item())
