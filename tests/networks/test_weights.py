"""The weights that come with the package: never worse than bicubic, and above what is published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.weights import PUBLISHED, SEED_PARAMETERS, SET14_GREY
from srdist.networks.config import SRCNNConfig
from srdist.networks.weightfile import BUNDLED, find_weights, load_weights
from srdist.quality.table import Evaluation, QualityTable, evaluate

GENERAL = {f"{name}_x{scale}": scale for name in ("tiny", "srcnn", "fast") for scale in (2, 3, 4)}
SMALL = {"srcnn_x2", "srcnn_x3", "srcnn_x4", "srcnn_celeba_x2", "srcnn_celeba_x2_bilinear"}
"""Those with fewer parameters than the seed."""
FACES = {"celeba_x2", "celeba_x4"}


def table(name: str, hr: Path, lr: Path | None = None) -> QualityTable:
    return evaluate(
        Evaluation(
            name,
            str(hr),
            lr=lr,
        ),
        device=torch.device("cpu"),
        warn=lambda _: None,
    )


def least_gain_db(scores: QualityTable) -> float:
    return min(row["srdist"].psnr_y_db - row["bicubic"].psnr_y_db for _, row in scores.rows)


def test_each_has_a_card_and_the_small_ones_fewer_parameters_than_the_seed() -> None:
    files = sorted(BUNDLED.glob("*.safetensors"))
    assert {path.stem for path in files} == {*GENERAL, *SMALL, *FACES}
    for path in files:
        assert path.stem in path.with_suffix(".md").read_text()
        network, info = load_weights(find_weights(path.stem))
        if path.stem in SMALL:
            assert sum(parameter.numel() for parameter in network.parameters()) <= SEED_PARAMETERS
            assert isinstance(info.network, SRCNNConfig)
            assert info.network.residual
        assert network.sums_in_float32


@pytest.mark.parametrize("name", GENERAL)
def test_no_photo_comes_out_worse_than_by_bicubic(
    tmp_path: Path, photos: dict[str, np.ndarray], name: str
) -> None:
    for title, photo in photos.items():
        Image.fromarray(photo[:240, :240]).save(tmp_path / f"{title}.png")
    scores = table(name, tmp_path)
    assert least_gain_db(scores) > 0
    assert scores.scores["srdist"].psnr_y_db > scores.scores["bicubic"].psnr_y_db + 0.5


def test_the_scores_of_a_photo_are_what_they_were(tmp_path: Path, photos: dict[str, np.ndarray]) -> None:
    Image.fromarray(photos["coffee"]).save(tmp_path / "coffee.png")  # wider than a tile
    ((_, row),) = table("srcnn_x2", tmp_path).rows
    # As commit 3fdca96 scored it; the last digits may differ with the CPU.
    assert row["srdist"].psnr_y_db == pytest.approx(33.010579700070075, abs=1e-4)
    assert row["srdist"].ssim_y == pytest.approx(0.9291823112692426, abs=1e-6)
    assert row["srdist"].rmse == pytest.approx(0.02749832945733553, abs=1e-7)
    assert row["bicubic"].psnr_y_db == pytest.approx(30.593268852650837, abs=1e-9)


@pytest.mark.shared_data
@pytest.mark.parametrize("images", ["Set5", pytest.param("Set14", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("name", "scale"), GENERAL.items())
def test_a_published_set_is_above_the_published_srcnn(
    shared_data: Path, name: str, scale: int, images: str
) -> None:
    folder = shared_data / "sr" / images / f"x{scale}"
    scores = table(name, folder / "HR", folder / "LR_matlab_bicubic")
    bar = PUBLISHED[scale][images] + (SET14_GREY if images == "Set14" else 0)
    assert scores.scores["srdist"].psnr_y_db >= bar
    assert least_gain_db(scores) > 0
