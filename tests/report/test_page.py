"""The report of a run: written by the run's own log, read back, and opened in a real browser."""

from __future__ import annotations

import html
import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.runs import CONTEST
from srdist.cli.main import main
from srdist.config import describe, dump, load
from srdist.images.pixels import to_pillow
from srdist.images.resize import resize_u8
from srdist.machine.errors import UserError
from srdist.quality.grid import Row, cut_grid, draw_grid, save_grid
from srdist.report.charts import Chart, Series, figure, number
from srdist.report.page import write_report
from srdist.report.record import read_run
from srdist.runs.log import RunLog
from tests.training.runs import Launch

NAME = "a <b>run & more"


def sample_rows(photos: dict[str, np.ndarray], *, gain: float) -> list[Row]:
    """Two rows of different sizes; SR is HR and bicubic mixed: the larger `gain`, the closer to HR."""
    rows = []
    for name, (height, width) in (("chelsea", (64, 80)), ("coffee", (90, 50))):
        hr = torch.from_numpy(photos[name][100 : 100 + height, 150 : 150 + width].copy()).permute(2, 0, 1)
        lr = resize_u8(hr.unsqueeze(0), height=height // 2, width=width // 2, kernel="bicubic")
        bicubic = resize_u8(lr, height=height, width=width, kernel="bicubic")[0]
        sr = (gain * hr + (1 - gain) * bicubic).to(torch.uint8)
        rows.append((lr[0], bicubic, sr, hr))
    return rows


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory, photos: dict[str, np.ndarray]) -> Path:
    """A run that was stopped, resumed with another learning rate, and killed while it wrote a row."""
    run = tmp_path_factory.mktemp("runs") / NAME
    run.mkdir()
    (run / "samples").mkdir()
    config = load(None, ["train.steps=400", "data.shards='some <set>'"])
    (run / "config.yaml").write_text(dump(config))
    log = RunLog(run, main=True, quiet=True)
    facts: dict[str, Any] = {
        "world": 2,
        "rank_batch": 16,
        "accumulation": 1,
        "parameters": 79107,
        "device_name": "AMD EPYC",
    }
    log.row("start", 0, **facts, torch="2.13.0", changed={})
    for step in range(10, 301, 10):
        if step == 210:
            log.row("stop", 200, reason="SIGTERM", train_seconds=61.5)
            log.row("resume", 200, **facts, torch="2.13.1", changed={"train.learning_rate": [1e-3, 5e-4]})
        loss = math.inf if step == 50 else 0.01 / step
        row = {"learning_rate": 1e-3, "grad_norm": 0.1 / step, "images_per_s": 100.0 + step}
        log.row(
            "train",
            step,
            loss=loss,
            **row,
            data_wait_share=0.01,
            memory_mb=500.0,
            refused_steps=0,
            bad_samples=0,
        )
        if step % 100 == 0:
            psnr = {100: 31.0, 200: 32.5, 300: 32.25}[step]
            scores = {"psnr_y_db": psnr, "ssim_y": 0.9, "rmse": 0.025}
            bicubic = {"bicubic_psnr_y_db": 30.0, "bicubic_ssim_y": 0.85, "bicubic_rmse": 0.03}
            more = {
                "sharpness": 0.5,
                "spectrum_db": 6.25,
                "bicubic_sharpness": 0.4,
                "bicubic_spectrum_db": 9.0,
            }
            log.row("val", step, images=7, **scores, **bicubic, **more, sharpness_hr=0.6)
            log.picture(step, draw_grid(sample_rows(photos, gain=step / 400), title=f"step {step}"))
    log.row("refused", 300, loss=math.nan, grad_norm=1.0, keys=["000001"])
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 310, "kind": "tra')
    return run


def text_of(page: str) -> str:
    """What a reader sees, scripts and styles apart."""
    page = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page)))


def test_the_report_tells_what_happened(run_folder: Path, tmp_path: Path) -> None:
    text = text_of(write_report(run_folder, tmp_path / "out.html").read_text())
    for said in (
        NAME,
        "Step 300 of 400; the log does not say how it ended",
        "32.50 dB best PSNR-Y, at step 200",
        "+2.50 dB over bicubic (30.00 dB)",
        "1:02 of training",
        "1 resumptions",
        "1 steps left out, not finite",
        "bicubic 30.00 0.8500 0.0300 0.4000 9.00",
        "srdist, best (step 200) 32.50 0.9000 0.0250 0.5000 6.25",
        "Distance of spectra of validation, dB",
        "split val; the sharpness of HR is 0.6000",
        "srdist, last (step 300) 32.25 0.9000 0.0250",
        "7 images of some <set>, split val;",
        "0 to 200 start 2 x AMD EPYC 16 x 1",
        "stopped: SIGTERM",
        "200 to 300 resume",
        "train.learning_rate: 0.001 to 0.0005",
        "torch 2.13.1",
        "79,107 parameters",
    ):
        assert said in text, said
    for field, _, meaning in describe(load(None)):
        assert f"{field} " in text
        assert meaning in text


