"""How good for how much work: the bundled weights beside bicubic and published networks, a row each.

For `python -m benchmarks.weights --pareto DIR`. Quality is by MATLAB's LR images and the protocol of docs/quality.md. Time is that
of the processor, on one thread, in alternated rounds: other programs on the machine make it longer by what they take of its caches
and clock, but not by what they take of its time.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from srdist.networks.config import EDSRConfig, FSRCNNConfig, NetworkSection, SRCNNConfig
from srdist.networks.network import Network
from srdist.networks.precision import Precision, has_bf16
from srdist.networks.weightfile import load_weights
from srdist.quality.scores import baseline, network_method
from srdist.quality.table import QualityTable

SIDE = 480
"""Of the output that is timed, in pixels: a multiple of every scale."""
HD_READY = 1280 * 720
"""Pixels of the output that multiply-adds are given for, as in the literature."""
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Published:
    """A network as its authors, and tables after them, state it; `section` is what is timed here, with random weights."""

    name: str
    parameters: int
    giga_multiply_adds: float
    set5_db: float
    set14_db: float
    section: NetworkSection
    source: str


SRCNN = "Dong et al., TPAMI 2016 (9-5-5, luma)"
FSRCNN = "Dong et al., ECCV 2016 (56, 12, 4, luma)"
VDSR = "Kim et al., CVPR 2016 (20 layers, luma)"
EDSR = "Lim et al., CVPRW 2017 (64 channels, 16 blocks)"


def _srcnn(scale: int) -> SRCNNConfig:
    return SRCNNConfig(scale=scale, kernels=(9, 5, 5), widths=(64, 32), residual=False)


def _vdsr(scale: int) -> SRCNNConfig:
    return SRCNNConfig(scale=scale, kernels=(3,) * 20, widths=(64,) * 19)


def _fsrcnn(scale: int) -> FSRCNNConfig:
    return FSRCNNConfig(scale=scale, channels="luma")


PUBLISHED: dict[int, tuple[Published, ...]] = {
    2: (
        Published("SRCNN", 57_184, 52.7, 36.66, 32.42, _srcnn(2), SRCNN),
        Published("FSRCNN", 12_464, 6.0, 37.00, 32.63, _fsrcnn(2), FSRCNN),
        Published("VDSR", 664_704, 612.6, 37.53, 33.03, _vdsr(2), VDSR),
        Published("EDSR-baseline", 1_369_859, 316.3, 37.99, 33.57, EDSRConfig(), EDSR),
    ),
    3: (
        Published("SRCNN", 57_184, 52.7, 32.75, 29.28, _srcnn(3), SRCNN),
        Published("FSRCNN", 12_464, 5.0, 33.16, 29.43, _fsrcnn(3), FSRCNN),
        Published("VDSR", 664_704, 612.6, 33.66, 29.77, _vdsr(3), VDSR),
        Published("EDSR-baseline", 1_554_499, 160.2, 34.37, 30.28, EDSRConfig(scale=3), EDSR),
    ),
    4: (
        Published("SRCNN", 57_184, 52.7, 30.48, 27.50, _srcnn(4), SRCNN),
        Published("FSRCNN", 12_464, 4.6, 30.71, 27.59, _fsrcnn(4), FSRCNN),
        Published("VDSR", 664_704, 612.6, 31.35, 28.01, _vdsr(4), VDSR),
        Published("EDSR-baseline", 1_517_571, 114.0, 32.09, 28.58, EDSRConfig(scale=4), EDSR),
    ),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    family: str
    """Of bundled weights what stands before _x2 in their name: tiny, fast, good, srcnn."""
    scale: int
    parameters: int
    giga_multiply_adds: float
    """For an output of 1280x720."""
    set5_db: float
    set14_db: float
    """Ours, and bicubic's here; of a published network what it states and 0.09 dB (docs/quality.md)."""
    fp32_ms: float
    """A megapixel of output."""
    bf16_ms: float | None
    """None where the machine has no instructions for it, or the network is not made for it."""
    published: bool = False


Score = Callable[[Path, str], QualityTable]
"""The scores of weights on a test set, Set5 or Set14."""


