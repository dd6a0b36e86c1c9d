"""Scores of methods over images: published numbers, the seed's own, and the same on any number of ranks."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from srdist.cli.main import main
from srdist.images.pixels import to_pillow
from srdist.images.resize import resize_u8
from srdist.machine import ranks
from srdist.machine.errors import WorkError
from srdist.networks.config import SRCNNConfig
from srdist.networks.weightfile import WeightsInfo, save_weights
from srdist.quality.scores import BASELINES, baseline, baselines, network_method, score_pairs
from srdist.shards.reader import ShardIndex
from tests.conftest import Run

CPU = torch.device("cpu")


def evaluate(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str, str]:
    """Exit code, standard output and standard error of one call, in this process."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", *map(str, arguments)])
    printed = capsys.readouterr()
    return stopped.value.code, printed.out, printed.err


@dataclass(frozen=True)
class TwoSizes:
    lr: Tensor
    hr: Tensor


def pairs_of(photos: dict[str, np.ndarray]) -> list[TwoSizes]:
    found = []
    for photo in photos.values():
        for top in range(0, 240, 60):
            hr = torch.from_numpy(photo[top : top + 60, top : top + 80].copy()).permute(2, 0, 1).unsqueeze(0)
            found.append(TwoSizes(resize_u8(hr, height=30, width=40, kernel="bicubic"), hr))
    return found


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained residual network: its output is near the bicubic enlargement."""
    config = SRCNNConfig(kernels=(3, 3), widths=(8,))
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(path, config.build(seed=1).state_dict(), WeightsInfo(config, "bicubic", "", 0))
    return path


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory: pytest.TempPathFactory, photos: dict[str, np.ndarray]) -> Path:
    """A tree of every kind of readable image: odd sizes, grey, RGBA, palette, tiny, upper-case suffix."""
    folder = tmp_path_factory.mktemp("hr")
    (folder / "sub" / "deep").mkdir(parents=True)
    cat = Image.fromarray(photos["chelsea"])
    cat.crop((10, 10, 111, 92)).save(folder / "odd.png")
    cat.crop((50, 50, 130, 131)).convert("L").save(folder / "sub" / "grey.png")
    cat.crop((90, 60, 155, 130)).convert("RGBA").save(folder / "sub" / "alpha.PNG")
    cat.crop((90, 60, 160, 130)).convert("P").save(folder / "sub" / "deep" / "palette.gif")
    cat.crop((100, 60, 112, 73)).save(folder / "small.png")
    cat.crop((100, 60, 102, 63)).save(folder / "tiny.png")
    cat.crop((0, 0, 90, 90)).save(folder / "photo.jpg", quality=90)
    return folder


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, photos: dict[str, np.ndarray]) -> Path:
    """A packed set whose test split has 7 images of two sizes."""
    folder = tmp_path_factory.mktemp("packed")
    (folder / "images").mkdir()
    for i in range(7):
        size = (50, 61) if i % 2 else (64, 48)
        tile = photos["coffee"][40 * i : 40 * i + size[0], 60 * i : 60 * i + size[1]]
        Image.fromarray(tile).save(folder / "images" / f"tile{i}.png")
    (folder / "recipe.yaml").write_text("name: tiles\nsplit: hash\nfractions: {train: 0, val: 0, test: 1}\n")
    with pytest.raises(SystemExit) as stopped:
        main(["pack", str(folder / "recipe.yaml"), "--images", str(folder / "images"), "--out", str(folder)])
    assert stopped.value.code == 0
    return folder


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("scale", "psnr_y_db", "ssim_y"), [(2, 33.66, 0.9299), (3, 30.39, 0.8682), (4, 28.42, 0.8104)]
)
def test_bicubic_on_set5_comes_out_as_published(
    shared_data: Path, capsys: pytest.CaptureFixture[str], scale: int, psnr_y_db: float, ssim_y: float
) -> None:
    folder = shared_data / "sr" / "Set5" / f"x{scale}"
    code, out, err = evaluate(
        capsys, "--scale", scale, "--json", "--hr", folder / "HR", "--lr", folder / "LR_matlab_bicubic"
    )
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["images"] == 5
    assert found["methods"]["bicubic"]["psnr_y_db"] == pytest.approx(psnr_y_db, abs=0.03)
    assert found["methods"]["bicubic"]["ssim_y"] == pytest.approx(ssim_y, abs=0.002)


@pytest.mark.shared_data
@pytest.mark.parametrize(("scale", "psnr_y_db"), [(2, 30.24), (3, 27.55), (4, 26.00)])
def test_bicubic_on_set14_comes_out_as_published_but_for_its_grey_image(
    shared_data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, scale: int, psnr_y_db: float
) -> None:
    folder, table = shared_data / "sr" / "Set14" / f"x{scale}", tmp_path / "scores.csv"
    call = ("--scale", scale, "--hr", folder / "HR", "--lr", folder / "LR_matlab_bicubic", "--csv", table)
    assert evaluate(capsys, *call)[0] == 0
    with table.open() as file:
        rows = {
            row["image"]: float(row["psnr_y_db"])
            for row in csv.DictReader(file)
            if row["method"] == "bicubic"
        }
    # Published code scores a file that is stored as grey on 0..255, not on the luma's 16..235 (docs/quality.md).
    rows["img_003.png"] -= 20 * math.log10(255 / 219)
    assert sum(rows.values()) / 14 == pytest.approx(psnr_y_db, abs=0.02)


@pytest.mark.shared_data
def test_lr_made_here_scores_as_matlabs_lr(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shared_data / "sr" / "Set5" / "x3"
    call = ("--scale", 3, "--json", "--hr", folder / "HR")
    theirs = json.loads(evaluate(capsys, *call, "--lr", folder / "LR_matlab_bicubic")[1])
    ours = json.loads(evaluate(capsys, *call, "--kernel", "bicubic")[1])
    assert ours["methods"]["bicubic"]["psnr_y_db"] == pytest.approx(
        theirs["methods"]["bicubic"]["psnr_y_db"], abs=0.03
    )


@pytest.mark.shared_data
@pytest.mark.parametrize(("name", "rmse"), [("weights_1em3", 0.0248), ("weights_1em4", 0.0286)])
def test_the_seeds_networks_on_set5_come_out_as_measured_with_the_seed(
    shared_data: Path, capsys: pytest.CaptureFixture[str], name: str, rmse: float
) -> None:
    weights, hr = shared_data / "seed" / f"{name}.pth", shared_data / "sr" / "Set5" / "x2" / "HR"
    code, out, err = evaluate(capsys, "--weights", weights, "--json", "--hr", hr)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["protocol"]["kernel"] == "bilinear"
    assert found["methods"]["srdist"]["rmse"] == pytest.approx(rmse, abs=2e-4)
    assert found["methods"]["bilinear"]["rmse"] == pytest.approx(0.0376, abs=2e-4)


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize(("name", "rmse"), [("weights_1em3", 0.0216), ("weights_1em4", 0.0246)])
def test_the_seeds_networks_on_celeba_come_out_as_measured_with_the_seed(
    shared_data: Path, run: Run, tmp_path: Path, name: str, rmse: float
) -> None:
    celeba = shared_data / "celeba"
    for line in (celeba / "list_eval_partition.txt").read_text().split("\n"):
        image, _, part = line.strip().partition(" ")
        if part == "2" and (source := celeba / "img_align_celeba" / image).is_file():
            (tmp_path / image).symlink_to(source.resolve())
    done = run(
        *("srdist", "evaluate", "--weights", shared_data / "seed" / f"{name}.pth"),
        *("--hr", tmp_path, "--json"),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["images"] == 500
    assert found["methods"]["srdist"]["rmse"] == pytest.approx(rmse, abs=2e-4)
    assert found["methods"]["bilinear"]["rmse"] == pytest.approx(0.0324, abs=2e-4)


def test_the_baselines_are_pillows(photos: dict[str, np.ndarray]) -> None:
    pair = pairs_of(photos)[0]
    for kernel in BASELINES:
        found = baseline(kernel, scale=2)(pair.lr)[0]
        resampling = getattr(Image.Resampling, kernel.upper())
        expected = np.array(to_pillow(pair.lr[0]).resize((80, 60), resampling))
        difference = np.abs(np.array(to_pillow(found)).astype(int) - expected.astype(int))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3


def test_a_mean_takes_an_equal_image_as_100_db_and_leaves_a_missing_ssim_out() -> None:
    equal = torch.full((1, 3, 40, 40), 7, dtype=torch.uint8)
    small = torch.full((1, 3, 12, 12), 7, dtype=torch.uint8)
    darker = torch.full((1, 3, 6, 6), 2, dtype=torch.uint8)
    pairs = [
        TwoSizes(equal[..., :20, :20], equal),
        TwoSizes(darker, small),
    ]
    found = score_pairs(baselines(scale=2), pairs, scale=2, device=CPU)["nearest"]
    # Luma of grey falls by 219 / 255 a level: 5 levels in the second image.
    second = 20 * math.log10(255 / (5 * 219 / 255))
    assert found.psnr_y_db == pytest.approx((100 + second) / 2)
    assert found.ssim_y == pytest.approx(1)
    assert found.rmse == pytest.approx(5 / 255 / 2)
    assert found.images == 2


def test_no_pairs_have_no_scores() -> None:
    found = score_pairs(baselines(scale=2), [], scale=2, device=CPU)["bicubic"]
    assert found.images == 0
    assert math.isnan(found.psnr_y_db)
    assert math.isnan(found.rmse)


def test_a_network_that_gives_nan_has_no_score(photos: dict[str, np.ndarray]) -> None:
    broken = SRCNNConfig(kernels=(3, 3), widths=(8,)).build(seed=0).eval()
    broken.get_parameter("conv2.weight").data.fill_(1e38)
    with pytest.raises(WorkError, match=r"^the output of srdist for 16 of 16 images is not finite"):
        score_pairs({"srdist": network_method(broken, device=CPU)}, pairs_of(photos), scale=2, device=CPU)


def test_an_image_whose_pixels_are_not_finite_fails_by_name_and_the_others_are_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = SRCNNConfig(kernels=(3, 3), widths=(8,), residual=False)
    tensors = config.build(seed=1).state_dict()
    tensors["conv1.bias"].zero_()
    tensors["conv2.weight"].fill_(1e38)  # times zero for a black image, and beyond float32 for another
    save_weights(tmp_path / "w.safetensors", tensors, WeightsInfo(config, "bicubic", "", 0))
    (tmp_path / "hr").mkdir()
    for name, level in (("black", 0), ("grey", 200)):
        Image.new("RGB", (20, 20), (level, level, level)).save(tmp_path / "hr" / f"{name}.png")
    code, out, err = evaluate(capsys, "--weights", tmp_path / "w.safetensors", "--hr", tmp_path / "hr")
    assert code == 1
    assert "grey.png: the output of srdist is not finite (NaN or infinity)" in err
    assert "images: 1" in out
    with pytest.raises(SystemExit) as stopped:
        main(
            [
                "compare",
                str(tmp_path / "hr" / "grey.png"),
                "--weights",
                str(tmp_path / "w.safetensors"),
                "--out",
                str(tmp_path / "c.png"),
            ]
        )
    assert stopped.value.code == 1
    assert "grey.png: the network makes pixels of it that are not finite" in capsys.readouterr().err
    assert not (tmp_path / "c.png").exists()


def _score_on_a_rank(rank: int, world: int, port: int, deal: list[list[TwoSizes]], folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    assert ranks.world() == world
    found = score_pairs(baselines(scale=2), iter(deal[rank]), scale=2, device=CPU)
    Path(folder, f"{rank}.json").write_text(json.dumps(asdict(found["bicubic"])))
    torch.distributed.destroy_process_group()


def test_the_scores_are_the_same_however_the_pairs_are_dealt_out(
    photos: dict[str, np.ndarray], tmp_path: Path
) -> None:
    pairs = pairs_of(photos)
    alone = score_pairs(baselines(scale=2), pairs, scale=2, device=CPU)["bicubic"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    deal = [pairs[5:], [], pairs[4::-1]]
    spawn(_score_on_a_rank, args=(3, port, deal, str(tmp_path)), nprocs=3)  # type: ignore[no-untyped-call]
    for rank in range(3):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == asdict(alone)


def test_every_kind_of_readable_image_is_scored(
    run: Run, odd_folder: Path, weights: Path, tmp_path: Path
) -> None:
    table = tmp_path / "scores.csv"
    done = run("srdist", "evaluate", "--weights", weights, "--hr", odd_folder, "--json", "--csv", table)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"images", "protocol", "methods"}
    assert list(found["methods"]) == ["nearest", "bilinear", "bicubic", "lanczos", "srdist"]
    assert all(set(scores) == {"psnr_y_db", "ssim_y", "rmse"} for scores in found["methods"].values())
    assert found["images"] == 7
    assert found["protocol"]["images_too_small_for_psnr_y"] == 1
    assert found["protocol"]["images_too_small_for_ssim_y"] == 2
    with table.open() as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "srdist"]
    assert [row["image"] for row in rows] == sorted(
        path.relative_to(odd_folder).as_posix() for path in odd_folder.rglob("*.*")
    )
    tiny = next(row for row in rows if row["image"] == "tiny.png")
    assert (tiny["psnr_y_db"], tiny["ssim_y"]) == ("", "")
    known = [float(row["psnr_y_db"]) for row in rows if row["psnr_y_db"]]
    assert found["methods"]["srdist"]["psnr_y_db"] == pytest.approx(sum(known) / 6, abs=1e-5)
    assert found["methods"]["srdist"]["rmse"] == pytest.approx(
        sum(float(row["rmse"]) for row in rows) / 7, abs=1e-5
    )


@pytest.mark.parametrize("source", ["folder", "shards"])
def test_evaluate_on_two_ranks_prints_what_it_prints_on_one(
    run: Run, odd_folder: Path, packed: Path, weights: Path, tmp_path: Path, source: str
) -> None:
    hr = {"folder": odd_folder, "shards": packed}[source]
    measures = ("--measures", "sharpness,spectrum,consistency")
    call = ("evaluate", "--weights", weights, "--hr", hr, "--json", *measures, "--csv")
    one = run("srdist", *call, tmp_path / "one.csv")
    two = run(
        *("accelerate", "launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m", "srdist"),
        *call,
        tmp_path / "two.csv",
        env={"ACCELERATE_USE_CPU": "true"},
    )
    assert two.returncode == 0, two.stderr
    assert two.stdout == one.stdout
    assert list(json.loads(one.stdout)["methods"]["srdist"])[3:] == [
        *("sharpness", "sharpness_hr", "spectrum_db", "consistency_db")
    ]
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


def test_packed_shards_score_as_the_images_that_they_were_packed_of(
    capsys: pytest.CaptureFixture[str], packed: Path, weights: Path, tmp_path: Path
) -> None:
    tables = []
    for source in (packed, packed / "images"):
        code, out, err = evaluate(
            capsys, "--weights", weights, "--hr", source, "--json", "--csv", tmp_path / "scores.csv"
        )
        assert (code, err) == (0, "")
        lines = (tmp_path / "scores.csv").read_text().replace(".png,", ",").splitlines()
        tables.append((json.loads(out)["methods"], lines))
    assert tables[0] == tables[1]
    assert len(tables[0][1]) == 1 + 7 * 5


def test_a_damaged_sample_of_packed_shards_is_listed_and_the_others_are_scored(
    capsys: pytest.CaptureFixture[str], packed: Path, weights: Path, tmp_path: Path
) -> None:
    damaged = shutil.copytree(packed, tmp_path / "damaged")
    index = ShardIndex.open(str(damaged), "test")
    place = index.bad(3, "")
    with Path(place.shard).open("r+b") as tar:
        tar.seek(place.offset + 40)
        tar.write(b"damage")
    code, out, err = evaluate(capsys, "--weights", weights, "--hr", damaged, "--json")
    assert code == 1
    assert json.loads(out)["images"] == 6
    told, total = err.splitlines()
    assert told.startswith(f"srdist: {place.key}: ")
    assert place.shard in told
    assert total == "srdist: 1 of 7 images could not be evaluated"


def test_lr_images_are_found_by_name_up_to_what_test_sets_append(
    capsys: pytest.CaptureFixture[str], photos: dict[str, np.ndarray], tmp_path: Path
) -> None:
    names = {
        "baby.png": "babyx2.png",
        "same.png": "same.png",
        "img_001_SRF_2_HR.png": "img_001_SRF_2_LR.png",
        "sub/deep.jpg": "sub/deep.png",
    }
    for i, (hr_name, lr_name) in enumerate(names.items()):
        hr = Image.fromarray(photos["chelsea"][50 * i : 50 * i + 40, :60])
        for part, name, image in [("HR", hr_name, hr), ("LR", lr_name, hr.resize((30, 20)))]:
            path = tmp_path / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, quality=95)
    call = ("--scale", 2, "--hr", tmp_path / "HR", "--lr", tmp_path / "LR", "--json")
    code, out, err = evaluate(capsys, *call)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["images"] == 4
    assert found["methods"]["bicubic"]["psnr_y_db"] > 25  # the wrong LR image would give far less

    Image.fromarray(photos["chelsea"][:40, :60]).save(tmp_path / "HR" / "lonely.png")
    code, out, err = evaluate(capsys, *call)
    assert code == 1
    assert json.loads(out) == found
    assert err.splitlines() == [
        f"srdist: lonely.png: no LR image of this name in {tmp_path / 'LR'}",
        "srdist: 1 of 5 images could not be evaluated",
    ]

    Image.fromarray(photos["chelsea"][:20, :30]).save(tmp_path / "LR" / "baby_x2.png")
    code, out, err = evaluate(capsys, *call)
    assert (code, out) == (2, "")
    assert "two LR images fit it" in err


def test_unusable_images_are_listed_and_the_others_scored(run: Run, odd_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(odd_folder, tmp_path / "hr")
    whole = (odd_folder / "photo.jpg").read_bytes()
    (tmp_path / "hr" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "hr" / "empty.png").write_bytes(b"")
    (tmp_path / "hr" / "text.png").write_text("no image")
    (tmp_path / "hr" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "hr" / "dot.png")
    call = ("srdist", "evaluate", "--scale", "2", "--json", "--hr")
    good, bad = run(*call, odd_folder), run(*call, tmp_path / "hr")
    assert (good.returncode, bad.returncode) == (0, 1)
    assert json.loads(bad.stdout)["methods"] == json.loads(good.stdout)["methods"]
    lines = bad.stderr.splitlines()
    assert [line.split(": ")[1] for line in lines[:5]] == [
        "cut.jpg",
        "dot.png",
        "empty.png",
        "gone.png",
        "text.png",
    ]
    assert lines[5:] == ["srdist: 5 of 12 images could not be evaluated"]


def test_an_lr_image_of_another_size_is_listed(
    capsys: pytest.CaptureFixture[str], photos: dict[str, np.ndarray], tmp_path: Path
) -> None:
    for part, size in [("HR", 41), ("LR", 21)]:
        (tmp_path / part).mkdir()
        Image.fromarray(photos["chelsea"][:size, :size]).save(tmp_path / part / "a.png")
    code, out, err = evaluate(capsys, "--scale", 2, "--hr", tmp_path / "HR", "--lr", tmp_path / "LR")
    assert (code, out) == (1, "")
    assert "has 21x21 pixels, expected 20x20 (HR 41x41 at scale 2)" in err


def test_a_kernel_that_the_weights_were_not_trained_for_is_a_warning(
    capsys: pytest.CaptureFixture[str], packed: Path, weights: Path
) -> None:
    code, out, err = evaluate(capsys, "--weights", weights, "--hr", packed, "--kernel", "box", "--json")
    assert code == 0
    assert json.loads(out)["protocol"]["kernel"] == "box"
    assert json.loads(out)["protocol"]["trained_for_kernel"] == "bicubic"
    assert (
        err
        == f"srdist: warning: LR is made by box, but {weights} was trained for bicubic: expect a worse result\n"
    )


def test_the_table_is_printed_as_text_and_as_markdown_with_its_protocol(
    capsys: pytest.CaptureFixture[str], packed: Path, weights: Path
) -> None:
    call = ("--weights", weights, "--hr", packed)
    _, as_json, _ = evaluate(capsys, *call, "--json")
    _, text, _ = evaluate(capsys, *call)
    _, markdown, _ = evaluate(capsys, *call, "--markdown")
    scores = json.loads(as_json)["methods"]["srdist"]
    cells = [f"{scores['psnr_y_db']:.2f}", f"{scores['ssim_y']:.4f}", f"{scores['rmse']:.4f}"]
    assert ["srdist", *cells] in [line.split() for line in text.splitlines()]
    assert f"| srdist | {' | '.join(cells)} |" in markdown.splitlines()
    for printed in (text, markdown):
        for stated in (
            "luma: BT.601, 16..235",
            "border: 2",
            "rounding:",
            "kernel: bicubic",
            "scale: 2",
            "split test",
        ):
            assert stated in printed


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("--hr nowhere --scale 2", 2, "nowhere: no such folder"),
        ("--hr empty --scale 2", 2, "empty: no image in it (an empty folder)"),
        ("--hr texts --scale 2", 2, "texts: no image in it (1 other files)"),
        ("--hr texts/a.txt --scale 2", 1, "the first: a.txt: not an image"),
        ("--hr images", 2, "the scale is not known"),
        ("--hr images --weights W --scale 3", 2, "expected one scale"),
        ("--hr images --weights nowhere.safetensors", 2, "nowhere.safetensors: no such weights file"),
        ("--hr images --weights texts/a.txt", 2, "not a safetensors file"),
        ("--hr images --weights empty", 2, "empty: a folder without best.safetensors"),
        ("--hr images --weights W --split val", 2, "images is no packed set"),
        ("--hr images --weights W --lr images --kernel box", 2, "leave one out"),
        ("--hr P --weights W --lr images", 2, "is a packed set"),
        ("--hr P --weights W --split nosuch", 2, "no split 'nosuch'"),
        ("--hr dots --scale 2", 1, "none of 1 images could be evaluated"),
        ("--hr images --scale 2 --csv texts", 1, "texts"),
        ("--scale 2", 2, "--hr"),
    ],
)
def test_a_wrong_call_is_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    packed: Path,
    weights: Path,
    tmp_path: Path,
    arguments: str,
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "texts", "images", "dots"):
        Path(folder).mkdir()
    Path("texts", "a.txt").write_text("no image")
    Image.new("RGB", (20, 20)).save("images/a.png")
    Image.new("RGB", (1, 1)).save("dots/a.png")
    call = [{"W": str(weights), "P": str(packed)}.get(word, word) for word in arguments.split()]
    found, _, err = evaluate(capsys, *call)
    assert found == code, err
    assert words in err
    assert "Traceback" not in err
    assert len(err.splitlines()) <= (1 if "--hr" in call else 4), err
    assert not [path for path in tmp_path.rglob("*") if ".tmp" in path.name]


def test_measures_that_are_asked_for_stand_in_table_json_and_csv(
    capsys: pytest.CaptureFixture[str], odd_folder: Path, weights: Path, tmp_path: Path
) -> None:
    call = ("--weights", weights, "--hr", odd_folder, "--measures", "consistency,sharpness,spectrum")
    code, out, _ = evaluate(capsys, *call, "--json", "--csv", tmp_path / "scores.csv")
    assert code == 0
    found = json.loads(out)
    assert found["protocol"]["images_without_spectrum_db"] == 2
    assert found["protocol"]["images_without_sharpness"] == 2
    assert found["protocol"]["consistency_db"].startswith("PSNR of SR, reduced by bicubic, against LR")
    means = {name: scores["spectrum_db"] for name, scores in found["methods"].items()}
    assert 0 < means["srdist"] < 20
    sharp = {name: scores["sharpness"] for name, scores in found["methods"].items()}
    assert sharp["bilinear"] < sharp["bicubic"] < sharp["lanczos"]
    assert sharp["bicubic"] < found["methods"]["bicubic"]["sharpness_hr"]
    # What bicubic makes larger it makes small again nearly as it was.
    assert found["methods"]["bicubic"]["consistency_db"] > 38
    with (tmp_path / "scores.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "srdist"]
    known = [float(row["spectrum_db"]) for row in rows if row["spectrum_db"]]
    assert (len(rows), len(known)) == (7, 5)
    assert means["srdist"] == pytest.approx(sum(known) / 5, abs=1e-5)
    text = evaluate(capsys, *call)[1].splitlines()
    assert text[0].split("  ")[-1] == "consistency dB"
    assert {len(line) for line in text[:6]} == {len(text[0])}
    assert evaluate(capsys, *call, "--markdown")[1].startswith(
        "| method | PSNR-Y dB | SSIM-Y | RMSE | sharp |"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--measures", "sharp"], "no measure 'sharp', expected all or some of sharpness,spectrum,"),
        (["--measures", "sharpness,sharpness"], "one stands there twice"),
        (["--measures", ""], "no measure ''"),
        (
            ["--measures", "consistency", "--degrade", "medium"],
            "consistency: LR is made from HR by second_order web",
        ),
    ],
)
def test_a_measure_that_cannot_be_taken_is_refused(
    capsys: pytest.CaptureFixture[str], odd_folder: Path, options: list[str], message: str
) -> None:
    code, out, err = evaluate(capsys, "--scale", 2, "--hr", odd_folder, *options)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_of_all_measures_those_that_cannot_be_taken_are_told(
    capsys: pytest.CaptureFixture[str], odd_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    code, out, err = evaluate(
        capsys, "--scale", 2, "--hr", odd_folder, "--measures", "all", "--degrade", "mild", "--json"
    )
    assert code == 0
    assert [line.split(": ")[:4] for line in err.splitlines()] == [
        ["srdist", "warning", "left out", "consistency"],
        *(
            [
                "srdist",
                "warning",
                "left out",
                f"{name} needs torchmetrics and the torchvision of this torch, pip install 'srdist[perceptual]'",
            ]
            for name in ("lpips", "dists")
        ),
    ]
    assert list(json.loads(out)["methods"]["bicubic"])[3:] == ["sharpness", "sharpness_hr", "spectrum_db"]


def test_the_last_weights_of_a_run_without_best_ones_are_taken_aloud(
    capsys: pytest.CaptureFixture[str], odd_folder: Path, weights: Path, tmp_path: Path
) -> None:
    shutil.copy(weights, tmp_path / "last.safetensors")
    code, _, err = evaluate(capsys, "--weights", tmp_path, "--hr", odd_folder / "odd.png")
    expected = f"srdist: warning: {tmp_path} has no best.safetensors: its last.safetensors is taken\n"
    assert (code, err) == (0, expected)
    shutil.copy(weights, tmp_path / "best.safetensors")
    assert evaluate(capsys, "--weights", tmp_path, "--hr", odd_folder / "odd.png")[2] == ""
