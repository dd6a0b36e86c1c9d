"""The papers' networks have the papers' sizes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from srdist.config import load
from srdist.networks.config import (
    CompactConfig,
    EDSRConfig,
    FSRCNNConfig,
    NetworkSection,
    PlainConfig,
    SPANConfig,
)
from srdist.networks.network import Network
from tests.conftest import ROOT


def configured(name: str, **changes: object) -> PlainConfig:
    section = load(ROOT / "configs" / f"{name}.yaml").model
    assert isinstance(section, PlainConfig)
    return section.model_copy(update={"collapse": None, **changes})


def sesr(width: int, blocks: int) -> PlainConfig:
    return configured("sesr_m5_x2", kernels=(5, *(3,) * blocks, 5), widths=(width,) * (blocks + 1))


def filters(network: Network) -> int:
    """Weights of convolutions: what the papers count, apart from biases and slopes."""
    return sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d))


def multiply_adds_720p(network: Network) -> int:
    """Of the convolutions, for an output of 1280x720, counted by torch."""
    lr = torch.empty(1, 3, 720 // network.scale, 1280 // network.scale, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.to("meta")(lr)
    counts = counter.get_flop_counts()["Global"]
    return sum(int(count) for operation, count in counts.items() if "conv" in str(operation)) // 2


@pytest.mark.parametrize(
    ("section", "parameters", "giga_multiply_adds"),
    [
        # Shi et al. 2016 in the x2 form: 5x5x64, 3x3x32, 3x3x4.
        (configured("espcn_x2"), 1_600 + 18_432 + 1_152, 4.88),
        # Bhardwaj et al. 2022, table 1.
        (sesr(16, 5), 13_520, 3.11),
        (sesr(16, 11), 27_344, 6.30),
        (sesr(32, 11), 105_376, 24.27),
        # Zhang et al. 2021: M4C16.
        (configured("ecbsr_m4c16_x2"), 9_936, 2.29),
        # Dong et al. 2016: FSRCNN(56, 12, 4) and FSRCNN-s, whose deconvolution is counted once an LR pixel.
        (FSRCNNConfig(channels="luma"), 12_464, 2.87),
        (FSRCNNConfig(features=32, shrunk=5, mappings=1, channels="luma"), 3_937, 0.91),
    ],
)
def test_the_filters_are_as_many_as_in_the_paper(
    section: NetworkSection, parameters: int, giga_multiply_adds: float
) -> None:
    network = section.build(seed=None)
    assert filters(network) == parameters
    assert multiply_adds_720p(network) / 1e9 == pytest.approx(giga_multiply_adds, abs=0.01)


@pytest.mark.parametrize(
    ("section", "parameters", "giga_multiply_adds"),
    [
        # Lim et al. 2017: baseline and full.
        (EDSRConfig(), 1_369_859, 316.3),
        (EDSRConfig(scale=4), 1_517_571, 114.0),
        (EDSRConfig(width=256, blocks=32, residual_scale=0.1), 40_729_603, 9_387.0),
        # Wan et al. 2024: the paper's x2 and x4, and NTIRE's 28 channels; it counts operations in another way.
        (SPANConfig(width=52, branches=False), 481_324, None),
        (SPANConfig(width=52, scale=4, branches=False), 498_208, None),
        (SPANConfig(width=28, scale=4, branches=False), 150_688, None),
        # Real-ESRGAN's compact networks: realesr-animevideov3 and realesr-general-x4v3.
        (CompactConfig(scale=4), 621_424, 35.6),
        (CompactConfig(scale=4, convolutions=32), 1_213_296, 69.7),
    ],
)
def test_the_parameters_are_as_many_as_published(
    section: NetworkSection, parameters: int, giga_multiply_adds: float | None
) -> None:
    with torch.device("meta"):
        network = section.build(seed=None)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    if giga_multiply_adds is not None:
        assert multiply_adds_720p(network) / 1e9 == pytest.approx(giga_multiply_adds, rel=0.01)
