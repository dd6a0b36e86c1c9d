"""PSNR, SSIM and RMSE against scikit-image and against numbers that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from srdist.images.pixels import luma
from srdist.quality import metrics


@pytest.fixture(params=[(40, 57), (11, 11), (173, 12)], ids=str)
def two_images(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    height, width = request.param
    generator = torch.Generator().manual_seed(height)
    hr = torch.randint(0, 256, (2, 3, height, width), generator=generator, dtype=torch.uint8)
    noise = torch.randint(-20, 21, hr.shape, generator=generator)
    return (hr.int() + noise).clamp(0, 255).to(torch.uint8), hr


def test_psnr_equals_scikit_image(two_images: tuple[Tensor, Tensor]) -> None:
    sr, hr = two_images
    found = metrics.psnr_y(sr, hr, border=0)
    for i in range(2):
        expected = peak_signal_noise_ratio(luma(hr[i]).numpy(), luma(sr[i]).numpy(), data_range=255)
        assert found[i].item() == pytest.approx(expected, abs=1e-9)


def test_ssim_equals_scikit_image_on_the_valid_region(two_images: tuple[Tensor, Tensor]) -> None:
    sr, hr = two_images
    found = metrics.ssim_y(sr, hr, border=0)
    for i in range(2):
        _, index = structural_similarity(
            luma(hr[i]).numpy(),
            luma(sr[i]).numpy(),
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        expected = index[5:-5, 5:-5].mean()
        assert found[i].item() == pytest.approx(expected, abs=1e-9)


def test_a_photo_scores_the_same_in_blocks_as_in_one_piece(
    photos: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    hr = torch.from_numpy(photos["chelsea"][:90, :200].copy()).permute(2, 0, 1).unsqueeze(0)
    sr = torch.roll(hr, 1, dims=-1)

    def scores() -> list[float]:
        return [
            metrics.psnr_y(sr, hr, border=2).item(),
            metrics.ssim_y(sr, hr, border=2).item(),
            metrics.rmse(sr, hr).item(),
        ]

    in_blocks = scores()
    monkeypatch.setattr(metrics, "_CPU_SIDE", 1000)
    in_one_piece = scores()
    assert in_blocks == pytest.approx(in_one_piece, abs=1e-10)
    monkeypatch.setattr(metrics, "_CPU_SIDE", 17)
    assert scores() == pytest.approx(in_one_piece, abs=1e-10)


def test_an_error_inside_the_border_is_not_seen_and_one_beside_it_is() -> None:
    hr = torch.full((1, 3, 20, 20), 100, dtype=torch.uint8)
    sr = hr.clone()
    sr[..., 1, :] = 0
    sr[..., :, -2] = 0
    assert metrics.psnr_y(sr, hr, border=2).item() == math.inf
    assert metrics.psnr_y(sr, hr, border=1).item() < 30


def test_rmse_is_over_rgb_in_0_to_1() -> None:
    hr = torch.zeros((1, 3, 2, 2), dtype=torch.uint8)
    sr = hr.clone()
    sr[0, 0] = 51
    assert metrics.rmse(sr, hr).item() == pytest.approx(0.2 / math.sqrt(3))


def test_equal_images_have_infinite_psnr_and_ssim_one() -> None:
    hr = torch.randint(0, 256, (1, 3, 30, 30), dtype=torch.uint8)
    assert metrics.psnr_y(hr, hr, border=2).item() == math.inf
    assert metrics.ssim_y(hr, hr, border=2).item() == pytest.approx(1)
    assert metrics.rmse(hr, hr).item() == 0


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_what_the_border_leaves_nothing_of_has_no_psnr(side: int) -> None:
    image = torch.zeros((1, 3, side, 50), dtype=torch.uint8)
    assert metrics.psnr_y(image, image + 1, border=2).isnan().item()
    assert metrics.ssim_y(image, image + 1, border=2).isnan().item()


def test_an_image_smaller_than_the_window_has_a_psnr_but_no_ssim() -> None:
    image = torch.zeros((1, 3, 14, 50), dtype=torch.uint8)
    assert metrics.psnr_y(image, image + 1, border=2).isfinite().item()
    assert metrics.ssim_y(image, image + 1, border=2).isnan().item()
    assert metrics.ssim(luma(image)[:, :10], luma(image)[:, :10], peak=255).isnan().item()


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("score", [metrics.rmse, lambda a, b: metrics.psnr_y(a, b, border=0)])
def test_images_of_two_sizes_are_not_compared(score: object) -> None:
    assert callable(score)
    with pytest.raises(ValueError, match="only equals compare"):
        score(torch.zeros((1, 3, 1, 9), dtype=torch.uint8), torch.zeros((1, 3, 9, 9), dtype=torch.uint8))
