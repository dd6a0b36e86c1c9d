"""The network: its shape, its start, and how far its output looks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from srdist.images.pixels import to_float
from srdist.images.resize import upscale_float
from srdist.networks.config import SRCNNConfig
from srdist.networks.srcnn import SRCNN
from srdist.networks.weightfile import load_weights


def config(**fields: object) -> SRCNNConfig:
    return SRCNNConfig.model_validate(fields)


def test_the_default_shape_has_the_seeds_parameters() -> None:
    assert sum(parameter.numel() for parameter in SRCNN(config()).parameters()) == 79_107


@pytest.mark.parametrize("upscale", ["before", "after"])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("residual", [True, False])
def test_the_output_is_larger_by_the_scale(upscale: str, scale: int, residual: bool) -> None:
    model = SRCNN(config(upscale=upscale, scale=scale, residual=residual, kernels=(5, 1, 3), widths=(4, 6)))
    for height, width in [(1, 1), (3, 7), (16, 9)]:
        assert model(torch.rand(2, 3, height, width)).shape == (2, 3, height * scale, width * scale)


@pytest.mark.parametrize("upscale", ["before", "after"])
def test_a_new_residual_network_starts_near_bicubic(photos: dict[str, np.ndarray], upscale: str) -> None:
    lr = to_float(torch.from_numpy(photos["chelsea"][:60, :80].copy()).permute(2, 0, 1).unsqueeze(0))
    with torch.inference_mode():
        sr = config(upscale=upscale).build(seed=0)(lr)
    # A bicubic image of this photo is 0.02 off the original: the start must be no worse than that.
    assert (sr - upscale_float(lr, scale=2, kernel="bicubic")).square().mean().sqrt() < 0.02


def test_the_seed_decides_the_initial_weights_and_the_global_generator_does_not() -> None:
    torch.manual_seed(1)
    first = config().build(seed=5).state_dict()
    torch.manual_seed(2)
    again, other = config().build(seed=5).state_dict(), config().build(seed=6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


@pytest.mark.parametrize("upscale", ["before", "after"])
@pytest.mark.parametrize(
    ("scale", "kernels"), [(2, (3, 3, 3)), (2, (9, 5, 5)), (3, (9, 1, 5)), (4, (3, 3, 3))]
)
def test_no_lr_pixel_beyond_the_halo_changes_an_output_pixel(
    upscale: str, scale: int, kernels: tuple[int, ...]
) -> None:
    model = config(upscale=upscale, scale=scale, kernels=kernels, widths=(4, 4)).build(seed=0)
    for parameter in model.parameters():  # positive and large: no ReLU hides an influence
        parameter.data.abs_().add_(0.05)
    size, at = 41, 20
    lr = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    lr.requires_grad_(True)
    tile = model(lr)[..., at * scale : (at + 1) * scale, at * scale : (at + 1) * scale]
    (gradient,) = torch.autograd.grad(tile.sum(), lr)
    reached = gradient.abs().sum((0, 1)).nonzero()
    reach = int((reached - at).abs().max())
    assert model.halo is not None
    assert reach <= model.halo
    assert reach >= model.halo - 2  # the halo is not much wider than it must be: tiles would cost more


@pytest.mark.shared_data
def test_the_seeds_weights_make_the_seeds_network(shared_data: Path) -> None:
    path = shared_data / "seed" / "weights_1em3.pth"
    state = torch.load(path, map_location="cpu", weights_only=True)
    layers = []
    for i, (inputs, outputs) in enumerate([(3, 128), (128, 64), (64, 3)], start=1):
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
        convolution.load_state_dict({name: state[f"conv{i}.{name}"] for name in ("weight", "bias")})
        layers += [convolution, nn.ReLU()]
    model, info = load_weights(path)
    lr = torch.rand(1, 3, 20, 30)
    with torch.inference_mode():
        expected = nn.Sequential(*layers)(upscale_float(lr, scale=2, kernel="bilinear"))
        torch.testing.assert_close(model(lr), expected)
    assert info.kernel == "bilinear"
