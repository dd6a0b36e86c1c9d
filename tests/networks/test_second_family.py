"""A family that srdist does not know goes all the way through it: trained, resumed, evaluated, upscaled, exported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner
from PIL import Image

from srdist.cli.main import main
from srdist.config import parse
from srdist.machine.errors import UserError
from srdist.networks import config as networks_config
from srdist.networks.weightfile import load_weights
from srdist.runs import checkpoint
from srdist.training.trainer import Trainer
from tests.networks.tiny import NETWORK, RunConfig, Tiny, TinyConfig
from tests.training.runs import assert_equal_states


def train(shards: Path, run: Path, *, steps: int) -> None:
    values = {
        "data": {"shards": str(shards), "hr_patch": 16, "workers": 0},
        "model": {"family": "tiny", "side": 5},
        "train": {"steps": steps, "global_batch": 4, "decay_steps": 4, "validate_every": 2, "threads": 1},
        "log": {"wandb": "disabled"},
    }
    with Trainer(RunConfig.model_validate(values), run=run, quiet=True) as trainer:
        trainer.fit()


def told(*arguments: str | Path) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_second_family_goes_all_the_way(
    small_set: Path, tmp_path: Path, photos: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks_config, "NETWORK", NETWORK)
    train(small_set, tmp_path / "whole", steps=4)
    train(small_set, tmp_path / "run", steps=2)
    train(small_set, tmp_path / "run", steps=4)
    ends = [checkpoint.newest(tmp_path / name / "checkpoints") for name in ("whole", "run")]
    assert ends[0] is not None
    assert ends[1] is not None
    assert_equal_states(ends[0][1], ends[1][1])

    network, info = load_weights(tmp_path / "run")
    assert isinstance(network, Tiny)
    assert info.network == TinyConfig(side=5)
    scores = json.loads(
        told("evaluate", "--weights", tmp_path / "run", "--hr", small_set, "--split", "val", "--json")
    )
    assert scores["methods"]["srdist"]["psnr_y_db"] > 10

    (tmp_path / "src").mkdir()
    Image.fromarray(photos["chelsea"][:31, :43]).save(tmp_path / "src" / "cat.png")
    told("upscale", tmp_path / "src", tmp_path / "dst", "--weights", tmp_path / "run")
    assert Image.open(tmp_path / "dst" / "cat.png").size == (86, 62)

    told("export", tmp_path / "run", "--onnx", tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (sr,) = session.run(None, {"lr": np.zeros((1, 3, 4, 6), np.float32)})
    assert np.asarray(sr).shape == (1, 3, 8, 12)


def test_a_run_goes_on_with_its_own_family_only(small_set: Path, tmp_path: Path) -> None:
    train(small_set, tmp_path / "run", steps=2)
    other = {"data": {"shards": str(small_set), "hr_patch": 16, "workers": 0}, "model": {"family": "srcnn"}}
    with pytest.raises(ValueError, match=r"model\.family: the run in .* has 'tiny', found 'srcnn'"):
        Trainer(RunConfig.model_validate(other), run=tmp_path / "run", quiet=True)


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        (
            [{"kind": "l1", "wieght": 2}],
            "train.losses.0.wieght: no such field (found 2), did you mean weight?",
        ),
        ([{"kind": "l3"}], "train.losses.0.kind: found 'l3', the values are: mse, l1, charbonnier"),
        ([{"kind": "l1"}, {"weight": 1}], "train.losses.1: found {'weight': 1}, expected a field 'kind'"),
        ([], "train.losses: found [], expected: "),
    ],
)
def test_a_wrong_member_of_a_list_is_named_by_its_place(losses: list[object], words: str) -> None:
    with pytest.raises(UserError) as refused:
        parse({"train": {"losses": losses}}, source="run.yaml")
    assert words in str(refused.value)
    assert len(str(refused.value).split("; ")) == 1


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"family": "tinny"}, "model.family: found 'tinny', did you mean tiny?"),
        ({"family": "xyz"}, "model.family: found 'xyz', the values are: srcnn, plain, compact"),
        ({"family": "tiny", "side": 0}, "model.side: found 0, expected: greater than or equal to 1"),
        ({"family": "tiny", "syde": 3}, "model.syde: no such field (found 3), did you mean side?"),
        (
            {"family": "tiny", "widths": [3]},
            "model.widths: no such field (found [3]), the fields are: family",
        ),
        ({"family": "srcnn", "widths": [0, 3]}, "model.widths.0: found 0, expected"),
        ({"family": "srcnn", "kernels": [3, 4, 3]}, "model: kernels must be odd, found 4"),
    ],
)
def test_a_wrong_field_of_a_family_is_named_as_the_user_wrote_it(
    model: dict[str, object], words: str
) -> None:
    with pytest.raises(UserError) as refused:
        parse({"model": model}, source="run.yaml", kind=RunConfig)
    assert words in str(refused.value)
    assert len(str(refused.value).split("; ")) == 1
