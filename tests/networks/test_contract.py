"""What every network keeps to, whatever its family: one test a promise, over all members."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from srdist.networks import config as networks_config
from srdist.networks.config import (
    Collapse,
    CompactConfig,
    EDSRConfig,
    FSRCNNConfig,
    NetworkSection,
    PlainConfig,
    SPANConfig,
    SRCNNConfig,
)
from srdist.networks.network import Network
from srdist.networks.onnxfile import export_onnx
from srdist.networks.tilednetwork import TiledNetwork
from srdist.networks.weightfile import WeightsInfo, load_weights, save_weights
from tests.networks.tiny import NETWORK, TinyConfig

CPU = torch.device("cpu")

MEMBERS: dict[str, NetworkSection] = {
    "srcnn before": SRCNNConfig(widths=(6, 4), kernels=(5, 1, 3)),
    "srcnn after": SRCNNConfig(widths=(6, 4), kernels=(3, 3, 3), upscale="after", scale=3),
    "plain": PlainConfig(kernels=(5, 3, 3, 5), widths=(6, 6, 6)),
    "plain luma": PlainConfig(
        scale=4, kernels=(3, 3, 1), widths=(6, 5), feature_skip=False, channels="luma", base="nearest"
    ),
    "plain bare": PlainConfig(
        scale=3, kernels=(5, 3, 3), widths=(6, 4), feature_skip=False, activation="tanh", base="none"
    ),
    "plain collapsed": PlainConfig(
        kernels=(5, 3, 3, 5), widths=(6, 6, 6), collapse=Collapse(expand=20, edges=True)
    ),
    "compact": CompactConfig(width=6, convolutions=2, scale=4),
    "fsrcnn": FSRCNNConfig(features=8, shrunk=4, mappings=2, scale=2),
    "fsrcnn luma": FSRCNNConfig(features=8, shrunk=4, mappings=1, scale=3, channels="luma"),
    "fsrcnn x4": FSRCNNConfig(features=8, shrunk=4, mappings=1, scale=4),
    "edsr": EDSRConfig(width=6, blocks=1, residual_scale=0.5),
    "edsr x4": EDSRConfig(width=6, blocks=1, scale=4),
    "span": SPANConfig(width=6, blocks=2, scale=3),
    "tiny": TinyConfig(side=5, scale=4),
}


@pytest.fixture(params=MEMBERS)
def section(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> NetworkSection:
    monkeypatch.setattr(networks_config, "NETWORK", NETWORK)
    return MEMBERS[request.param]


def lively(section: NetworkSection) -> Network:
    """A network whose every weight counts: a small one would hide errors."""
    network = section.build(seed=3).eval()
    generator = torch.Generator().manual_seed(4)
    for parameter in network.parameters():
        fan = max(1, parameter[0].numel())
        parameter.data.normal_(0, fan**-0.5, generator=generator)
    return network


def largest(sr: Tensor) -> float:
    """The largest value, at least 1: errors of float32 grow with the values."""
    return max(1.0, float(sr.abs().max()))


@torch.inference_mode()
def test_the_output_is_larger_by_the_scale(section: NetworkSection) -> None:
    network = section.build(seed=0)
    for height, width in [(4, 4), (16, 8), (6, 10)]:
        sr = network(torch.rand(2, 3, height, width))
        assert sr.shape == (2, 3, height * network.scale, width * network.scale)
    assert network.scale == section.scale


def test_no_lr_pixel_beyond_the_halo_changes_an_output_pixel_and_one_at_it_does(
    section: NetworkSection,
) -> None:
    network = section.build(seed=0)
    for (
        parameter
    ) in network.parameters():  # positive, and far from saturation: no activation hides an influence
        parameter.data.abs_().add_(0.05).mul_(0.1)
    assert network.halo is not None
    size = 2 * network.halo + 10
    at = size // 2
    lr = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0), requires_grad=True)
    s = network.scale
    (gradient,) = torch.autograd.grad(
        network(lr)[..., at * s : (at + 1) * s, at * s : (at + 1) * s].sum(), lr
    )
    reach = int((gradient.abs().sum((0, 1)).nonzero() - at).abs().max())
    # One more is allowed for what rounds up between two grids: a wider halo would only cost time.
    assert network.halo - 2 <= reach <= network.halo


def test_tiles_make_the_image_that_the_whole_makes(
    section: NetworkSection, photos: dict[str, np.ndarray]
) -> None:
    network = lively(section)
    image = photos["coffee"][100:171, 200:281]
    whole = TiledNetwork(network, device=CPU, tile=1000).upscale(image).astype(int)
    tiled = TiledNetwork(network, device=CPU, tile=24).upscale(image)
    assert np.abs(whole - tiled).max() <= 1
    assert (whole != tiled).mean() < 1e-3
    assert whole.std() > 10


def test_the_seed_alone_decides_the_initial_weights(section: NetworkSection) -> None:
    torch.manual_seed(1)
    first = section.build(seed=5)
    torch.manual_seed(2)
    again, other = section.build(seed=5), section.build(seed=6)
    assert first.digest() == again.digest() != other.digest()


def test_weights_read_back_as_the_same_network(section: NetworkSection, tmp_path: Path) -> None:
    network, path = lively(section), tmp_path / "w.safetensors"
    save_weights(path, network.state_dict(), WeightsInfo(section, "bicubic", "id", 7))
    loaded, info = load_weights(path)
    assert (info.network, info.step) == (section, 7)
    assert loaded.digest() == network.digest()
    lr = torch.rand(1, 3, 12, 14)
    with torch.inference_mode():
        assert torch.equal(loaded(lr), network(lr))


def test_what_is_saved_for_use_computes_what_was_trained_and_can_be_trained_on(
    section: NetworkSection,
) -> None:
    network = lively(section)
    with torch.no_grad():
        tensors = network.for_use(network.state_dict())
        used, again = section.for_use.build(seed=None).eval(), section.build(seed=1).eval()
        used.load_state_dict(tensors)
        again.load_state_dict(again.from_use(tensors))
        lr = torch.rand(1, 3, 12, 14)
        sr = network(lr)
        for other in (used, again):
            torch.testing.assert_close(other(lr), sr, atol=1e-5 * largest(sr), rtol=0)
    assert section.for_use.for_use == section.for_use


def test_every_parameter_learns_in_bf16(section: NetworkSection) -> None:
    network = section.build(seed=0).train()
    lr = torch.rand(2, 3, 12, 14, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        sr = network(lr)
    sr.float().square().mean().backward()
    for name, parameter in network.named_parameters():
        # One without a gradient would end a training on several ranks.
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_the_digest_changes_with_any_tensor(section: NetworkSection) -> None:
    network = section.build(seed=5)
    seen = {network.digest()}
    for parameter in network.parameters():
        parameter.data.reshape(-1)[-1] += 1
        seen.add(network.digest())
    assert len(seen) == 1 + len(list(network.parameters()))


# One of each family (srcnn: tests/networks/test_onnxfile.py): an export takes seconds.
@pytest.mark.parametrize(
    "section", ["plain luma", "compact", "fsrcnn", "edsr x4", "span", "tiny"], indirect=True
)
def test_onnxruntime_computes_what_torch_does_at_any_size(section: NetworkSection, tmp_path: Path) -> None:
    network = lively(section)
    export_onnx(network, WeightsInfo(section, "bicubic", "id", 7), tmp_path / "w.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "w.onnx", providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 24, 32), (2, 3, 16, 6), (1, 3, 2, 2)):
        lr = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        (sr,) = session.run(None, {"lr": lr.numpy()})
        with torch.inference_mode():
            expected = network(lr)
        # A hundredth of an 8-bit level: the two add in different orders.
        assert np.abs(sr - expected.numpy()).max() < 0.01 / 255 * largest(expected)
    assert session.get_modelmeta().custom_metadata_map["scale"] == str(network.scale)
