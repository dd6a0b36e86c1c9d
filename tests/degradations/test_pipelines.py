"""The pipelines: what a preset fills, in which order the stages come, and that LR has its size whatever is drawn."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from srdist.cli.main import main
from srdist.config import load, parse
from srdist.degradations.config import DEGRADATION, DegradationConfig
from srdist.degradations.fixed import Strength, fixed
from srdist.degradations.pipelineconfig import BSRGANConfig, SecondOrderConfig
from srdist.machine.errors import UserError
from tests.degradations.test_stages import digest
from tests.stream.test_pinned import formula


def test_a_preset_fills_what_is_not_given_and_a_config_reads_back_as_it_was() -> None:
    web, photo = SecondOrderConfig(), SecondOrderConfig(preset="photo")
    assert (web.jpeg2.quality, photo.jpeg2.quality) == ((40, 95), (30, 95))
    data = load(None, ["data.degradation={kind: second_order, preset: photo, blur1: {sigma: [1, 2]}}"]).data
    assert data.degradation == photo.model_copy(
        update={"blur1": photo.blur1.model_copy(update={"sigma": (1.0, 2.0)})}
    )
    for section in (web, photo, BSRGANConfig()):
        assert DEGRADATION.validate_json(section.details) == section
        assert DEGRADATION.validate_python(section.model_dump(mode="json")) == section


@pytest.mark.parametrize("preset", ["[web]", "{web: 1}", "3", "webb"])
def test_a_preset_that_is_no_name_of_one_is_one_line(preset: str) -> None:
    with pytest.raises(UserError, match=r"data\.degradation.*preset"):
        load(None, [f"data.degradation={{kind: second_order, preset: {preset}}}"])


SECTIONS: list[DegradationConfig] = [SecondOrderConfig(), SecondOrderConfig(preset="photo"), BSRGANConfig()]


@pytest.mark.parametrize("section", SECTIONS, ids=["web", "photo", "bsrgan"])
@pytest.mark.parametrize(("scale", "size"), [(2, (48, 32)), (3, (9, 60)), (4, (4, 4))])
def test_lr_has_its_size_whatever_is_drawn(
    section: DegradationConfig, scale: int, size: tuple[int, int]
) -> None:
    hr = np.stack([formula(number, *size) for number in range(30)])
    made = section.build(scale=scale)
    lr = made(hr, np.arange(30, dtype=np.uint64))
    assert lr.shape == (30, size[0] // scale, size[1] // scale, 3)
    assert made.margin == 8 * scale
    assert not np.array_equal(lr[0], made(hr[:1], np.array([77], np.uint64))[0])


def test_the_last_jpeg_comes_before_or_after_the_last_resizing() -> None:
    made = SecondOrderConfig(preset="photo").build(scale=2)
    ends = [made.explained(formula(1, 32, 32), key)[1][-1].split()[0] for key in range(60)]
    assert 15 < ends.count("JPEG") < 45


def test_bsrgans_stages_come_in_any_order_and_resizing_never_after_lr_has_its_size() -> None:
    made = BSRGANConfig().build(scale=2)
    orders = set()
    for key in range(60):
        words = made.explained(formula(1, 32, 32), key)[1]
        assert words[-1].startswith("JPEG")
        kinds = [" ".join(word.split()[1:2]) if " to " in word else word.split()[0] for word in words]
        sizes = [word.split(" to ")[1] for word in words if " to " in word]
        assert sizes[-1] == "LR"
        orders.add(tuple(kinds))
    assert len(orders) > 20


def test_their_bytes_never_change_but_for_jpegs() -> None:
    hr = np.stack([formula(number, 48, 48) for number in range(40)])
    found = []
    for section in SECTIONS:
        values = section.model_dump(mode="json")
        for name in ("jpeg", "jpeg1", "jpeg2", "last_jpeg"):
            if name in values:
                values[name]["probability"] = 0.0
        made = DEGRADATION.validate_python(values).build(scale=4)
        found.append(digest(made(hr, np.arange(40, dtype=np.uint64))))
    assert found == ["cfb206b28e580546", "ff2f9a26d3419325", "15280f1fc7f79012"]


@pytest.mark.parametrize(
    ("strength", "expected"),
    [("mild", "534d2773f72d5a89"), ("medium", "5ea2e22db881dbe6"), ("strong", "56e855a5c43658c0")],
)
def test_what_everybody_is_scored_under_never_changes(strength: Strength, expected: str) -> None:
    assert hashlib.sha256(fixed(strength).details.encode()).hexdigest()[:16] == expected


def test_evaluate_degrade_scores_under_it(tmp_path: Path, photos: dict[str, np.ndarray]) -> None:
    for name, photo in photos.items():
        Image.fromarray(photo[100:220, 100:220]).save(tmp_path / f"{name}.png")

    def evaluate(*options: str) -> Result:
        return CliRunner().invoke(
            main, ["evaluate", "--scale", "2", "--hr", str(tmp_path), "--json", *options]
        )

    plain, mild, strong = (
        json.loads(evaluate(*options).stdout)
        for options in ((), ("--degrade", "mild"), ("--degrade", "strong"))
    )
    scores = [found["methods"]["bicubic"]["psnr_y_db"] for found in (plain, mild, strong)]
    assert scores[0] > scores[1] > scores[2] + 2
    assert strong["protocol"]["degradation"]["preset"] == "photo"
    assert json.loads(evaluate("--degrade", "mild").stdout) == mild
    refused = evaluate("--degrade", "mild", "--kernel", "box")
    assert refused.exit_code == 2
    assert "--kernel box and --degrade mild both make LR: leave one out" in refused.stderr
    refused = evaluate("--degrade", "mild", "--lr", str(tmp_path))
    assert "--degrade makes LR from HR, but --lr" in refused.stderr


def test_each_image_of_a_mixture_is_what_one_member_makes_of_it_as_often_as_its_weight() -> None:
    members = [{"kind": "second_order", "preset": "web"}, {"kind": "jpeg"}, {"kind": "kernel"}]
    section = DEGRADATION.validate_python({"kind": "mixture", "members": members, "weights": [1, 2, 0]})
    assert DEGRADATION.validate_json(section.details) == section
    mixed = section.build(scale=2)
    alone = [DEGRADATION.validate_python(member).build(scale=2) for member in members]
    assert mixed.margin == max(made.margin for made in alone)
    hr = np.stack([formula(number, 16, 24) for number in range(90)])
    keys = np.arange(90, dtype=np.uint64)
    lr = mixed(hr, keys)
    theirs = np.stack([made(hr, keys) for made in alone])
    fits = (theirs == lr).all((2, 3, 4))
    assert fits.any(0).all()
    assert 18 < fits[0].sum() < 42
    assert mixed.explained(hr[3], 3)[1] == alone[int(fits[:, 3].argmax())].explained(hr[3], 3)[1]
    equally = DEGRADATION.validate_python({"kind": "mixture", "members": members}).build(scale=2)
    assert (equally(hr, keys) == theirs[2]).all((1, 2, 3)).sum() > 15


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"weights": [1]}, "weights has 1 entries, expected 2: one a member"),
        ({"weights": [0, 0]}, "weights are all 0"),
        ({"weights": [1, -1]}, "data.degradation.weights.1: found -1"),
        ({"members": [{"kind": "jpeg"}]}, "expected: Tuple should have at least 2 items"),
        (
            {"members": [{"kind": "mixture"}, {"kind": "jpeg"}]},
            "data.degradation.members.0.kind: found 'mixture'",
        ),
    ],
)
def test_a_wrong_mixture_is_one_line(fields: dict[str, object], words: str) -> None:
    section = {"kind": "mixture", "members": [{"kind": "jpeg"}, {"kind": "kernel"}]} | fields
    with pytest.raises(UserError) as refused:
        parse({"data": {"degradation": section}}, source="run.yaml")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
