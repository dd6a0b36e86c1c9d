"""Runs of spandrel's architectures on real ranks: killed, resumed, used."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from benchmarks.architectures import section
from benchmarks.runs import Launch, differences
from benchmarks.standin import environment
from srdist.cli.main import main
from srdist.config import Config, dump

pytestmark = pytest.mark.usefixtures("torchvision")


def launch(name: str, shards: Path, folder: Path, run: str, **train: object) -> Launch:
    """A run of two ranks of an architecture in its tiny form."""
    own = {"steps": 12, "global_batch": 4, "ema_decay": 0.9, "checkpoint_every": 3, "threads": 1} | train
    values = {"data": {"hr_patch": 32, "workers": 1}, "model": section(name).model_dump(), "train": own}
    config = folder / f"{name}.yaml"
    config.write_text(dump(Config.model_validate(values)))
    thin = ("data.hr_patch=32", "data.workers=1")
    after = ("train.checkpoint_every=3", "train.validate_every=4")
    env = environment(folder / "standin")
    return Launch(shards, folder / run, after, ranks=2, env=env, config=str(config), thin=thin)


# One with windows, which draws by chance and holds integer tables; one of convolutions, some of which no gradient reaches.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["SwinIR", "SPAN"])
def test_killed_with_9_two_ranks_end_in_the_same_bits_and_spandrel_loads_what_they_saved(
    name: str, small_set: Path, tmp_path: Path, photos: dict[str, np.ndarray]
) -> None:
    whole, killed = (launch(name, small_set, tmp_path, run) for run in ("whole", "killed"))
    said = whole.finish().stdout
    frozen = "frozen, as no gradient reaches them: 40 of 204 parameters"
    assert (frozen in said) == (name == "SPAN")
    with killed.going() as process:
        killed.wait_for_checkpoint(process)
    assert "resumes at step" in killed.finish().stdout
    assert differences(whole, killed) == []

    best = killed.run / "best.safetensors"
    theirs = importlib.import_module("spandrel").ModelLoader(device="cpu").load_from_file(best)
    assert theirs.architecture.id == name
    told = CliRunner().invoke(
        main, ["evaluate", "--weights", str(killed.run), "--hr", str(small_set), "--split", "val", "--json"]
    )
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["methods"]["srdist"]["psnr_y_db"] > 5

    (tmp_path / "src").mkdir()
    image = photos["chelsea"][:30, :41]
    Image.fromarray(image).save(tmp_path / "src" / "cat.png")
    told = CliRunner().invoke(
        main, ["upscale", str(tmp_path / "src"), str(tmp_path / "dst"), "--weights", str(killed.run)]
    )
    assert told.exit_code == 0, told.output
    with torch.inference_mode():
        lr = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
        expected = theirs.model.eval()(lr)[0].clamp(0, 1).mul(255).round().permute(1, 2, 0).numpy()
    made = np.asarray(Image.open(tmp_path / "dst" / "cat.png")).astype(int)
    assert np.abs(made - expected).max() <= 1


def test_a_network_that_no_training_fits_ends_in_one_line_and_exit_code_2(
    small_set: Path, tmp_path: Path
) -> None:
    for settings, words in (
        (
            ("data.hr_patch=24",),
            "data.hr_patch: 24 makes LR patches of 12 pixels a side, expected at least 32",
        ),
        (("train.precision=fp16",), "train.precision: fp16 needs a GPU"),
        (
            ("model.arguments.depthz=[2]",),
            "model.arguments.depthz: no such argument (found [2]), did you mean depths?",
        ),
        (("model.architecture=SwimIR",), "model.architecture: found 'SwimIR', did you mean SwinIR?"),
        (("model.scale=16",), "model.scale: found 16, expected: less than or equal to 8"),
    ):
        one = launch("SwinIR", small_set, tmp_path, "run")
        given = [part for setting in (f"data.shards={small_set}", *settings) for part in ("--set", setting)]
        told = CliRunner().invoke(
            main, ["train", "--config", one.config, "--run", str(tmp_path / "run"), *given]
        )
        assert told.exit_code == 2, told.output
        assert words in told.stderr
        assert len(told.stderr.strip().splitlines()) == 1