def test_the_report_needs_nothing_but_itself(run_folder: Path, tmp_path: Path) -> None:
    page = write_report(run_folder, tmp_path / "out.html").read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page)
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page
    assert "<b>run" not in page  # the run's name is text, wherever it stands


def test_the_same_log_gives_the_same_report_in_the_run_folder(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / NAME
    shutil.copytree(run_folder, run)
    pages = []
    for _ in range(2):
        with pytest.raises(SystemExit) as stopped:
            main(["report", str(run)])
        assert stopped.value.code == 0
        assert capsys.readouterr().out == f"{run / 'report.html'}\n"
        pages.append((run / "report.html").read_bytes())
    assert pages[0] == pages[1]


def test_a_run_reads_back_as_it_was_logged(run_folder: Path) -> None:
    record = read_run(run_folder)
    assert (record.name, record.last_step, len(record.train), len(record.val)) == (NAME, 300, 30, 3)
    assert [(session.first_step, session.last_step, session.end) for session in record.sessions] == [
        (0, 200, "stopped: SIGTERM"),
        (200, 300, ""),
    ]
    assert [step for step, _ in record.samples] == [100, 200, 300]


def test_a_run_that_has_just_begun_has_a_report(run_folder: Path, tmp_path: Path) -> None:
    shutil.copy(run_folder / "config.yaml", tmp_path)
    first = (run_folder / "metrics.jsonl").read_text().splitlines()[0]
    (tmp_path / "metrics.jsonl").write_text(first + "\n")
    text = text_of(write_report(tmp_path).read_text())
    assert "No validation yet" in text
    assert text.count("nothing logged yet") == 8


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda run: shutil.rmtree(run), "is no folder"),
        (lambda run: (run / "metrics.jsonl").unlink(), "has no metrics.jsonl"),
        (lambda run: (run / "metrics.jsonl").write_text(""), "no start of a run in it"),
        (
            lambda run: (run / "metrics.jsonl").write_text("junk\n{}\n"),
            "line 1 is no row of a run's log: 'junk'",
        ),
        (lambda run: (run / "metrics.jsonl").write_bytes(bytes(range(256)) * 9), "line 1 is no row"),
        (lambda run: (run / "metrics.jsonl").write_bytes(b"[" * 200_000 + b"\n{}\n"), "line 1 is no row"),
        (lambda run: (run / "config.yaml").unlink(), "config.yaml: no such file"),
    ],
)
def test_what_is_no_run_folder_is_refused_in_one_line(
    run_folder: Path, tmp_path: Path, damage: object, words: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    assert callable(damage)
    damage(run)
    with pytest.raises(UserError, match=re.escape(words)) as error:
        write_report(run)
    assert str(run) in str(error.value)
    assert not (run / "report.html").exists()


def test_a_damaged_sample_grid_is_named_and_the_others_are_shown(run_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    first, *others = sorted((run / "samples").glob("step-*.png"))
    assert others
    first.write_bytes(first.read_bytes()[:200])
    page = write_report(run).read_text()
    assert f"left out: {first}: " in page
    assert 'id="samples"' in page
    Image.new("RGB", (9, 9)).save(first)
    assert f"left out: {first}: {first}: no sample grid of srdist" in write_report(run).read_text()
    for path in others:
        path.write_bytes(b"no picture")
    assert 'id="samples"' not in write_report(run).read_text()


def test_whatever_is_flipped_in_a_log_there_is_a_report_or_one_line(run_folder: Path, tmp_path: Path) -> None:
    log = (run_folder / "metrics.jsonl").read_bytes()
    shutil.copy(run_folder / "config.yaml", tmp_path)
    generator = np.random.default_rng(0)
    reports = refused = 0
    for _ in range(300):
        mutated = np.frombuffer(log, np.uint8).copy()
        places = generator.integers(0, len(mutated), size=3)
        mutated[places] = generator.choice(np.frombuffer(b'0e9-".,:{}[]x\xff', np.uint8), size=3)
        (tmp_path / "metrics.jsonl").write_bytes(mutated.tobytes())
        try:
            write_report(tmp_path)
            reports += 1
        except UserError:
            refused += 1
    assert reports > 20
    assert refused > 20


def test_a_validation_without_a_score_is_not_the_best(run_folder: Path, tmp_path: Path) -> None:
    shutil.copy(run_folder / "config.yaml", tmp_path)
    log = RunLog(tmp_path, main=True, quiet=True)
    log.row("start", 0)
    for step, psnr in ((1, math.nan), (2, 30.0), (3, math.nan)):
        log.row("val", step, psnr_y_db=psnr, images=3)
    best = read_run(tmp_path).best
    assert best is not None
    assert best["step"] == 2
    write_report(tmp_path)


def test_a_sample_grid_can_be_cut_into_the_images_that_it_was_drawn_of(
    photos: dict[str, np.ndarray], tmp_path: Path
) -> None:
    rows = sample_rows(photos, gain=0.5)
    save_grid(tmp_path / "grid.png", draw_grid(rows, title="t"))
    found = cut_grid(tmp_path / "grid.png")
    assert len(found) == 2
    for cut, (lr, bicubic, sr, hr) in zip(found, rows, strict=True):
        upscaled = resize_u8(lr.unsqueeze(0), height=hr.shape[1], width=hr.shape[2], kernel="nearest")[0]
        for image, drawn in zip(cut, (upscaled, bicubic, sr, hr), strict=True):
            assert np.array_equal(np.array(image), np.array(to_pillow(drawn)))


def drawn_ticks(page: str, anchor: str) -> list[float]:
    found = re.findall(rf'class="tick"[^>]*text-anchor="{anchor}">([^<]*)<', page)
    return [float(text.replace(",", "")) for text in found if text != "step"]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "values",
    [(1.0, 1.0), (0.0123, 0.0124), (1e-7, 3e-7), (1e-6, 10.0), (5.0,), (12_345.0, 99_999.0)],
    ids=str,
)
def test_axes_are_readable_and_curves_stay_inside(values: tuple[float, ...], log: bool) -> None:
    points = tuple(enumerate(values, start=3))
    page = figure(Chart("title", (Series("one", points, "plain"),), last_step=10, log=log))
    ticks = drawn_ticks(page, "end")
    assert 2 <= len(ticks) <= 14
    assert ticks == sorted(set(ticks))
    (drawn,) = re.findall(r'polyline class="plain" points="([^"]*)"', page)
    for place in drawn.split():
        x, y = map(float, place.split(","))
        assert 62 <= x <= 626
        assert 12 <= y <= 236


@pytest.mark.parametrize("last_step", [2000, 20_000, 500_000])
def test_no_label_of_the_steps_reaches_beyond_the_picture(last_step: int) -> None:
    page = figure(Chart("title", (Series("one", ((0, 1), (1, 2)), "plain"),), last_step=last_step))
    labels = re.findall(r'<text class="tick" x="([^"]*)" y="254" text-anchor="middle">([^<]*)<', page)
    assert labels[-1][1] == f"{last_step:,}"
    for x, text in labels:
        # 7.7 pixels a digit: DejaVu Sans, the widest of the usual fonts.
        assert float(x) + len(text) * 7.7 / 2 <= 640.05


def test_a_long_curve_is_thinned_and_a_log_axis_leaves_zero_out() -> None:
    points = tuple((float(i), float(i % 2)) for i in range(100_000))
    page = figure(Chart("title", (Series("one", points, "plain"),), last_step=100_000))
    (drawn,) = re.findall(r'polyline class="plain" points="([^"]*)"', page)
    assert 700 < len(drawn.split()) <= 1500
    page = figure(Chart("title", (Series("one", ((1.0, 0.0), (2.0, 3.0)), "plain"),), last_step=2, log=True))
    assert len(re.findall(r"<circle", page)) == 1


def test_numbers_are_short() -> None:
    assert [number(value) for value in (0, 1, 31.536, 0.88967, 1234.5, 79107, 1e-6, 0.0005, 2e7, -3.25)] == [
        *("0", "1", "31.54", "0.8897", "1,234", "79,107", "1e-06", "0.0005", "2e+07", "-3.25")
    ]


PROBE = """
<script>
const found = {};
const fire = (element, kind) => element.dispatchEvent(new Event(kind));
const sources = () => [...document.querySelectorAll(".pair")].map(
  (pair) => ["before", "after"].map((side) => pair.querySelector("." + side).src));
found.loaded = [...document.images].every((image) => image.complete && image.naturalWidth > 1);
found.images = document.images.length;
found.at_first = sources();
found.shown_at_first = document.getElementById("step-shown").textContent;
document.getElementById("step").value = 0;
fire(document.getElementById("step"), "input");
found.earlier = sources();
found.shown_earlier = document.getElementById("step-shown").textContent;
found.labels = [...document.querySelectorAll(".pair .tag")].map((tag) => tag.textContent);
document.getElementById("before").value = "hr";
fire(document.getElementById("before"), "change");
found.beside_original = sources();
const pair = document.querySelector(".pair");
const divider = pair.querySelector("input");
divider.value = 20;
fire(divider, "input");
found.clip = getComputedStyle(pair.querySelector(".after")).clipPath;
const svg = document.querySelector(".chart svg");
const box = svg.getBoundingClientRect();
svg.dispatchEvent(new PointerEvent("pointermove", { clientX: box.left + box.width * 0.55, clientY: box.top + 50 }));
found.told = document.querySelector(".chart output").textContent;
found.pointers = document.querySelectorAll(".chart .pointer circle").length;
found.cut = Math.max(...[...document.querySelectorAll(".chart .tick")].map((tick) => {
  const [label, picture] = [tick, tick.ownerSVGElement].map((each) => each.getBoundingClientRect());
  return Math.max(label.right - picture.right, picture.left - label.left, label.bottom - picture.bottom);
}));
found.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
found.charts = [...document.querySelectorAll(".chart svg")].map((each) => each.getBoundingClientRect().height);
document.body.innerHTML = "<pre id=found></pre>";
document.getElementById("found").textContent = JSON.stringify(found);
</script>
"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 420])
def test_a_browser_shows_the_report_and_its_controls_work(
    run_folder: Path, tmp_path: Path, width: int
) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine (.ci/run installs Debian's)")
    page = tmp_path / "page.html"
    write_report(run_folder, page)
    page.write_text(page.read_text().replace("</body>", f"{PROBE}</body>"))
    done = subprocess.run(
        [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *(
                "--enable-logging=stderr",
                f"--user-data-dir={tmp_path / 'profile'}",
                f"--window-size={width},2000",
            ),
            *("--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line], done.stderr
    match = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert match, done.stdout[-2000:]
    found = json.loads(html.unescape(match[1]))
    assert found["loaded"]
    assert found["images"] == 2 * 3
    assert (found["shown_at_first"], found["shown_earlier"]) == ("300", "100")
    for at_first, earlier, beside_original in zip(
        found["at_first"], found["earlier"], found["beside_original"], strict=True
    ):
        assert earlier[0] == at_first[0]  # bicubic is the same at every step
        assert earlier[1] != at_first[1]  # the network's output is not
        assert beside_original[0] != earlier[0]
        assert beside_original[1] == earlier[1]
    assert re.fullmatch(r"bicubic \d+\.\d\d dB", found["labels"][0])
    assert re.fullmatch(r"srdist, step 100: \d+\.\d\d dB", found["labels"][1])
    assert found["clip"] == "inset(0px 0px 0px 20%)"
    assert found["told"] == "step 200: srdist 32.5, bicubic 30"
    assert found["pointers"] == 2
    assert found["cut"] <= 0.5  # no label of an axis is
    assert found["overflow"] == 0  # nothing is wider than the window
    assert len(found["charts"]) == 10
    assert min(found["charts"]) > 100


@pytest.mark.slow
def test_a_real_run_has_a_report(small_set: Path, tmp_path: Path) -> None:
    settings = (*CONTEST, "train.validate_every=2", "log.sample_images=2", "train.decay_steps=9")
    launch = Launch(small_set, tmp_path / "run", settings)
    launch.finish("train.steps=2")
    launch.finish("train.steps=4")
    text = text_of(write_report(launch.run).read_text())
    for said in ("Step 4 of 4; done.", "1 resumptions", "0 to 2 start", "2 to 4 resume", "srdist, step 4:"):
        assert said in text, said
    for curve in (
        "Loss adversarial, of weight 0.1",
        "Loss critic",
        "Grad norm critic",
        "Share of SR that the critic does not take for real",
        "SR brighter than HR in green, levels",
    ):
        assert curve in text, curve
