"""In which numbers a network computes when it is used: float32, or half as many bits where the machine is made for them.

Half precision is for the convolutions alone. A network that adds its last layer to an upscaling does that sum in
float32, so that of 8-bit outputs a few in a hundred move by one level (docs/log.md); images of 16 bits stay in float32.
"""

from __future__ import annotations

from typing import Literal, assert_never

import torch

from srdist.machine.errors import UserError
from srdist.networks.network import Network

Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""auto: bf16 where the device computes in it natively and the network's last sum is in float32; else fp32."""


def number_type(precision: Precision, network: Network, *, device: torch.device) -> torch.dtype:
    """What the convolutions of `network` compute in on `device`.

    Raises:
        UserError: fp16 on a CPU, or a precision that this network cannot be computed in.
    """
    match precision:
        case "fp32":
            return torch.float32
        case "auto":
            fits = network.sums_in_float32 and "bf16" in network.precisions and has_bf16(device)
            return torch.bfloat16 if fits else torch.float32
        case "bf16" | "fp16":
            if precision == "fp16" and device.type == "cpu":
                raise UserError("--precision fp16: needs a GPU; on a CPU take auto, bf16 or fp32")
            if precision not in network.precisions:
                raise UserError(f"--precision {precision}: this network is not made for it; take fp32")
            return torch.bfloat16 if precision == "bf16" else torch.float16
        case _:
            assert_never(precision)


def has_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; where it has none, bf16 costs more than it saves."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def name_of(kind: torch.dtype) -> str:
    """As --precision calls it."""
    return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[kind]
