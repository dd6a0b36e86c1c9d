"""Plain networks: convolutions that are trained as several and used as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from srdist.config import Config
from srdist.images.resize import upscale_float
from srdist.networks.collapse import CollapsedConvolution
from srdist.networks.config import Collapse, PlainConfig
from srdist.networks.weightfile import load_weights
from srdist.runs import checkpoint
from srdist.training.trainer import Trainer
from tests.training.runs import assert_equal_states


@pytest.mark.parametrize("edges", [True, False])
@pytest.mark.parametrize(("inputs", "outputs", "kernel"), [(3, 5, 5), (6, 6, 3), (4, 12, 3), (4, 4, 1)])
def test_a_collapsed_convolution_is_the_branches_one_by_one(
    inputs: int, outputs: int, kernel: int, edges: bool
) -> None:
    layer = CollapsedConvolution(inputs, outputs, kernel, Collapse(expand=16, edges=edges))
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, inputs, 9, 11)
    wide = F.conv2d(x, layer.expand, padding=kernel // 2)
    expected = F.conv2d(wide, layer.project[:, :, None, None], layer.bias)
    if inputs == outputs:
        expected = expected + x
    if layer.edges is not None:
        sobel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
        laplace = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
        for mix, edge in zip(layer.edges, (sobel, sobel.T, laplace), strict=True):
            mixed = F.conv2d(x, mix[:, :, None, None])
            expected = expected + F.conv2d(mixed, edge.expand(outputs, 1, 3, 3), padding=1, groups=outputs)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)
    assert (layer.edges is not None) == (edges and kernel == 3)


def test_luma_alone_is_changed_where_luma_is_what_the_network_sees(photos: dict[str, np.ndarray]) -> None:
    network = PlainConfig(kernels=(3, 3), widths=(8,), channels="luma").build(seed=0).eval()
    network.get_parameter("conv2.weight").data.mul_(100)
    lr = torch.from_numpy(photos["chelsea"][:20, :30].copy()).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        change = network(lr) - upscale_float(lr, scale=2, kernel="bicubic")
    assert change.abs().mean() > 0.01
    torch.testing.assert_close(change[:, :1].expand(-1, 3, -1, -1), change)  # Cb and Cr stay


def test_a_new_network_starts_at_its_base(photos: dict[str, np.ndarray]) -> None:
    lr = torch.from_numpy(photos["chelsea"][:40, :50].copy()).permute(2, 0, 1)[None] / 255
    base = upscale_float(lr, scale=2, kernel="bicubic")
    for collapse in (None, Collapse()):
        with torch.inference_mode():
            sr = PlainConfig(collapse=collapse).build(seed=0)(lr)
        assert 1e-5 < (sr - base).square().mean().sqrt() < 0.03


def train(shards: Path, run: Path, *, steps: int, **train: object) -> None:
    values = {
        "data": {"shards": str(shards), "hr_patch": 16, "workers": 0},
        "model": {"family": "plain", "kernels": [3, 3, 3], "widths": [6, 6], "collapse": {"expand": 12}},
        "train": {"steps": steps, "global_batch": 4, "decay_steps": 4, "validate_every": 2, "threads": 1}
        | train,
        "log": {"wandb": "disabled"},
    }
    with Trainer(Config.model_validate(values), run=run, quiet=True) as trainer:
        trainer.fit()


def test_a_collapsed_network_is_trained_resumed_and_saved_as_plain_convolutions(
    small_set: Path, tmp_path: Path
) -> None:
    train(small_set, tmp_path / "whole", steps=4, ema_decay=0.9)
    train(small_set, tmp_path / "run", steps=2, ema_decay=0.9)
    train(small_set, tmp_path / "run", steps=4, ema_decay=0.9)
    ends = [checkpoint.newest(tmp_path / name / "checkpoints") for name in ("whole", "run")]
    assert ends[0] is not None
    assert ends[1] is not None
    assert_equal_states(ends[0][1], ends[1][1])
    assert {"conv1.expand", "ema.conv2.project"} <= set(ends[1][1].model)

    best = tmp_path / "run" / "best.safetensors"
    assert set(load_file(best)) == {f"conv{i}.{part}" for i in (1, 2, 3) for part in ("weight", "bias")} | {
        "act1.weight",
        "act2.weight",
    }
    network, info = load_weights(best)
    assert info.network == PlainConfig(kernels=(3, 3, 3), widths=(6, 6))

    # A training that starts from them starts where they stand.
    train(
        small_set,
        tmp_path / "next",
        steps=1,
        init_from=str(best),
        learning_rate=1e-9,
        final_learning_rate=0.0,
    )
    begun = load_weights(tmp_path / "next")[0]
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(begun.state_dict()[name], tensor, atol=1e-6, rtol=1e-5)
