"""Our networks as ONNX files, run by onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner

from srdist.cli.main import main
from srdist.networks.config import SRCNNConfig
from srdist.networks.weightfile import WeightsInfo, save_weights


@pytest.mark.parametrize(
    "config",
    [
        SRCNNConfig(widths=(12, 8)),
        SRCNNConfig(widths=(12, 8), kernels=(9, 1, 5), residual=False, pre_kernel="bilinear", last_relu=True),
        SRCNNConfig(widths=(12, 8), scale=3, upscale="after"),
    ],
)
def test_onnxruntime_computes_what_torch_does_at_any_size(tmp_path: Path, config: SRCNNConfig) -> None:
    network = config.build(seed=0).eval()
    save_weights(tmp_path / "w.safetensors", network.state_dict(), WeightsInfo(config, "bicubic", "id", 7))
    out = tmp_path / "w.onnx"
    told = CliRunner().invoke(main, ["export", str(tmp_path / "w.safetensors"), "--onnx", str(out)])
    assert (told.exit_code, told.stdout) == (0, f"{out}\n"), told.output
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 24, 32), (2, 3, 17, 5), (1, 3, 1, 1), (1, 3, 70, 41)):
        lr = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        (sr,) = session.run(None, {"lr": lr.numpy()})
        with torch.inference_mode():
            # A hundredth of an 8-bit level: the two add in different orders.
            assert np.abs(sr - network(lr).numpy()).max() < 0.01 / 255
    assert session.get_modelmeta().custom_metadata_map["scale"] == str(config.scale)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".onnx" or ".tmp" in path.name] == [
        "w.onnx"
    ]
