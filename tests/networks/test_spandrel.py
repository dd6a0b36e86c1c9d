"""Architectures of the spandrel library keep to what our own networks keep to, each in a tiny form."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from click.testing import CliRunner

from benchmarks.architectures import (
    PASSED,
    TINY,
    check_read_back,
    check_seed,
    check_tiles,
    check_training,
    on_two_ranks,
    section,
)
from srdist.cli.main import main
from srdist.machine.errors import UserError
from srdist.networks.architectures import architectures
from srdist.networks.config import CompactConfig, EDSRConfig, NetworkSection, SPANConfig, SpandrelConfig
from srdist.networks.foreign import load_network, start_from
from srdist.networks.weightfile import WeightsInfo, load_weights, save_weights

pytestmark = [
    pytest.mark.usefixtures("torchvision"),
    pytest.mark.skipif(importlib.util.find_spec("spandrel") is None, reason="spandrel is not installed"),
]

QUICK = ("Compact", "MoESR", "RCAN", "SAFMN", "SPAN", "SeemoRe", "SwiftSRGAN", "SwinIR")
"""One of each kind: windows that draw by chance, BatchNorm, branches merged in use, experts, sides that are multiples."""
every = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in TINY]
)


@pytest.fixture
def accelerator() -> Iterator[Accelerator]:
    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


def save(path: Path, network: SpandrelConfig, *, seed: int = 3) -> Path:
    """Weights as a training saves them for use."""
    built = network.build(seed=seed)
    save_weights(path, built.for_use(built.state_dict()), WeightsInfo(network, "bicubic", "id", 7))
    return path


def test_all_that_upscales_is_trained_here_and_the_rest_says_why() -> None:
    known = architectures()
    assert {name for name, found in known.items() if found.why_not is None} == TINY.keys()
    assert known["NAFNet"].why_not == "it restores images and does not upscale them"


@every
def test_the_seed_alone_decides_the_weights(name: str) -> None:
    check_seed(name)


@every
def test_any_size_is_upscaled_and_tiles_fade_into_an_image_like_the_whole(name: str) -> None:
    check_tiles(name)


@pytest.mark.parametrize("name", QUICK)
def test_a_resumed_training_ends_in_the_same_bits(name: str, accelerator: Accelerator) -> None:
    check_training(name, accelerator, precision="fp32")


@every
def test_what_is_saved_reads_back_here_and_in_spandrel_as_the_same_network(name: str, tmp_path: Path) -> None:
    check_read_back(name)
    network = section(name).build(seed=3).eval()
    loaded, info = load_weights(save(tmp_path / "w.safetensors", section(name)))
    assert info.network == section(name)
    assert {key: tensor.dtype for key, tensor in loaded.state_dict().items()} == {
        key: tensor.dtype for key, tensor in network.state_dict().items()
    }
    theirs = (
        importlib.import_module("spandrel")
        .ModelLoader(device="cpu")
        .load_from_file(tmp_path / "w.safetensors")
    )
    lr = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        sr = network(lr)
        assert torch.equal(loaded(lr), sr)
        torch.testing.assert_close(
            theirs.model.eval()(lr.clone()), sr, atol=1e-4 * max(1, float(sr.abs().max())), rtol=0
        )


@pytest.mark.slow
def test_all_of_them_train_on_two_ranks_and_resume_bit_for_bit(tmp_path: Path) -> None:
    assert on_two_ranks(list(TINY), "fp32", tmp_path) == dict.fromkeys(
        TINY, PASSED
    )  # bf16: benchmarks.architectures


def test_images_of_a_batch_do_not_look_at_each_other_in_use() -> None:
    network = section("SeemoRe").build(seed=3).eval()  # which routes a batch by its first image
    lr = torch.rand(3, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        kept = lr.clone()
        alone = torch.cat([network(image[None]) for image in lr])
        assert torch.equal(network(lr), alone)
    assert torch.equal(lr, kept)


def test_what_is_merged_for_use_is_merged_in_the_file() -> None:
    network = section("SPAN").build(seed=3)
    name = "conv_1.eval_conv.weight"
    before = network.state_dict()[name].clone()
    used = network.for_use(network.state_dict())
    assert not torch.equal(used[name], before)
    assert torch.equal(network.state_dict()[name], before)  # the one in training is left alone
    assert torch.equal(network.for_use(used)[name], used[name])


def test_arguments_that_change_no_pixel_make_no_finished_image_anew() -> None:
    def digest(**arguments: Any) -> str:
        return (
            SpandrelConfig(architecture="SwinIR", arguments=TINY["SwinIR"] | arguments).build(seed=1).digest()
        )

    assert digest() == digest(drop_path_rate=0.3, use_checkpoint=True) != digest(img_range=255.0)


# Bad input.


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"architecture": "SPEN"}, "model.architecture: found 'SPEN', did you mean SPAN?"),
        ({"architecture": "swin-ir"}, "model.architecture: found 'swin-ir', did you mean SwinIR?"),
        ({"architecture": "RRDBNet"}, "model.architecture: found 'RRDBNet', did you mean ESRGAN?"),
        (
            {"architecture": "xyz"},
            "model.architecture: found 'xyz', the architectures are: ATD, CRAFT, Compact",
        ),
        ({"architecture": "NAFNet"}, "model.architecture: NAFNet is not trained here: it restores images"),
        ({"architecture": "AuraSR"}, "AuraSR is not trained here: it draws noise while it upscales"),
        ({"architecture": "SRFormer"}, "for its licence (non-commercial), and not in spandrel"),
        (
            {"architecture": "SPAN", "arguments": {"feature_chanels": 8}},
            "model.arguments.feature_chanels: no such argument (found 8), did you mean feature_channels?",
        ),
        (
            {"architecture": "Compact", "arguments": {"xyz": 8}},
            "no such argument (found 8), the arguments of Compact are: num_in_ch, num_out_ch, num_feat",
        ),
        ({"architecture": "SAFMN"}, "model.arguments.dim: missing, and SAFMN has no default for it"),
        (
            {"architecture": "SwinIR", "arguments": {"depths": 6}},
            "model.arguments.depths: found 6, expected: a valid array (its default is [6, 6, 6, 6])",
        ),
        (
            {"architecture": "SwinIR", "arguments": {"depths": [6, "six"]}},
            "model.arguments.depths.1: found 'six', expected: a valid integer",
        ),
        (
            {"architecture": "SwinIR", "arguments": {"patch_norm": 1}},
            "model.arguments.patch_norm: found 1, expected: a valid boolean (its default is true)",
        ),
        (
            {"architecture": "SPAN", "arguments": {"norm": "yes"}},
            "model.arguments.norm: found 'yes', expected",
        ),
        (
            {"architecture": "Compact", "arguments": {"num_feat": 8.5}},
            "model.arguments.num_feat: found 8.5, expected a whole number (its default is 64)",
        ),
        (
            {"architecture": "HAT", "arguments": {"norm_layer": "LayerNorm"}},
            "model.arguments.norm_layer: takes Python code, which a config cannot give",
        ),
        (
            {"architecture": "PLKSR", "arguments": {"ccm_type": "CCN"}},
            "model.arguments.ccm_type: found 'CCN', expected: 'CCM', 'ICCM' or 'DCCM' (its default is \"CCM\")",
        ),
        (
            {"architecture": "SPAN", "arguments": {"upscale": 2}},
            "model.arguments.upscale: the scale is told by model.scale alone",
        ),
        ({"architecture": "RealCUGAN", "scale": 5}, "model.scale: found 5, RealCUGAN has 2, 3, 4"),
        (
            {"architecture": "HAT", "scale": 5, "arguments": TINY["HAT"]},
            "model.scale: found 5, HAT with these arguments has 2, 3, 4, 8",
        ),
        # Which it makes a network of, that upscales by 4.
        (
            {"architecture": "ESRGAN", "scale": 5, "arguments": TINY["ESRGAN"]},
            "model.scale: found 5, ESRGAN with these arguments has 2, 4, 8",
        ),
        (
            {"architecture": "Compact", "arguments": {"num_in_ch": 1, "num_out_ch": 1}},
            "Compact cannot be made of them at x2: takes 1 channels and makes 1, expected RGB: 3 and 3",
        ),
        (
            {"architecture": "SwinIR"},  # whose window of 7 does not divide its image of 64
            "(the defaults of many classes make no usable network: docs/networks.md)",
        ),
    ],
)
def test_what_spandrel_does_not_have_is_one_line(model: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as refused:
        SpandrelConfig.model_validate(model).build(seed=0)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_spandrel_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setitem(sys.modules, "spandrel", None)  # as Python marks what cannot be imported
    with pytest.raises(
        UserError, match=r"model\.family: spandrel is needed: pip install 'srdist\[spandrel\]'"
    ):
        section("SPAN").build(seed=0)


def test_a_file_that_claims_a_network_much_larger_than_itself_is_refused(tmp_path: Path) -> None:
    huge = SpandrelConfig(architecture="Compact", arguments={"num_feat": 100_000})
    tensors = section("Compact").build(seed=0).state_dict()
    save_weights(tmp_path / "w.safetensors", tensors, WeightsInfo(huge, "bicubic", "", 0))
    with pytest.raises(UserError, match=r"w\.safetensors: the network that the file claims has more than"):
        load_weights(tmp_path / "w.safetensors")


# From and to other programs.


def test_weights_of_another_program_are_a_start(tmp_path: Path) -> None:
    theirs = importlib.import_module("spandrel.architectures.SPAN").SPAN(
        num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2
    )
    torch.save({"params_ema": theirs.state_dict()}, tmp_path / "2x.pth")
    network = section("SPAN").build(seed=3)
    start_from(network, section("SPAN"), str(tmp_path / "2x.pth"))
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor)


def test_weights_of_another_family_are_no_start(tmp_path: Path) -> None:
    path = save(tmp_path / "w.safetensors", section("SPAN"))
    wanted = section("SwinIR")
    with pytest.raises(UserError) as refused:
        start_from(wanted.build(seed=0), wanted, str(path))
    assert (
        "the file holds a network of family spandrel, SPAN, this run trains a network of family spandrel, SwinIR"
        in str(refused.value)
    )


@pytest.mark.parametrize(
    "network",
    [
        CompactConfig(width=8, convolutions=2, scale=4),
        SPANConfig(width=8, scale=3),
        SpandrelConfig(architecture="OmniSR", arguments=TINY["OmniSR"]),
    ],
    ids=["compact", "span", "OmniSR"],
)
def test_an_exported_network_is_the_same_to_programs_built_on_spandrel(
    network: NetworkSection, tmp_path: Path
) -> None:
    built = network.build(seed=3)
    weights, out = tmp_path / "w.safetensors", tmp_path / "theirs.safetensors"
    save_weights(weights, built.for_use(built.state_dict()), WeightsInfo(network.for_use, "bicubic", "", 0))
    told = CliRunner().invoke(main, ["export", str(weights), "--spandrel", str(out)])
    assert told.exit_code == 0, told.output
    theirs = importlib.import_module("spandrel").ModelLoader(device="cpu").load_from_file(out)
    lr = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(theirs.model.eval()(lr), load_network(weights)(lr), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (
            EDSRConfig(width=8, blocks=1),
            "spandrel has no network that computes what this one does (family edsr)",
        ),
        (SPANConfig(width=8, blocks=2), "it has compact, span with 6 blocks"),
        (
            SpandrelConfig(architecture="SPAN", arguments={"feature_channels": 8, "img_range": 1.0}),
            "it takes them for SPAN with img_range 255.0 instead of 1.0, which computes other pixels",
        ),
    ],
    ids=["edsr", "span", "SPAN"],
)
def test_what_spandrel_would_take_for_another_network_is_not_exported(
    network: NetworkSection, words: str, tmp_path: Path
) -> None:
    built = network.build(seed=3)
    weights, out = tmp_path / "w.safetensors", tmp_path / "theirs.safetensors"
    save_weights(weights, built.for_use(built.state_dict()), WeightsInfo(network.for_use, "bicubic", "", 0))
    told = CliRunner().invoke(main, ["export", str(weights), "--spandrel", str(out)])
    assert told.exit_code == 2
    assert words in told.stderr
    assert not out.exists()


def test_export_says_what_it_cannot_do(tmp_path: Path) -> None:
    weights = save(tmp_path / "w.safetensors", section("Compact"))
    for arguments, words in (
        (["--onnx", str(tmp_path / "w.onnx")], "networks of family spandrel have no ONNX form here"),
        (["--spandrel", str(tmp_path / "w.pth")], "w.pth: expected a name that ends in .safetensors"),
        ([], "give one of --onnx FILE and --spandrel FILE"),
    ):
        told = CliRunner().invoke(main, ["export", str(weights), *arguments])
        assert told.exit_code == 2
        assert words in told.stderr
