"""A network of ours as an ONNX file: for programs without torch.

In goes a network, out comes a file with the input `lr` and the output `sr`, float32 RGB in [0, 1], [n, 3, h, w]; n, h and w
are free. The output is not clamped.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import torch

from srdist.machine.errors import UserError
from srdist.machine.files import named_file
from srdist.networks.network import Network
from srdist.networks.spandrelnetwork import SpandrelNetwork
from srdist.networks.weightfile import WeightsInfo

INSTALL = "pip install 'srdist[onnx]'"


def export_onnx(network: Network, info: WeightsInfo, out: Path) -> None:
    """Write `network` as a whole ONNX file, with its scale and what made LR in training as metadata.

    Raises:
        UserError: a network of family spandrel, whose batches go through one by one; or the libraries that make ONNX files are not installed.
    """
    if isinstance(network, SpandrelNetwork):
        raise UserError(
            f"{out}: networks of family spandrel have no ONNX form here; --spandrel FILE writes one for programs built on it"
        )
    dimension = torch.export.Dim
    try:
        with warnings.catch_warnings():
            # The exporter warns of its own insides, and of libraries that this network does not use.
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            program = torch.onnx.export(
                network,
                (torch.zeros(2, 3, 24, 32),),
                dynamo=True,
                dynamic_shapes={"lr": {0: dimension("n"), 2: dimension("h"), 3: dimension("w")}},
                input_names=["lr"],
                output_names=["sr"],
                verbose=False,
            )
    except ImportError as error:
        raise UserError(f"ONNX export needs {error.name or 'onnxscript'}: {INSTALL}") from error
    assert program is not None
    program.model.metadata_props.update(
        {"scale": str(network.scale), "kernel": info.kernel, "manifest_id": info.manifest_id}
    )
    if info.degradation:
        program.model.metadata_props["degradation"] = info.degradation
    with named_file(out) as temporary:
        program.save(temporary, external_data=False)
