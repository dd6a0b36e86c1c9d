"""Layers of VGG19 from the user's file: torchvision's names and order at small widths, the right file or one line."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from srdist.config import parse
from srdist.losses.config import PerceptualConfig
from srdist.machine.errors import UserError
from srdist.training.losses import Losses
from tests.training.runs import Here

# As torchvision writes VGG19: widths of the convolutions, M where the image is halved (its configuration E).
PLAN = [4, 4, "M", 6, 6, "M", 8, 8, 8, 8, "M", 8, 8, 8, 8, "M", 8, 8, 8, 8, "M"]


def published() -> nn.Sequential:
    """The features as torchvision builds them, thin, with seeded weights."""
    layers: list[nn.Module] = []
    channels = 3
    for width in PLAN:
        if isinstance(width, int):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2))
    features = nn.Sequential(*layers)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in features.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return features


def tensors() -> dict[str, Tensor]:
    named = {f"features.{name}": tensor.detach() for name, tensor in published().named_parameters()}
    return {**named, "classifier.0.weight": torch.zeros(2, 2)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save(tensors(), tmp_path / "vgg19.pth")
    return tmp_path / "vgg19.pth"


def pictures() -> tuple[Tensor, Tensor]:
    sr, hr = torch.rand((2, 2, 3, 35, 40), generator=torch.Generator().manual_seed(1))
    return sr, hr


def test_the_layers_are_those_of_torchvision_before_relu(file: Path) -> None:
    layers: dict[Any, float] = {"conv1_2": 0.5, "conv3_4": 1.0, "conv5_4": 2.0}
    sr, hr = pictures()
    found = PerceptualConfig(weights=str(file), layers=layers).build()(sr, hr)

    def features(images: Tensor) -> dict[str, Tensor]:
        x = (images - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
            [0.229, 0.224, 0.225]
        )[:, None, None]
        made = {}
        for place, layer in enumerate(published()):
            x = layer(x)
            made[place] = x
        return {"conv1_2": made[2], "conv3_4": made[16], "conv5_4": made[34]}

    with torch.no_grad():
        one, other = features(sr), features(hr)
    expected = sum(
        weight * (one[name] - other[name]).abs().mean((1, 2, 3)) for name, weight in layers.items()
    )
    assert isinstance(expected, Tensor)
    torch.testing.assert_close(found, expected)


def test_each_image_counts_for_itself_in_float32_and_its_gradient_reaches_sr_alone(file: Path) -> None:
    losses = Losses([PerceptualConfig(weights=str(file))])
    sr, hr = pictures()
    plain = losses.of_each(sr, hr, None)["perceptual"]
    with torch.autocast("cpu", torch.bfloat16):
        found = losses.of_each(sr.requires_grad_(), hr, None)["perceptual"]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain, rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(found[0], sr)
    assert gradient[0].abs().sum() > 0
    assert gradient[1].abs().sum() == 0
    assert losses.of_each(hr, hr, None)["perceptual"].tolist() == [0, 0]


def test_safetensors_and_pickles_of_the_same_tensors_are_the_same_loss(file: Path, tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "vgg19.safetensors")
    sr, hr = pictures()
    one, other = (
        PerceptualConfig(weights=str(path)).build()(sr, hr) for path in (file, tmp_path / "vgg19.safetensors")
    )
    assert torch.equal(one, other)


def test_the_file_is_held_against_its_hash_and_without_one_the_run_says_it(file: Path) -> None:
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    for given in (sha256, sha256[:8]):
        assert Losses([PerceptualConfig(weights=str(file), sha256=given)]).notes == []
    (note,) = Losses([PerceptualConfig(weights=str(file))]).notes
    assert sha256 in note
    with pytest.raises(UserError, match=f"its sha256 is {sha256}, expected dcbb9e9d"):
        PerceptualConfig(weights=str(file), sha256="dcbb9e9d").build()


def test_without_the_file_one_line_says_how_to_get_it_before_anything_is_written(
    small_set: Path, tmp_path: Path
) -> None:
    losses = "train.losses=[{kind: l1}, {kind: perceptual, weights: gone.pth, sha256: dcbb9e9d}]"
    run = Here(small_set, tmp_path / "run", ("train.loss=null", losses, "train.steps=2"))
    with pytest.raises(
        UserError, match=r"perceptual: gone.pth: no such file; srdist downloads none: .*vgg19"
    ):
        run.train()
    assert not (run.run / "metrics.jsonl").exists()
    assert not (run.run / "config.yaml").exists()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: t.pop("features.16.weight"), "tensor features.16.weight is missing"),
        (lambda t: t.update({"features.16.weight": torch.zeros(8, 5, 3, 3)}), r"expected \(n, 8, 3, 3\)"),
        (lambda t: t.update({"features.16.weight": torch.zeros(())}), r"expected \(n, 8, 3, 3\)"),
        (lambda t: t.update({"features.16.bias": torch.zeros(7)}), r"expected \(n, 8, 3, 3\)"),
        (lambda t: t["features.16.weight"].fill_(torch.nan), "features.16.weight holds NaN or infinity"),
        (lambda t: t.update({"more": "text"}), "expected a state dict of tensors"),
    ],
)
def test_a_file_of_something_else_is_one_line_that_names_the_tensor(
    tmp_path: Path, spoil: Any, words: str
) -> None:
    spoilt = tensors()
    spoil(spoilt)
    path = tmp_path / "vgg19.pth"
    torch.save(spoilt, path)
    with pytest.raises(UserError, match=words) as error:
        PerceptualConfig(weights=str(path)).build()
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["vgg19.pth", "vgg19.safetensors"])
def test_what_is_no_weights_file_is_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for data in (b"", b"\x80\x04K", b"PK\x03\x04" + bytes(100), bytes(2000)):
        path.write_bytes(data)
        with pytest.raises(UserError, match=name):
            PerceptualConfig(weights=str(path)).build()
    with pytest.raises(UserError, match="is no file"):
        PerceptualConfig(weights=str(tmp_path)).build()


def test_layers_and_hashes_that_are_none_are_refused_by_name() -> None:
    def refused(**fields: Any) -> str:
        with pytest.raises(UserError) as error:
            parse(
                {"train": {"losses": [{"kind": "perceptual", "weights": "x", **fields}]}}, source="run.yaml"
            )
        return str(error.value)

    assert "train.losses.0.layers" in refused(layers={"conv6_1": 1.0})
    assert "train.losses.0.layers" in refused(layers={})
    assert "train.losses.0.layers" in refused(layers={"conv1_1": 0.0})
    assert "train.losses.0.sha256" in refused(sha256="not hex at all")
    assert PerceptualConfig(weights="x").smallest_patch == 16
    assert PerceptualConfig(weights="x", layers={"conv2_2": 1.0}).smallest_patch == 2
