"""The seam for degradations: one more member of the union, known to nothing but this file, goes all the way."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from jaxtyping import UInt8, UInt64
from PIL import Image
from pydantic import Field, TypeAdapter

from benchmarks.processes import ROOT
from benchmarks.runs import BRIEF, THIN
from srdist.cli.main import main
from srdist.config import Config, load, parse
from srdist.degradations import config as degradations_config
from srdist.degradations.config import KernelConfig
from srdist.degradations.degradation import Degradation
from srdist.degradations.section import DegradationSection
from srdist.machine.errors import UserError
from srdist.networks.weightfile import load_weights
from srdist.quality.lowres import choose_degradation
from srdist.runs import checkpoint
from srdist.shards.reader import ShardIndex
from srdist.stream.config import DataConfig
from srdist.stream.pairs import EvalStream, TrainStream
from srdist.stream.share import Share
from srdist.training.trainer import Trainer
from tests.packed_sets import Packed
from tests.training.runs import assert_equal_states


class DimConfig(DegradationSection):
    """Every second pixel, darker by up to `most`, by the key."""

    kind: Literal["dim"] = "dim"
    most: Annotated[int, Field(ge=1, le=255)] = 40

    def build(self, *, scale: int) -> Degradation:
        return Dim(scale, self.most)


@dataclass(frozen=True, slots=True)
class Dim:
    scale: int
    most: int
    margin = 0

    def __call__(
        self, hr_u8: UInt8[np.ndarray, "n H W 3"], keys: UInt64[np.ndarray, " n"], /
    ) -> UInt8[np.ndarray, "n h w 3"]:
        less = (keys % np.uint64(self.most)).astype(np.int64)[:, None, None, None]
        lr: np.ndarray = (hr_u8[:, :: self.scale, :: self.scale] - less).clip(0).astype(np.uint8)
        return lr

    def explained(
        self, hr_u8: UInt8[np.ndarray, "H W 3"], key: int, /
    ) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
        return self(hr_u8[None], np.array([key], np.uint64))[0], ()


Wider = Annotated[KernelConfig | DimConfig, Field(discriminator="kind")]


class _Data(DataConfig):
    # The one place where a program with another member differs: a wider union.
    degradation: Wider | None = None  # type: ignore[assignment]


class _Config(Config):
    data: _Data = _Data()


DIM = {"kind": "dim", "most": 25}


def config(shards: Path, degradation: dict[str, Any], *, steps: int) -> _Config:
    own = ("log.wandb=disabled", f"data.shards={shards}", "data.workers=0", "train.threads=1")
    plain = load(ROOT / "configs/demo_x2.yaml", (*THIN, *BRIEF, *own, f"train.steps={steps}"))
    values = plain.model_dump(mode="json")
    values["data"] |= {"kernel": None, "degradation": degradation}
    values["train"] |= {"decay_steps": 10, "validate_every": 2}
    return _Config.model_validate(values)


def train(config: Config, run: Path) -> None:
    with Trainer(config, run=run, quiet=True) as trainer:
        trainer.fit()


def answer(*arguments: str | Path) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_one_more_degradation_trains_resumes_is_evaluated_and_exported(
    small_set: Path, tmp_path: Path, photos: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(degradations_config, "DEGRADATION", TypeAdapter(Wider))
    run = tmp_path / "run"
    train(config(small_set, DIM, steps=4), tmp_path / "whole")
    train(config(small_set, DIM, steps=2), run)
    train(config(small_set, DIM, steps=4), run)
    whole, parts = (checkpoint.newest(folder / "checkpoints") for folder in (tmp_path / "whole", run))
    assert whole is not None
    assert parts is not None
    assert_equal_states(whole[1], parts[1])

    _, info = load_weights(run)
    assert info.kernel == "dim"
    assert json.loads(info.degradation) == DIM
    found = json.loads(answer("evaluate", "--weights", run, "--hr", small_set, "--split", "val", "--json"))
    assert found["protocol"]["degradation"] == DIM
    assert found["protocol"]["lr"] == "made from HR by dim, 8 bit"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if row["kind"] == "val"][-1]
    # What validation saw is what evaluation sees.
    assert found["methods"]["bicubic"]["psnr_y_db"] == pytest.approx(last["bicubic_psnr_y_db"])

    (tmp_path / "src").mkdir()
    Image.fromarray(photos["chelsea"][:31, :43]).save(tmp_path / "src" / "cat.png")
    answer("upscale", tmp_path / "src", tmp_path / "dst", "--weights", run)
    assert Image.open(tmp_path / "dst" / "cat.png").size == (86, 62)
    answer("export", run, "--onnx", tmp_path / "net.onnx")
    metadata = {each.key: each.value for each in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert json.loads(metadata["degradation"]) == DIM


def test_another_setting_is_another_run(small_set: Path, tmp_path: Path) -> None:
    train(config(small_set, DIM, steps=2), tmp_path)
    with pytest.raises(UserError, match=r"data.degradation: .* cannot change on resume"):
        train(config(small_set, DIM | {"most": 26}, steps=4), tmp_path)


def test_weights_for_another_degradation_are_told_of(small_set: Path, tmp_path: Path) -> None:
    train(config(small_set, DIM, steps=2), tmp_path)
    _, info = load_weights(tmp_path)
    with pytest.raises(UserError, match="w: damaged metadata: degradation: kind: found 'dim'"):
        choose_degradation(None, {"w": info}, warn=print)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(degradations_config, "DEGRADATION", TypeAdapter(Wider))
        told: list[str] = []
        assert choose_degradation(None, {"w": info}, warn=told.append) == DimConfig(most=25)
        assert told == []
        choose_degradation(KernelConfig(), {"w": info}, warn=told.append)
        choose_degradation(DimConfig(most=9), {"w": info}, warn=told.append)
    assert told == [
        "LR is made by bicubic, but w was trained for dim: expect a worse result",
        "LR is made by dim, but w was trained for dim of other settings: expect a worse result",
    ]


def test_training_draws_anew_each_epoch_and_evaluation_never(packed: Packed) -> None:
    index = packed(24)
    data = _Data(hr_patch=None, flips=False, workers=0, degradation=DimConfig())
    lr: list[dict[int, torch.Tensor]] = []
    with TrainStream(index, data, Share(), scale=2, seed=5, global_batch=24, rank_batch=24) as stream:
        for pair, _ in zip(stream, range(2), strict=False):
            lr.append({int(i): image.clone() for i, image in zip(pair.ids, pair.lr, strict=True)})
    assert sum(torch.equal(lr[0][i], lr[1][i]) for i in range(24)) < 6

    def seen(world: int, batch: int, index: ShardIndex) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        for rank in range(world):
            for pair in EvalStream(index, Dim(2, 40), Share(rank, world), batch=batch, workers=0):
                found |= {index.key(int(i)): one.clone() for i, one in zip(pair.ids, pair.lr, strict=True)}
        return found

    whole, shared = seen(1, 8, index), seen(3, 5, packed(24, shard_samples=7, name="again"))
    assert whole.keys() == shared.keys()
    assert all(torch.equal(whole[key], shared[key]) for key in whole)


def test_an_image_gets_the_same_lr_in_a_folder_and_in_a_set(
    packed: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed(12)
    monkeypatch.setattr(degradations_config, "DEGRADATION", TypeAdapter(Wider))
    from srdist.quality.table import Evaluation, evaluate

    tables = [
        evaluate(
            Evaluation(
                None,
                str(place),
                split=split,
                scale=2,
                made_by=DimConfig(),
            ),
            device=torch.device("cpu"),
            warn=print,
        )
        for place, split in ((tmp_path / "set", "train"), (tmp_path / "set-images", None))
    ]
    scores = [
        {name.removesuffix(".jpg"): row["bicubic"].psnr_y_db for name, row in table.rows} for table in tables
    ]
    assert len(scores[0]) == 12
    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            {"kernel": "bicubic", "degradation": {"kind": "kernel"}},
            "data: kernel and degradation say the same thing: one of them is null, the other not",
        ),
        ({"kernel": None}, "data: kernel and degradation say the same thing"),
        ({"degradation": {"kind": "dim", "most": 0}}, "data.degradation.most: found 0, expected"),
        ({"degradation": {"kind": "dmi"}}, "data.degradation.kind: found 'dmi', did you mean dim?"),
        ({"degradation": {"kind": "kernel", "kernl": 1}}, "data.degradation.kernl: no such field (found 1)"),
        ({"degradation": {}}, "data.degradation: found {}, expected a field 'kind'"),
    ],
)
def test_what_contradicts_or_is_wrong_is_one_line(data: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as refused:
        parse({"data": data}, source="run.yaml", kind=_Config)
    assert words in str(refused.value)
    assert len(str(refused.value).split("; ")) == 1


def test_the_long_form_of_a_kernel_is_the_short_one() -> None:
    long = parse({"data": {"degradation": {"kind": "kernel", "kernel": "box"}}}, source="run.yaml").data
    short = parse({"data": {"kernel": "box"}}, source="run.yaml").data
    assert (long.kernel, short.degradation) == (None, None)
    assert long.how_degraded == short.how_degraded == KernelConfig(kernel="box")
    assert load(None, ["data.degradation.kind=kernel"]).data.how_degraded == KernelConfig()
