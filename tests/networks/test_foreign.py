"""Networks that others trained, through the same path as ours."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file

from srdist.cli.main import main
from srdist.machine.errors import UserError
from srdist.networks.config import CompactConfig, SPANConfig, SRCNNConfig
from srdist.networks.foreign import load_network
from srdist.networks.tilednetwork import TiledNetwork
from srdist.networks.weightfile import WeightsInfo, load_weights, save_weights

installed = pytest.mark.skipif(
    importlib.util.find_spec("spandrel") is None,
    reason="spandrel is not installed (pip install 'srdist[spandrel]')",
)


pytestmark = pytest.mark.usefixtures("torchvision")


def architecture(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"spandrel.architectures.{module}"), name)


def compact(channels: int = 3, scale: int = 4) -> Any:
    """A Real-ESRGAN compact network of a few thousand weights."""
    torch.manual_seed(0)
    network = architecture("Compact.__arch.SRVGG", "SRVGGNetCompact")(
        num_in_ch=channels, num_out_ch=channels, num_feat=8, num_conv=2, upscale=scale
    )
    return network.eval()


@installed
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_compact_network_is_recognized_and_its_output_is_its_own(
    tmp_path: Path, photos: dict[str, np.ndarray], suffix: str
) -> None:
    path, network = tmp_path / f"4x_something{suffix}", compact()
    if suffix == ".pth":
        torch.save({"params": network.state_dict()}, path)
    else:
        save_file(network.state_dict(), path)
    loaded = load_network(path)
    assert loaded.scale == 4
    image = photos["chelsea"][:50, :60]
    job = TiledNetwork(loaded, device=torch.device("cpu"))
    with torch.inference_mode():
        lr = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
        wanted = network(lr)[0].clamp(0, 1).mul(255).round().permute(1, 2, 0).numpy()
    assert np.abs(job.upscale(image) - wanted).max() <= 1


@installed
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_of_compact_networks_are_ours_and_ours_are_theirs(tmp_path: Path, suffix: str) -> None:
    theirs, path = compact(scale=2), tmp_path / f"2x{suffix}"
    if suffix == ".pth":
        torch.save({"params_ema": theirs.state_dict()}, path)
    else:
        save_file(theirs.state_dict(), path)
    network, info = load_weights(path)
    assert info.network == CompactConfig(width=8, convolutions=2)
    assert network.halo == 4  # known, so that its tiles meet without fading
    lr = torch.rand(1, 3, 9, 11)
    with torch.inference_mode():
        torch.testing.assert_close(network(lr), theirs(lr))

    section = CompactConfig(width=12, convolutions=1, scale=4)
    ours = section.build(seed=0).eval()
    save_weights(tmp_path / "ours.safetensors", ours.state_dict(), WeightsInfo(section, "bicubic", "", 0))
    spandrel = importlib.import_module("spandrel")
    loaded = spandrel.ModelLoader(device="cpu").load_from_file(tmp_path / "ours.safetensors")
    assert (loaded.architecture.id, loaded.scale) == ("Compact", 4)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(lr), ours(lr))


@installed
def test_span_computes_what_its_authors_network_does() -> None:
    section = SPANConfig(width=8, scale=2)
    ours = section.build(seed=3)
    theirs = architecture("SPAN.__arch.span", "SPAN")(
        num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2
    )
    left_out = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert left_out.unexpected_keys == []
    assert all("eval_conv" in key for key in left_out.missing_keys)
    used = section.for_use.build(seed=None)
    used.load_state_dict(ours.for_use(ours.state_dict()))
    lr = torch.rand(2, 3, 9, 11)
    with torch.inference_mode():
        expected = theirs.train()(lr)
        torch.testing.assert_close(ours(lr), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(used(lr), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(theirs.eval()(lr), expected, atol=1e-5, rtol=1e-5)


@installed
def test_tiles_of_a_deep_network_of_others_show_no_seam(
    tmp_path: Path, photos: dict[str, np.ndarray]
) -> None:
    torch.manual_seed(0)
    network = architecture("ESRGAN.__arch.RRDB", "RRDBNet")(
        in_nc=3, out_nc=3, num_filters=8, num_blocks=2, scale=2
    ).eval()
    torch.save(network.state_dict(), tmp_path / "2x.pth")
    loaded = load_network(tmp_path / "2x.pth")
    assert (loaded.scale, loaded.halo) == (2, None)
    image = photos["coffee"][:160, :150]

    def upscale(tile: int) -> np.ndarray:
        return TiledNetwork(loaded, device=torch.device("cpu"), tile=tile).upscale(image)

    assert np.abs(upscale(48).astype(int) - upscale(500)).max() <= 1


@installed
def test_a_network_for_grey_sees_each_channel(tmp_path: Path, photos: dict[str, np.ndarray]) -> None:
    torch.save(compact(channels=1, scale=2).state_dict(), tmp_path / "grey.pth")
    loaded = load_network(tmp_path / "grey.pth")
    job = TiledNetwork(loaded, device=torch.device("cpu"))
    image = photos["chelsea"][:20, :30]
    large = job.upscale(image)
    assert large.shape == (40, 60, 3)
    assert np.abs(job.upscale(image[..., 1:2])[..., 0].astype(int) - large[..., 1]).max() <= 1


@installed
def test_a_directory_goes_through_a_network_of_others(tmp_path: Path, photos: dict[str, np.ndarray]) -> None:
    torch.save(compact().state_dict(), tmp_path / "4x.pth")
    (tmp_path / "src").mkdir()
    Image.fromarray(photos["chelsea"][:30, :40]).save(tmp_path / "src" / "cat.png")
    told = CliRunner().invoke(
        main, ["upscale", str(tmp_path / "src"), str(tmp_path / "dst"), "--weights", str(tmp_path / "4x.pth")]
    )
    assert told.exit_code == 0, told.output
    assert Image.open(tmp_path / "dst" / "cat.png").size == (160, 120)


@installed
def test_what_nobody_knows_is_one_line(tmp_path: Path) -> None:
    torch.save({"something.weight": torch.zeros(3)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match="spandrel does not know its architecture either"):
        load_network(tmp_path / "x.pth")
    (tmp_path / "y.pth").write_bytes(b"no weights at all")
    with pytest.raises(UserError, match="cannot be read"):
        load_network(tmp_path / "y.pth")


def test_without_spandrel_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)  # as Python marks what cannot be imported
    torch.save({"something.weight": torch.zeros(3)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"pip install 'srdist\[spandrel\]'"):
        load_network(tmp_path / "x.pth")


def test_our_own_weights_need_no_blending(tmp_path: Path) -> None:
    config = SRCNNConfig(widths=(4,), kernels=(3, 3))
    save_weights(
        tmp_path / "w.safetensors", config.build(seed=0).state_dict(), WeightsInfo(config, "bicubic", "", 0)
    )
    loaded = load_network(tmp_path / "w.safetensors")
    assert (loaded.scale, loaded.halo) == (2, 3)
