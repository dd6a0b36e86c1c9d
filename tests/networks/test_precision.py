"""A network in half as many bits: few levels move, 16-bit images stay as they are, and a job knows what it was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from skimage import data

from srdist.cli.main import main
from srdist.machine.errors import UserError
from srdist.networks.config import EDSRConfig, PlainConfig
from srdist.networks.precision import Precision, has_bf16, number_type
from srdist.networks.tilednetwork import TiledNetwork
from srdist.networks.weightfile import load_weights

CPU = torch.device("cpu")
FACE = data.astronaut()[60:156, 180:276]


def upscaled(image: np.ndarray, precision: Precision, *, tile: int | None = None) -> np.ndarray:
    network = load_weights("srcnn_x2")[0]
    sr = TiledNetwork(network, device=CPU, tile=tile, precision=precision).upscale(image)
    return np.asarray(sr.astype(np.int32))


def test_bf16_moves_few_values_and_those_by_one_level() -> None:
    moved = np.abs(upscaled(FACE, "bf16") - upscaled(FACE, "fp32"))
    assert moved.max() == 1
    assert 0 < moved.mean() < 0.15


def test_tiles_in_bf16_are_within_one_level_of_the_whole() -> None:
    assert np.abs(upscaled(FACE, "bf16", tile=40) - upscaled(FACE, "bf16")).max() <= 1


def test_images_of_16_bits_stay_in_float32() -> None:
    deep = FACE.astype(np.uint16) * 257
    np.testing.assert_array_equal(upscaled(deep, "bf16"), upscaled(deep, "fp32"))


def test_auto_takes_bf16_only_where_the_device_has_it_and_the_last_sum_is_in_float32() -> None:
    sums = PlainConfig(widths=(4,), kernels=(3, 3)).build(seed=0)
    assert number_type("auto", sums, device=CPU) is (torch.bfloat16 if has_bf16(CPU) else torch.float32)
    no_sum = EDSRConfig(width=4, blocks=1).build(seed=0)
    assert number_type("auto", no_sum, device=CPU) is torch.float32
    assert number_type("bf16", no_sum, device=CPU) is torch.bfloat16


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(UserError, match="--precision fp16: needs a GPU"):
        number_type("fp16", PlainConfig().build(seed=0), device=CPU)


def test_a_job_asked_for_another_precision_makes_its_images_anew(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(FACE[:24, :24]).save(tmp_path / "in" / "a.png")

    def job(*options: str) -> str:
        result = CliRunner().invoke(main, ["upscale", str(tmp_path / "in"), str(tmp_path / "out"), *options])
        assert result.exit_code == 0
        return result.output

    assert "1 made" in job()
    assert "1 were there already" in job("--precision", "auto")
    assert "1 made" in job("--precision", "fp32")
    assert "1 were there already" in job("--precision", "fp32")
    assert "computed in bf16" in job("--precision", "bf16")
