"""Weights as one file: what is written reads back, and what is something else is refused by name."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file

from srdist.machine.errors import UserError
from srdist.networks import weightfile
from srdist.networks.config import SRCNNConfig
from srdist.networks.weightfile import WeightsInfo, load_weights, save_weights

SHAPE = SRCNNConfig(scale=3, kernels=(5, 3), widths=(6,), upscale="after")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    save_weights(path, SHAPE.build(seed=4).state_dict(), WeightsInfo(SHAPE, "box", "abc", 12))
    return path


def test_weights_read_back_with_all_that_they_say_of_themselves(saved: Path) -> None:
    model, info = load_weights(saved)
    expected = SHAPE.build(seed=4)
    assert info == WeightsInfo(SHAPE, "box", "abc", 12)
    assert not model.training
    assert model.config == SHAPE
    for name, tensor in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_the_file_is_plain_safetensors(saved: Path) -> None:
    assert set(load_file(saved)) == {"conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"}
    with safe_open(saved, framework="pt") as file:
        assert file.metadata()["kernel"] == "box"


def test_a_run_folder_means_its_best_weights_else_its_last(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(UserError, match=r"run: a folder without best\.safetensors or last\.safetensors"):
        load_weights(run)
    for step, name in [(7, "last"), (5, "best")]:
        save_weights(
            run / f"{name}.safetensors",
            SHAPE.build(seed=0).state_dict(),
            WeightsInfo(SHAPE, "box", "", step),
        )
        assert load_weights(run)[1].step == step


def test_the_name_of_bundled_weights_is_found_and_an_unknown_one_is_told_the_names(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weightfile, "BUNDLED", saved.parent)
    monkeypatch.chdir("/")
    assert load_weights("net")[1].step == 12
    with pytest.raises(UserError, match=r"nett: no such weights file; bundled weights: net$"):
        load_weights("nett")
    with pytest.raises(UserError, match="no such weights file"):
        load_weights(tmp_path / "gone" / "net")


def refused(path: Path, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        load_weights(path)
    assert str(path) in str(error.value)
    assert error.value.exit_code == 2
    assert len(str(error.value)) < 600


def test_other_files_are_refused_by_name(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    for name, data in [("text", b"hello"), ("empty", b""), ("cut", whole[: len(whole) // 2])]:
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(data)
        refused(path, "not a safetensors file")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"conv1.weight": torch.zeros(3)}, foreign)
    refused(foreign, "expected the seed's tensors conv1.weight, conv1.bias")


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"network": "{"}, "damaged metadata"),
        ({"network": "{}", "step": "many"}, "damaged metadata"),
        ({"network": '{"scale": 1}'}, "damaged metadata"),
        ({"network": "[" * 200_000}, "damaged metadata"),
        ({"network": '{"widths": ' + str([0] * 500) + "}"}, "network: widths.0: found 0, expected"),
        ({"step": "9" * 5000}, "damaged metadata"),
        ({"srdist": "99"}, "weights of format '99', expected '1'"),
    ],
)
def test_damaged_metadata_are_refused(saved: Path, metadata: dict[str, str], words: str) -> None:
    with safe_open(saved, framework="pt") as file:
        kept = dict(file.metadata())
    save_file(load_file(saved), saved, metadata=kept | metadata)
    refused(saved, words)


def test_tensors_of_another_network_are_refused_by_name(saved: Path) -> None:
    with safe_open(saved, framework="pt") as file:
        metadata = dict(file.metadata())
    tensors = load_file(saved)
    for changed, words in [
        ({**tensors, "conv1.bias": torch.zeros(5)}, r"conv1\.bias has shape \(5,\), expected \(6,\)"),
        ({**tensors, "conv9.bias": torch.zeros(5)}, r"conv9\.bias is not in this network"),
        (
            {name: tensor for name, tensor in tensors.items() if name != "conv2.weight"},
            r"conv2\.weight is missing",
        ),
    ]:
        save_file(changed, saved, metadata=metadata)
        refused(saved, words)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_tensor_that_is_not_finite_is_refused_by_name(tmp_path: Path, value: float, suffix: str) -> None:
    shape = SRCNNConfig(kernels=(3, 3), widths=(4,), residual=False, last_relu=True, pre_kernel="bilinear")
    tensors = shape.build(seed=1).state_dict()
    tensors["conv2.weight"][1, 2, 0, 1] = value
    path = tmp_path / f"net{suffix}"
    if suffix == ".pth":
        torch.save(tensors, path)
    else:
        save_weights(path, tensors, WeightsInfo(shape, "bicubic", "", 0))
    refused(path, r"tensor conv2\.weight holds NaN or infinity")


def test_a_network_that_is_claimed_to_be_huge_is_refused_before_there_is_memory_for_it(
    saved: Path, tmp_path: Path
) -> None:
    huge = SRCNNConfig(scale=2, kernels=(31,) * 40, widths=(4096,) * 39)  # 2.4 TB
    with safe_open(saved, framework="pt") as file:
        metadata = dict(file.metadata())
    save_file(load_file(saved), saved, metadata=metadata | {"network": huge.model_dump_json()})
    refused(saved, r"conv1\.bias has shape \(6,\), expected \(4096,\)")
    stretched = {
        "conv1.weight": torch.zeros(1).expand(4096, 3, 31, 31),
        "conv1.bias": torch.zeros(1).expand(4096),
        "conv2.weight": torch.zeros(1).expand(3, 4096, 31, 31),
        "conv2.bias": torch.zeros(3),
    }
    torch.save(stretched, tmp_path / "stretched.pth")
    refused(tmp_path / "stretched.pth", r"conv1\.weight is no plain array of its shape \(4096, 3, 31, 31\)")


def test_tensors_of_whole_numbers_are_refused(saved: Path) -> None:
    with safe_open(saved, framework="pt") as file:
        metadata = dict(file.metadata())
    tensors = load_file(saved)
    save_file(tensors | {"conv1.bias": tensors["conv1.bias"].long()}, saved, metadata=metadata)
    refused(saved, r"tensor conv1\.bias is of type I64, expected F32")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_damaged_anywhere_is_one_line_or_still_a_network(tmp_path: Path, suffix: str) -> None:
    shape = SRCNNConfig(kernels=(3, 3), widths=(4,), residual=False, last_relu=True, pre_kernel="bilinear")
    tensors, path = shape.build(seed=1).state_dict(), tmp_path / f"net{suffix}"
    if suffix == ".pth":
        torch.save(tensors, path)
    else:
        save_weights(path, tensors, WeightsInfo(shape, "bicubic", "", 0))
    whole, draw, refusals = path.read_bytes(), random.Random(0), 0
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(draw.choice([1, 2, 30])):
            damaged[draw.randrange(draw.choice([600, len(damaged)]))] = draw.randrange(256)
        path.write_bytes(bytes(damaged[: draw.choice([len(damaged), draw.randrange(len(damaged))])]))
        try:
            network, _ = load_weights(path)
        except UserError:
            refusals += 1
        else:
            assert all(tensor.isfinite().all() for tensor in network.state_dict().values())
    assert refusals > 200


def test_a_seed_file_is_read_by_the_shapes_of_its_tensors(tmp_path: Path) -> None:
    path = tmp_path / "seed.pth"
    shape = SRCNNConfig(
        kernels=(9, 1, 5), widths=(8, 4), residual=False, last_relu=True, pre_kernel="bilinear"
    )
    state = shape.build(seed=1).state_dict()
    torch.save(state, path)
    model, info = load_weights(path)
    assert model.config == shape
    assert info.kernel == "bilinear"
    assert torch.equal(model.state_dict()["conv2.weight"], state["conv2.weight"])


class _Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("was-run",)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    torch.save({"conv1.weight": _Runs()}, path)
    refused(path, "cannot be read as a plain state dict")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(_Runs(), protocol=2))
    refused(tmp_path / "plain.pth", "cannot be read as a plain state dict")
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "expected a state dict of tensors, found list"),
        ({"conv1.weight": 3}, "expected a state dict of tensors"),
        ({}, "expected the seed's tensors"),
        ({"fc.weight": torch.zeros(3, 3), "fc.bias": torch.zeros(3)}, "expected the seed's tensors"),
        ({"conv1.weight": torch.zeros(3), "conv1.bias": torch.zeros(3)}, "expected the seed's tensors"),
        (
            {"conv1.weight": torch.zeros(3, 3, 2, 2), "conv1.bias": torch.zeros(3)},
            "kernels must be odd",
        ),
    ],
)
def test_pth_files_that_are_not_the_seeds_are_refused(tmp_path: Path, content: object, words: str) -> None:
    path = tmp_path / "other.pth"
    torch.save(content, path)
    refused(path, words)