def pareto(
    paths: Sequence[Path], score: Score, *, scale: int, rounds: int, grey: float, published: bool = True
) -> list[Row]:
    """The rows of one scale: bicubic, published networks, and the bundled weights, cheapest first.

    Args:
        paths: weights of this scale, at least one.
        grey: dB that a published mean on Set14 is raised by.
        published: whether published networks come along.
    """
    networks: dict[str, Network] = {_family(path): load_weights(path)[0] for path in paths}
    others = PUBLISHED.get(scale, ()) if published else ()
    for other in others:
        networks[other.name] = _random(other.section)
    times = timed(networks, scale=scale, rounds=rounds)
    tables = {path: {name: score(path, name) for name in ("Set5", "Set14")} for path in paths}
    bicubic = next(iter(tables.values()))
    rows = [
        Row(
            "bicubic",
            scale,
            0,
            0.0,
            _db(bicubic["Set5"], "bicubic"),
            _db(bicubic["Set14"], "bicubic"),
            *times["bicubic"],
        )
    ]
    for other in others:
        own = other.parameters, other.giga_multiply_adds, other.set5_db, other.set14_db + grey
        rows.append(Row(other.name, scale, *own, *times[other.name], published=True))
    for path, scores in tables.items():
        network = networks[_family(path)]
        rows.append(
            Row(
                _family(path),
                scale,
                sum(parameter.numel() for parameter in network.parameters()),
                multiply_adds(network) / 1e9,
                _db(scores["Set5"], "srdist"),
                _db(scores["Set14"], "srdist"),
                *times[_family(path)],
            )
        )
    return sorted(rows, key=lambda row: row.giga_multiply_adds)


def multiply_adds(network: Network) -> float:
    """Of the convolutions, for an output of 1280x720, counted by torch on a smaller one: they grow with its pixels."""
    side = 120 // network.scale
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        sr = network(torch.zeros(1, 3, side, side))
    counts = counter.get_flop_counts()["Global"]
    spent: int = sum(int(count) for operation, count in counts.items() if "conv" in str(operation))
    return spent / 2 * (HD_READY / (int(sr.shape[-1]) * int(sr.shape[-2])))


def timed(
    networks: Mapping[str, Network], *, scale: int, rounds: int
) -> dict[str, tuple[float, float | None]]:
    """Processor milliseconds a megapixel of output in (fp32, bf16), each network run as `srdist upscale` does."""
    noise = np.random.default_rng(0).integers(0, 256, (1, 3, SIDE // scale, SIDE // scale), np.uint8)
    lr = torch.from_numpy(noise)
    methods: dict[tuple[str, Precision], Callable[[torch.Tensor], object]] = {
        ("bicubic", "fp32"): baseline("bicubic", scale=scale)
    }
    for name, network in networks.items():
        methods[name, "fp32"] = network_method(network.eval(), device=CPU)
        if has_bf16(CPU) and "bf16" in network.precisions:
            methods[name, "bf16"] = network_method(network.eval(), device=CPU, precision="bf16")
    spent: dict[tuple[str, Precision], list[float]] = {key: [] for key in methods}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for number in range(rounds + 1):
            for key, upscale in methods.items():
                begun = time.process_time()
                upscale(lr)
                if number:  # the first is to warm up
                    spent[key].append((time.process_time() - begun) * 1e3 / (SIDE * SIDE / 1e6))
    finally:
        torch.set_num_threads(threads)
    median = {key: statistics.median(times) for key, times in spent.items()}
    return {name: (median[name, "fp32"], median.get((name, "bf16"))) for name in ("bicubic", *networks)}


def by_scale(paths: Iterable[Path]) -> dict[int, list[Path]]:
    """Weights of networks for any photo whose LR is made by bicubic, by their scale: whatever is bundled."""
    found: dict[int, list[Path]] = {}
    for path in sorted(paths):
        network, info = load_weights(path)
        if info.kernel == "bicubic" and "celeba" not in path.stem:
            found.setdefault(network.scale, []).append(path)
    return dict(sorted(found.items()))


def as_markdown(rows: Sequence[Row]) -> str:
    """The table of one scale; what no row beats in both dB and processor time is in bold."""
    lines = [
        "| network | parameters | multiply-adds | Set5 dB | Set14 dB | fp32 | bf16 |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        name = f"{row.family} (published)" if row.published else row.family
        name = f"**{name}**" if not any(_beats(other, row) for other in rows) else name
        work = f"{row.giga_multiply_adds:.1f} G" if row.parameters else "-"
        bf16 = f"{row.bf16_ms:,.0f} ms" if row.bf16_ms is not None else "-"
        size = f"{row.parameters:,}" if row.parameters else "-"
        lines.append(
            f"| {name} | {size} | {work} | {row.set5_db:.2f} | {row.set14_db:.2f} | {row.fp32_ms:,.0f} ms | {bf16} |"
        )
    return "\n".join(lines)


def best_ms(row: Row) -> float:
    """Processor milliseconds a megapixel in the precision that is faster here."""
    return min(row.fp32_ms, row.bf16_ms if row.bf16_ms is not None else math.inf)


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as plain values."""
    return [{name: getattr(row, name) for name in Row.__slots__} for row in rows]


def _beats(one: Row, other: Row) -> bool:
    better = one.set5_db >= other.set5_db and best_ms(one) <= best_ms(other)
    return better and (one.set5_db > other.set5_db or best_ms(one) < best_ms(other))


def _family(path: Path) -> str:
    return path.stem.rpartition("_x")[0] or path.stem


def _random(section: NetworkSection) -> Network:
    return section.build(seed=0).eval()


def _db(table: QualityTable, method: str) -> float:
    return table.scores[method].psnr_y_db
