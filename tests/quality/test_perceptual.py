"""LPIPS and DISTS through torchmetrics, with networks of seeded weights in the place of torchvision's files."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from srdist.machine.errors import UserError
from srdist.quality import perceptual

ALEXNET = [(3, 64, 11, 4, 2), "relu", "pool", (64, 192, 5, 1, 2), "relu", "pool", (192, 384, 3, 1, 1), "relu"]
ALEXNET += [(384, 256, 3, 1, 1), "relu", (256, 256, 3, 1, 1), "relu", "pool"]
WIDTHS = [64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0]


def features(layers: list[Any], pool: int) -> nn.Sequential:
    made: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, tuple):
            made.append(nn.Conv2d(*layer))
        else:
            made.append(nn.ReLU() if layer == "relu" else nn.MaxPool2d(pool, 2))
    return nn.Sequential(*made)


def vgg16_layers() -> list[Any]:
    layers: list[Any] = []
    before = 3
    for width in WIDTHS:
        layers += [(before, width, 3, 1, 1), "relu"] if width else ["pool"]
        before = width or before
    return layers


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """torchvision's names, as LPIPS and DISTS use them, and its cache with files whose names say how their sha256 begins."""
    home = tmp_path_factory.mktemp("home")
    (home / "hub" / "checkpoints").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TORCH_HOME", str(home))
        stand_in(home / "hub" / "checkpoints", monkeypatch)
        yield home / "hub" / "checkpoints"


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torchvision, models = ModuleType("torchvision"), ModuleType("torchvision.models")
    monkeypatch.setattr(torchvision, "models", models, raising=False)
    monkeypatch.setattr(torchvision, "transforms", ModuleType("transforms"), raising=False)
    monkeypatch.setattr(models, "resnet50", None, raising=False)
    for name, kind, layers, pool in (
        ("alexnet", "AlexNet_Weights", ALEXNET, 3),
        ("vgg16", "VGG16_Weights", vgg16_layers(), 2),
    ):
        torch.manual_seed(0)
        network = nn.ModuleDict({"features": features(layers, pool)})
        torch.save(network.state_dict(), folder / name)
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()[:8]
        (folder / name).rename(folder / f"{name}-{digest}.pth")
        weights = SimpleNamespace(url=f"https://torchvision.invalid/{name}-{digest}.pth")

        def build(*, weights: Any, made: nn.ModuleDict = network) -> Any:
            # As torchvision does; an address that leads nowhere shows that nothing is fetched.
            made.load_state_dict(torch.hub.load_state_dict_from_url(weights.url, check_hash=True))
            return SimpleNamespace(features=made["features"])

        monkeypatch.setattr(models, name, build, raising=False)
        monkeypatch.setattr(models, kind, SimpleNamespace(DEFAULT=weights), raising=False)
    before = [name for name in sys.modules if name.startswith(("torchvision", "torchmetrics"))]
    for name in before:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)


def pair(photos: dict[str, np.ndarray]) -> tuple[Tensor, Tensor]:
    hr = torch.from_numpy(photos["chelsea"][100:180, 100:164].copy()).permute(2, 0, 1)[None]
    soft = nn.functional.avg_pool2d(nn.functional.pad(hr.float(), (2, 2, 2, 2), "reflect"), 5, 1)
    return soft.round().to(torch.uint8), hr


def test_lpips_is_the_weighted_distance_of_normalized_features(
    cache: Path, photos: dict[str, np.ndarray]
) -> None:
    import torchmetrics

    sr, hr = pair(photos)
    found = perceptual.load("lpips", device=torch.device("cpu")).beside(hr, hr)(sr)
    network = nn.ModuleDict({"features": features(ALEXNET, 3)})
    network.load_state_dict(torch.load(next(cache.glob("alexnet-*")), weights_only=True))
    assert torchmetrics.__file__ is not None
    heads_file = Path(torchmetrics.__file__).parent / "functional/image/lpips_models/alex.pth"
    heads = torch.load(heads_file, map_location="cpu", weights_only=True)
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)
    planes = [((image.float() / 127.5 - 1) - shift) / scale for image in (sr, hr)]
    expected, place = 0.0, 0
    with torch.no_grad():
        for layer in network["features"].children():
            planes = [layer(plane) for plane in planes]
            if isinstance(layer, nn.ReLU):
                unit = [plane / plane.square().sum(1, keepdim=True).sqrt().add(1e-8) for plane in planes]
                head = heads[f"lin{place}.model.1.weight"]
                expected += nn.functional.conv2d((unit[0] - unit[1]).square(), head).mean().item()
                place += 1
    assert place == 5
    assert found.tolist() == pytest.approx([expected], rel=1e-3)


@pytest.mark.parametrize("name", ["lpips", "dists"])
def test_equal_images_have_no_distance_and_small_ones_no_number(
    cache: Path, photos: dict[str, np.ndarray], name: perceptual.Perceptual
) -> None:
    sr, hr = pair(photos)
    measure = perceptual.load(name, device=torch.device("cpu"))
    twice = torch.cat([hr, hr])
    itself, other = measure.beside(twice, twice)(torch.cat([hr, sr])).tolist()
    assert itself == pytest.approx(0, abs=1e-5)
    assert other > 1e-3
    assert measure.beside(hr, hr)(sr).tolist() == [other]
    assert measure.beside(hr, hr[..., :31])(sr[..., :31]).isnan().all()
    damaged = next(cache.glob("alexnet-*" if name == "lpips" else "vgg16-*"))
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=rf"{name}: .*{damaged.name} is damaged: its sha256 is"):
        perceptual.load(name, device=torch.device("cpu"))
    damaged.unlink()
    expected = rf"{name} needs .*{damaged.name} .*it comes from https://torchvision.invalid/"
    with pytest.raises(UserError, match=expected):
        perceptual.load(name, device=torch.device("cpu"))
    damaged.write_bytes(whole)


def test_what_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(
        UserError, match=r"lpips needs torchmetrics and the torchvision of this torch"
    ) as refused:
        perceptual.load("lpips", device=torch.device("cpu"))
    assert "\n" not in str(refused.value)
