"""The table of how good for how much work: counted as the papers count, and the picture of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from benchmarks.pareto import PUBLISHED, Row, as_markdown, by_scale, multiply_adds, timed
from benchmarks.weights import write_pareto
from srdist.networks.config import EDSRConfig, SRCNNConfig
from srdist.networks.weightfile import BUNDLED


def row(
    family: str, set5_db: float, fp32_ms: float, bf16_ms: float | None = None, *, parameters: int = 9
) -> Row:
    return Row(family, 2, parameters, 1.0, set5_db, 30.0, fp32_ms, bf16_ms)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_published_networks_have_the_sizes_that_are_stated(scale: int) -> None:
    baseline = next(one for one in PUBLISHED[scale] if one.name == "EDSR-baseline")
    assert isinstance(baseline.section, EDSRConfig)
    network = baseline.section.build(seed=None)
    assert sum(parameter.numel() for parameter in network.parameters()) == baseline.parameters
    assert multiply_adds(network) / 1e9 == pytest.approx(baseline.giga_multiply_adds, rel=0.005)
    for one in ("SRCNN", "VDSR"):
        luma = next(other for other in PUBLISHED[scale] if other.name == one)
        # On the HR grid: as many multiply-adds a pixel as weights.
        assert luma.giga_multiply_adds == pytest.approx(luma.parameters * 1280 * 720 / 1e9, abs=0.05)


def test_whatever_is_bundled_for_any_photo_takes_part() -> None:
    found = by_scale(BUNDLED.glob("*.safetensors"))
    names = {path.stem for paths in found.values() for path in paths}
    assert {"srcnn_x2", "fast_x2", "srcnn_x3", "srcnn_x4"} <= names
    assert not any("celeba" in name for name in names)
    assert all(path.stem.endswith(f"_x{scale}") for scale, paths in found.items() for path in paths)


def test_bold_is_what_no_other_row_beats_in_both() -> None:
    rows = [
        row("bicubic", 33.0, 1.0, parameters=0),
        row("slow", 36.0, 90.0),
        row("good", 36.5, 95.0, 80.0),
        row("best", 38.0, 200.0),
    ]
    lines = as_markdown(rows).splitlines()[2:]
    assert [line.split(" | ")[0] for line in lines] == ["| **bicubic**", "| slow", "| **good**", "| **best**"]
    assert lines[0].endswith("| 1 ms | - |")


def test_it_is_timed_and_drawn(tmp_path: Path) -> None:
    network = SRCNNConfig(kernels=(3, 3), widths=(2,)).build(seed=0)
    times = timed({"thin": network}, scale=2, rounds=1)
    assert times["thin"][0] > 0
    rows = [
        Row("bicubic", 2, 0, 0.0, 33.0, 30.0, *times["bicubic"]),
        Row("thin", 2, 9, 1.0, 34.0, 31.0, *times["thin"]),
    ]
    machine = {"device_name": "a machine", "torch": "2", "date": "2026-11-24", "load": 0.0}
    write_pareto(tmp_path, {2: rows}, machine, rounds=1)
    assert "| **thin** | 9 | 1.0 G | 34.00 | 31.00 |" in (tmp_path / "pareto.md").read_text()
    with Image.open(tmp_path / "pictures/pareto_x2.png") as picture:
        assert picture.width > 800
