"""The figure of one image: what stands in it, where its inset lies, and that it can be seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from srdist.cli.main import main
from srdist.degradations.config import KernelConfig
from srdist.images.resize import resize_u8
from srdist.networks.config import SRCNNConfig
from srdist.networks.weightfile import WeightsInfo, load_weights, save_weights
from srdist.quality.figure import choose_inset, contact_sheet, figure, shoot
from srdist.quality.measures import choose, parse_names
from srdist.quality.scores import BASELINES, Method, baseline, network_method
from srdist.quality.table import Evaluation, evaluate
from srdist.quality.testset import PairFile, read_pair
from tests.conftest import Run

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = SRCNNConfig(kernels=(3, 3), widths=(8,))
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(path, config.build(seed=1).state_dict(), WeightsInfo(config, "bicubic", "", 0))
    return path


def knows_one_spot(hr: torch.Tensor, *, top: int, left: int, side: int) -> Method:
    """A method that is right in one square of `hr`, and bicubic elsewhere."""

    def upscale(lr: torch.Tensor) -> torch.Tensor:
        sr = baseline("bicubic", scale=2)(lr)
        square = (..., slice(top, top + side), slice(left, left + side))
        sr[square] = hr[square]
        return sr

    return upscale


def test_the_inset_lies_where_the_last_method_gains_most(photos: dict[str, np.ndarray]) -> None:
    hr = torch.from_numpy(photos["astronaut"][:200, :300].copy()).permute(2, 0, 1)
    lr = resize_u8(hr.unsqueeze(0), height=100, width=150, kernel="bicubic")[0]
    methods = {"bicubic": baseline("bicubic", scale=2), "sr": knows_one_spot(hr, top=90, left=200, side=40)}
    shots = shoot(lr, hr, methods, scale=2)
    inset = choose_inset(shots, width=40, height=40, zoom=6)
    assert (inset.left, inset.top) == (200, 90)
    picture = figure(shots, footer="test")
    # The inset is nearest-upscaled: blocks of the zoom's size are of one colour, the original's.
    block = np.array(inset.cut(Image.fromarray(photos["astronaut"])))[:6, :6].reshape(-1, 3)
    assert (block == photos["astronaut"][90, 200]).all()
    assert (np.array(picture).reshape(-1, 3) == photos["astronaut"][90, 200]).all(axis=1).sum() >= 36


@pytest.mark.parametrize("size", [(2, 3), (9, 9), (11, 400), (640, 30), (178, 218)], ids=str)
def test_an_image_of_any_size_is_drawn(photos: dict[str, np.ndarray], size: tuple[int, int]) -> None:
    width, height = size
    hr = torch.from_numpy(
        np.array(Image.fromarray(photos["coffee"]).resize((width - width % 2, height - height % 2)))
    )
    hr = hr.permute(2, 0, 1)
    lr = resize_u8(hr.unsqueeze(0), height=hr.shape[1] // 2, width=hr.shape[2] // 2, kernel="bicubic")[0]
    methods = {name: baseline(name, scale=2) for name in ("nearest", "bicubic")}
    shots = shoot(lr, hr, methods, scale=2)
    for picture in (figure(shots, footer="one line"), contact_sheet(shots, footer="one line")):
        assert picture.width < 1800
        assert picture.height < 1200


def test_compare_writes_a_figure_and_a_contact_sheet(
    run: Run, photos: dict[str, np.ndarray], weights: Path, tmp_path: Path
) -> None:
    Image.fromarray(photos["chelsea"]).convert("RGBA").save(tmp_path / "cat.png")
    call = ("compare", tmp_path / "cat.png", "--out")
    done = run("srdist", *call, tmp_path / "a.png", "--weights", weights)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'a.png'}\n"), done.stderr
    methods = f"nearest,bilinear,bicubic,lanczos,{weights}"
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, call), str(tmp_path / "b.png"), "--methods", methods])
    assert stopped.value.code == 0
    with Image.open(tmp_path / "a.png") as first, Image.open(tmp_path / "b.png") as second:
        assert first.width > 4 * 300
        assert second.width > 6 * 300


def test_the_measures_of_an_evaluation_stand_below_each_picture(
    photos: dict[str, np.ndarray], weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    image = tmp_path / "images/cat.png"
    Image.fromarray(photos["chelsea"][:120, :160]).save(image)
    asked = parse_names("sharpness,spectrum,consistency")
    evaluated = evaluate(Evaluation(str(weights), str(image.parent), measures=asked), device=CPU, warn=print)
    pair = read_pair(PairFile("cat", image, None), scale=2, degradation=KernelConfig().build(scale=2))
    measures = choose(asked, scale=2, kernel="bicubic", made_by="", device=CPU, warn=print)
    networks = {"small": network_method(load_weights(weights)[0], device=CPU)}
    methods = {name: baseline(name, scale=2) for name in BASELINES} | networks
    original, *shots = shoot(pair.lr[0], pair.hr[0], methods, scale=2, measures=measures)
    for shot in shots:
        expected = evaluated.scores["srdist" if shot.title == "small" else shot.title]
        assert shot.scores == (
            f"PSNR {expected.psnr_y_db:.2f} dB   RMSE {expected.rmse:.4f}",
            f"sharp {expected.more['sharpness']:.4f}   spectrum {expected.more['spectrum_db']:.2f} dB",
            f"consistency {expected.more['consistency_db']:.2f} dB",
        )
    assert original.scores == (
        "160 x 120 pixels",
        f"HR sharp {evaluated.scores['bicubic'].more['sharpness_hr']:.4f}",
    )
    plain, taller = (
        contact_sheet(some, footer="x")
        for some in (shoot(pair.lr[0], pair.hr[0], methods, scale=2), [original, *shots])
    )
    assert taller.height == plain.height + 40

    call = ["compare", str(image), "--weights", str(weights), "--out", str(tmp_path / "a.png")]
    with pytest.raises(SystemExit) as stopped:
        main([*call, "--measures", "all"])
    said = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 0
    assert [line[:30] for line in said] == [
        "srdist: warning: left out: lpi",
        "srdist: warning: left out: dis",
    ]


@pytest.mark.parametrize(
    ("image", "options", "code", "words"),
    [
        ("cat.png", "", 2, "nothing to compare"),
        ("cat.png", "--methods bicubic", 2, "the scale is not known"),
        ("cat.png", "--weights W --scale 3", 2, "expected one scale"),
        ("cat.png", "--methods bicubik --scale 2", 2, "bicubik: no such weights file"),
        ("cat.png", "--weights W --out out.jpg", 2, "ends in .png"),
        (
            "cat.png",
            "--weights W --measures sharp",
            2,
            "no measure 'sharp', expected all or some of sharpness,",
        ),
        ("cat.png", "--weights W --measures all,sharpness", 2, "all stands alone, or some of sharpness,"),
        ("dot.png", "--weights W", 1, "1x1 pixels, smaller than the scale 2"),
        ("text.png", "--weights W", 1, "not an image"),
        ("gone.png", "--weights W", 1, "No such file"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    photos: dict[str, np.ndarray],
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    image: str,
    options: str,
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photos["chelsea"]).save("cat.png")
    Image.fromarray(photos["chelsea"][:1, :1]).save("dot.png")
    Path("text.png").write_text("no image")
    call = [
        "compare",
        image,
        "--out",
        "out.png",
        *(str(weights) if word == "W" else word for word in options.split()),
    ]
    with pytest.raises(SystemExit) as stopped:
        main(call)
    printed = capsys.readouterr()
    assert (stopped.value.code, printed.out) == (code, "")
    assert words in printed.err
    assert len(printed.err.splitlines()) == 1, printed.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cat.png", "dot.png", "text.png"]
