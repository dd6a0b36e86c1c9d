"""A directory of images through a network."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from srdist.cli.main import main
from srdist.cli.upscale import describe
from srdist.machine.claims import Worker
from srdist.machine.errors import UserError
from srdist.networks.config import SRCNNConfig
from srdist.networks.tilednetwork import TiledNetwork
from srdist.networks.weightfile import WeightsInfo, load_weights, save_weights
from srdist.upscaling.job import Job, Output
from srdist.upscaling.tree import Watch, upscale_tree
from tests.conftest import Run, clean_environment

SMALL = SRCNNConfig(widths=(12, 8))


def write_weights(path: Path, *, seed: int = 0, config: SRCNNConfig = SMALL) -> Path:
    save_weights(path, config.build(seed=seed).state_dict(), WeightsInfo(config, "bicubic", "", 0))
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_weights(tmp_path / "w.safetensors")


@pytest.fixture
def tree(tmp_path: Path, photos: dict[str, np.ndarray]) -> Path:
    """24 images in nested folders, one of them broken."""
    source = tmp_path / "src"
    names = [
        f"{folder}{i}{suffix}"
        for folder in ("", "a/", "a/b/")
        for i, suffix in enumerate([".jpg", ".png"] * 4)
    ]
    for k, name in enumerate(names):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photos["coffee"][k * 9 : k * 9 + 40, k * 11 : k * 11 + 30 + k]).save(path)
    (source / "a" / "broken.jpg").write_bytes((source / "0.jpg").read_bytes()[:200])
    (source / "notes.txt").write_text("no image")
    return source


def go(source: Path, destination: Path, weights: Path, **changes: Any) -> Any:
    """The job in this process, one thread."""
    network, _ = load_weights(weights)
    tiled = changes.pop("tiled", None) or TiledNetwork(network, device=torch.device("cpu"))
    of_job: dict[str, Any] = {"output": Output(), "weights_digest": network.digest(), "precision": "fp32"}
    of_job |= {name: changes.pop(name) for name in ("output", "weights_digest", "share") if name in changes}
    job = Job.of(source, destination, **of_job)
    watch = Watch()
    for name in [name for name in ("working", "tell") if name in changes]:
        setattr(watch, name, changes.pop(name))
    return upscale_tree(job, tiled, watch=watch, **({"threads": 2} | changes))


def outputs(destination: Path) -> dict[str, bytes]:
    """Every visible image file below a folder."""
    return {
        str(path.relative_to(destination)): path.read_bytes()
        for path in sorted(destination.rglob("*"))
        if path.is_file() and ".srdist" not in path.parts and path.suffix not in (".json", ".jsonl")
    }


def done_lines(destination: Path) -> Counter[str]:
    """How often each image was made, by the receipts."""
    lines = [
        json.loads(line)
        for log in (destination / ".srdist" / "receipts").glob("*.jsonl")
        for line in log.read_text().splitlines(keepends=True)
        if line.endswith("\n")
    ]
    return Counter(line["path"] for line in lines if line["status"] == "done")


def test_the_tree_is_kept_and_what_is_broken_is_listed(tree: Path, tmp_path: Path, weights: Path) -> None:
    dst = tmp_path / "dst"
    report = go(tree, dst, weights)
    assert (report.images, report.done, report.failed) == (25, 24, 1)
    inputs = {str(path.relative_to(tree)) for path in tree.rglob("*.[jp][pn]g")} - {"a/broken.jpg"}
    assert outputs(dst).keys() == inputs
    for name in inputs:
        small, large = Image.open(tree / name), Image.open(dst / name)
        assert large.size == (small.width * 2, small.height * 2)
        assert large.format == small.format
        bicubic = np.asarray(small.resize(large.size, Image.Resampling.BICUBIC), float)
        assert np.abs(np.asarray(large) - bicubic).mean() < 10
    (failure,) = [json.loads(line) for line in (dst / "failures.jsonl").read_text().splitlines()]
    assert failure["path"] == "a/broken.jpg"
    assert "runcated" in failure["reason"]
    summary = json.loads((dst / "summary.json").read_text())
    assert (summary["images"], summary["done"], summary["failed"], summary["computed"]) == (25, 24, 1, 24)


def test_a_rerun_makes_only_what_is_missing_or_changed(tree: Path, tmp_path: Path, weights: Path) -> None:
    dst = tmp_path / "dst"
    go(tree, dst, weights)
    before = {name: (dst / name).stat().st_mtime_ns for name in outputs(dst)}
    assert go(tree, dst, weights).computed == 0
    assert before == {name: (dst / name).stat().st_mtime_ns for name in outputs(dst)}

    (dst / "0.jpg").unlink()
    (dst / "1.png").write_bytes(b"cut off")
    Image.new("RGB", (20, 20)).save(tree / "a" / "2.jpg")  # another image under the same name
    os.utime(tree / "a" / "3.png", (1, 1))  # the same image with another date
    Image.new("RGB", (7, 7)).save(tree / "new.png")
    (tree / "a" / "broken.jpg").unlink()
    report = go(tree, dst, weights)
    assert (report.images, report.done, report.failed) == (25, 25, 0)
    changed = {name for name in outputs(dst) if before.get(name) != (dst / name).stat().st_mtime_ns}
    assert changed == {"0.jpg", "1.png", "a/2.jpg", "new.png"}
    assert (dst / "failures.jsonl").read_text() == ""
    assert go(tree, dst, weights).computed == 0


def test_other_weights_or_settings_make_everything_again(tree: Path, tmp_path: Path, weights: Path) -> None:
    dst = tmp_path / "dst"
    go(tree, dst, weights)
    first = outputs(dst)
    other = write_weights(tmp_path / "other.safetensors", seed=1)
    assert go(tree, dst, other).computed == 24
    assert all(first[name] != data for name, data in outputs(dst).items())
    assert go(tree, dst, other, output=Output(quality=50)).computed == 24


def test_files_that_srdist_did_not_make_are_not_replaced_unasked(
    tree: Path, tmp_path: Path, weights: Path
) -> None:
    dst = tmp_path / "dst"
    dst.mkdir()
    (dst / "0.jpg").write_bytes(b"precious")
    report = go(tree, dst, weights)
    assert report.failed == 2
    assert (dst / "0.jpg").read_bytes() == b"precious"
    assert "--overwrite" in (dst / "failures.jsonl").read_text()
    assert go(tree, dst, weights, output=Output(overwrite=True)).failed == 1
    assert Image.open(dst / "0.jpg").size == (60, 80)


@pytest.mark.parametrize("output_format", ["png", "jpg", "webp"])
def test_a_format_can_be_chosen_and_colliding_names_are_kept_apart(
    tree: Path, tmp_path: Path, weights: Path, output_format: Any
) -> None:
    Image.open(tree / "0.jpg").save(tree / "0.png")
    Image.open(tree / "1.png").save(tree / "1.webp")
    dst = tmp_path / "dst"
    report = go(tree, dst, weights, output=Output(format=output_format))
    assert report.done == 26
    names = outputs(dst).keys()
    assert len(names) == 26
    assert {Path(name).suffix for name in names} == {f".{output_format}"}
    assert {Image.open(dst / name).format for name in names} == {
        {"jpg": "JPEG"}.get(output_format, output_format.upper())
    }
    kept = {"png": {"0.png", "0.jpg.png", "1.png", "1.webp.png"}}.get(output_format)
    assert kept is None or kept <= names


def test_links_are_followed_but_never_round_in_circles(tree: Path, tmp_path: Path, weights: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Image.new("RGB", (5, 5)).save(elsewhere / "x.png")
    (tree / "link").symlink_to(elsewhere)
    (tree / "a" / "up").symlink_to(tree)
    (tree / "gone.png").symlink_to(tmp_path / "nowhere.png")
    report = go(tree, tmp_path / "dst", weights)
    assert report.links_not_followed == ("a/up",)
    assert (tmp_path / "dst" / "link" / "x.png").is_file()
    assert report.failed == 2
    assert "gone.png" in (tmp_path / "dst" / "failures.jsonl").read_text()


def test_a_folder_that_cannot_be_listed_is_told_and_the_rest_is_done(
    tree: Path, tmp_path: Path, weights: Path
) -> None:
    # A path over the system's limit: refused to root as well.
    place = os.open(tree, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=place)
        inner = os.open("d" * 250, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)
    dst = tmp_path / "dst"
    report = go(tree, dst, weights)
    assert (report.images, report.done, report.failed, report.folders_not_listed) == (25, 24, 1, 1)
    assert "1 folder could not be listed" in describe(report, dst, scale=2)
    first, second = [json.loads(line) for line in (dst / "failures.jsonl").read_text().splitlines()]
    assert first["path"].startswith("d" * 250)
    assert "File name too long" in first["reason"]
    assert second["path"] == "a/broken.jpg"
    told = CliRunner().invoke(main, ["upscale", "--status", str(dst)])
    assert told.exit_code == 1
    assert "File name too long" in told.output


def test_images_are_those_done_and_those_failed_whatever_kept_them_from_being_read(
    tree: Path, tmp_path: Path, weights: Path
) -> None:
    os.mkfifo(tree / "pipe.jpg")
    (tree / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tree / "raw.cr2").write_bytes(b"II*")
    dst = tmp_path / "dst"
    report = go(tree, dst, weights)
    assert (report.images, report.done, report.failed) == (28, 24, 4)
    assert describe(report, dst, scale=2).startswith("24 of 28 images x2 in ")
    summary = json.loads((dst / "summary.json").read_text())
    assert (summary["images"], summary["done"], summary["failed"]) == (28, 24, 4)
    assert len((dst / "failures.jsonl").read_text().splitlines()) == 4
    told = CliRunner().invoke(main, ["upscale", "--status", str(dst)])
    assert told.output.startswith(f"{dst}: 24 of 28 images done, 4 failed, 0 to do\n")


def test_hidden_files_are_left_out(tree: Path, tmp_path: Path, weights: Path) -> None:
    (tree / "._0.jpg").write_bytes(b"a resource fork")
    (tree / ".thumbs").mkdir()
    Image.new("RGB", (5, 5)).save(tree / ".thumbs" / "x.png")
    assert go(tree, tmp_path / "dst", weights).images == 25


def test_grey_alpha_and_size_survive_the_whole_way(
    tmp_path: Path, weights: Path, photos: dict[str, np.ndarray]
) -> None:
    source = tmp_path / "src"
    source.mkdir()
    cat = Image.fromarray(photos["chelsea"]).crop((0, 0, 31, 17))
    cat.convert("L").save(source / "grey.jpg")
    cat.convert("LA").save(source / "grey_alpha.png")
    cat.convert("RGBA").save(source / "alpha.webp")
    cat.convert("P").save(source / "palette.gif")
    cat.save(source / "windows.bmp")
    cat.resize((1, 1)).save(source / "one.png")
    cat.resize((3, 5000)).save(source / "long.png")
    report = go(source, tmp_path / "dst", weights)
    assert report.failed == 0
    found = {name: Image.open(tmp_path / "dst" / name) for name in outputs(tmp_path / "dst")}
    assert {name: (image.mode, image.size) for name, image in found.items()} == {
        "grey.jpg": ("L", (62, 34)),
        "grey_alpha.png": ("LA", (62, 34)),
        "alpha.webp": ("RGB", (62, 34)),  # WebP drops an alpha that is opaque everywhere
        "palette.png": ("RGB", (62, 34)),
        "windows.bmp": ("RGB", (62, 34)),
        "one.png": ("RGB", (2, 2)),
        "long.png": ("RGB", (6, 10000)),
    }


def test_two_ranks_under_accelerate_make_each_image_once_and_the_same_bytes_as_one(
    tree: Path, tmp_path: Path, weights: Path, run: Run
) -> None:
    go(tree, tmp_path / "one", weights)
    launched = run(
        *("accelerate", "launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "-m", "srdist"),
        *("upscale", tree, tmp_path / "two", "--weights", weights, "--precision", "fp32"),
        env={"ACCELERATE_USE_CPU": "true"},
    )
    assert launched.returncode == 1
    assert launched.stdout.splitlines()[0].startswith(f"24 of 25 images x2 in {tmp_path / 'two'}; 24 made in")
    assert outputs(tmp_path / "one") == outputs(tmp_path / "two")
    assert set(done_lines(tmp_path / "two").values()) == {1}
    assert not list((tmp_path / "two" / ".srdist" / "workers").iterdir())


def test_a_single_image_goes_into_a_folder_or_a_file(
    tree: Path, tmp_path: Path, weights: Path, run: Run
) -> None:
    assert go(tree / "1.png", tmp_path / "dst", weights).done == 1
    result = run("srdist", "upscale", tree / "1.png", tmp_path / "large.jpg", "--weights", weights)
    assert result.returncode == 0, result.stderr
    assert Image.open(tmp_path / "large.jpg").size == Image.open(tmp_path / "dst" / "1.png").size
    again = run("srdist", "upscale", tree / "1.png", tmp_path / "large.jpg", "--weights", weights)
    assert again.returncode == 2
    assert again.stderr == f"srdist: {tmp_path / 'large.jpg'}: exists already; --overwrite replaces it\n"


def test_the_status_of_a_job_is_told_from_its_folder(tree: Path, tmp_path: Path, weights: Path) -> None:
    dst = tmp_path / "dst"
    go(tree, dst, weights)
    Image.new("RGB", (9, 9)).save(tree / "later.png")
    told = CliRunner().invoke(main, ["upscale", "--status", str(dst)])
    assert told.exit_code == 1
    assert told.output.splitlines()[:2] == [
        f"{dst}: 24 of 26 images done, 1 failed, 1 to do",
        "0 processes at work",
    ]
    assert "failed: a/broken.jpg" in told.output
    (tree / "a" / "broken.jpg").unlink()
    go(tree, dst, weights)
    assert CliRunner().invoke(main, ["upscale", "--status", str(dst)]).exit_code == 0
    nothing = CliRunner().invoke(main, ["upscale", "--status", str(tree)])
    assert nothing.stderr == f"srdist: {tree}: no upscale job has been begun here\n"


def test_the_status_tells_the_rate_while_somebody_works(tree: Path, tmp_path: Path, weights: Path) -> None:
    dst = tmp_path / "dst"
    go(tree, dst, weights)
    Image.new("RGB", (9, 9)).save(tree / "later.png")
    with Worker(dst / ".srdist") as worker:
        lines = CliRunner().invoke(main, ["upscale", "--status", str(dst)]).output.splitlines()
    assert lines[1:3] == ["1 processes at work", f"  {worker.name}"]
    rate = re.fullmatch(r"of late (\d+\.\d) images/s, \d+\.\d\d input megapixels/s, 0:0\d left", lines[3])
    assert rate is not None
    assert 0 < float(rate[1]) <= 24  # within a second, which is the least it is told for


def refused(*command: str | Path) -> str:
    """What a refused call prints: one line, no traceback, nothing on standard output."""
    result = CliRunner().invoke(main, ["upscale", *map(str, command)])
    assert result.exit_code in (1, 2), result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("srdist: ")
    return result.stderr


def test_bad_calls_are_refused_in_one_line(tree: Path, tmp_path: Path, weights: Path) -> None:
    empty, only_text, file = tmp_path / "empty", tmp_path / "text", tmp_path / "file"
    empty.mkdir()
    only_text.mkdir()
    (only_text / "a.txt").write_text("x")
    file.write_text("x")
    dst, w = tmp_path / "dst", ("--weights", weights)
    assert "an empty folder" in refused(empty, dst, *w)
    assert "no image in it (1 other files)" in refused(only_text, dst, *w)
    assert "no such file or folder" in refused(tmp_path / "nowhere", dst, *w)
    assert "DST is SRC itself" in refused(tree, tree, *w)
    assert "DST lies inside SRC" in refused(tree, tree / "out", *w)
    assert "SRC lies inside DST" in refused(tree / "a", tree, *w)
    assert "expected a folder" in refused(tree, file, *w)
    assert "not a safetensors file" in refused(tree, dst, "--weights", tree / "0.jpg")
    assert "expected I/N" in refused(tree, dst, *w, "--part", "4/4")
    assert "do not agree" in refused(tree / "1.png", tmp_path / "x.png", *w, "--format", "jpg")
    assert "--tile 0: expected auto or a number" in refused(tree, dst, *w, "--tile", "0")
    assert not dst.exists()


@pytest.fixture
def full_disk(tmp_path: Path) -> Any:
    """A file system of 1 MB; skips where it cannot be mounted."""
    place = tmp_path / "small"
    place.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("cannot mount a tmpfs here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_ends_in_one_line_with_nothing_half_written(
    tmp_path: Path, weights: Path, full_disk: Path
) -> None:
    source = tmp_path / "src"
    source.mkdir()
    noise = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(noise.integers(0, 256, (150, 150, 3), dtype=np.uint8)).save(source / f"{i}.png")
    assert "No space left on device" in refused(source, full_disk / "dst", "--weights", weights)
    for name in outputs(full_disk / "dst"):
        Image.open(full_disk / "dst" / name).load()
    assert not list((full_disk / "dst").rglob("*.tmp*"))


def test_a_rank_other_than_the_first_tells_its_own_system_error(
    tree: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert "/proc/" in refused(tree, Path("/proc/dst"), "--weights", weights)


@pytest.mark.skipif(
    os.geteuid() == 0 and not Path("/proc/version").exists(), reason="root may write everywhere"
)
def test_a_folder_that_cannot_be_written_ends_in_one_line(tree: Path, weights: Path) -> None:
    # /proc refuses everyone, root too.
    assert "/proc/" in refused(tree, Path("/proc/dst"), "--weights", weights)


def launch_alone(tree: Path, dst: Path, weights: Path, rank: int) -> subprocess.Popen[bytes]:
    """One of three processes on one folder, as `--shard`."""
    command = [
        "-m",
        "srdist",
        "upscale",
        tree,
        dst,
        "--weights",
        weights,
        "--precision",
        "fp32",
        "--shard",
        f"{rank}/3",
    ]
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=clean_environment(),
    )


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [2])
def test_after_kills_at_random_a_rerun_makes_exactly_what_is_missing(
    tmp_path: Path, photos: dict[str, np.ndarray], rounds: int
) -> None:
    source, weights = tmp_path / "src", write_weights(tmp_path / "w.safetensors", config=SRCNNConfig())
    source.mkdir()
    for k in range(40):
        Image.fromarray(photos["coffee"][k * 4 : k * 4 + 60, k * 6 : k * 6 + 70]).save(
            source / f"{k:02d}.png"
        )
    go(source, tmp_path / "right", weights)
    right = outputs(tmp_path / "right")
    chance = random.Random(0)
    for number in range(rounds):
        dst = tmp_path / f"dst{number}"
        processes = [launch_alone(source, dst, weights, rank) for rank in range(3)]
        while sum(done_lines(dst).values()) < 5:
            time.sleep(0.02)
        for process in chance.sample(processes, 2):
            time.sleep(chance.random() * 0.5)
            process.kill()
        for process in processes:
            process.wait()
        # The survivor has taken over what the killed ones had begun.
        assert outputs(dst) == right
        made = done_lines(dst)
        assert go(source, dst, weights).computed == 0
        assert made == done_lines(dst)
        assert set(made) == set(right)
        assert set(made.values()) == {1}
        left = [path.name for path in dst.rglob("*") if ".tmp" in path.name or path.suffix == ".raw"]
        assert left == []


@pytest.mark.slow
def test_when_all_are_killed_a_rerun_goes_on(tmp_path: Path, photos: dict[str, np.ndarray]) -> None:
    source, weights = tmp_path / "src", write_weights(tmp_path / "w.safetensors", config=SRCNNConfig())
    source.mkdir()
    for k in range(40):
        Image.fromarray(photos["coffee"][k * 4 : k * 4 + 60, k * 6 : k * 6 + 70]).save(
            source / f"{k:02d}.png"
        )
    dst = tmp_path / "dst"
    kills = 0
    while sum(done_lines(dst).values()) < 22:
        processes = [launch_alone(source, dst, weights, rank) for rank in range(2)]
        before = sum(done_lines(dst).values())
        while sum(done_lines(dst).values()) < before + 5 and any(p.poll() is None for p in processes):
            time.sleep(0.01)
        for process in processes:
            process.kill()
            process.wait()
        kills += 1
    assert kills >= 2
    assert go(source, dst, weights).done == 40
    assert set(done_lines(dst).values()) == {1}
    # One that was killed in its first moment has left a hidden folder, which goes with the first run a lease later.
    left = [path.name for path in (dst / ".srdist" / "workers").iterdir()]
    assert [name for name in left if not name.startswith(".")] == []
    assert not [path for path in dst.rglob("*") if ".tmp" in path.name]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_launcher_or_ctrl_c_stops_it_with_nothing_left_behind(
    tmp_path: Path, photos: dict[str, np.ndarray], number: signal.Signals
) -> None:
    source, weights = tmp_path / "src", write_weights(tmp_path / "w.safetensors", config=SRCNNConfig())
    source.mkdir()
    for k in range(200):
        Image.fromarray(photos["coffee"][k : k + 60, k : k + 70]).save(source / f"{k:03d}.png")
    dst = tmp_path / "dst"
    process = launch_alone(source, dst, weights, 0)
    while not done_lines(dst):
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(timeout=300) == 128 + number
    assert not [*(dst / ".srdist" / "workers").iterdir(), *(dst / ".srdist" / "claims").iterdir()]
    assert 0 < len(outputs(dst)) == len(done_lines(dst)) < 200


@pytest.mark.parametrize("name", ["summary.json", "failures.jsonl"])
def test_a_folder_of_images_that_is_named_as_a_closing_file_keeps_its_place(
    tree: Path, tmp_path: Path, weights: Path, name: str
) -> None:
    (tree / "a" / "b").rename(tree / name)
    report = go(tree, tmp_path / "dst", weights)
    assert (report.done, report.failed) == (24, 1)
    assert len(list((tmp_path / "dst" / name).glob("*.*"))) == 8
    closing = tmp_path / "dst" / ".srdist" / name
    assert ("broken.jpg" in closing.read_text()) == (name == "failures.jsonl")
    assert f"see {closing}" in describe(report, tmp_path / "dst", scale=2) or name == "summary.json"


def test_a_link_to_a_folder_that_will_hold_dst_is_refused_at_once(
    tree: Path, tmp_path: Path, weights: Path
) -> None:
    (tree / "a").rename(tmp_path / "elsewhere")
    (tree / "link").symlink_to(tmp_path / "elsewhere")
    for dst in (tmp_path / "elsewhere" / "dst", tmp_path / "elsewhere" / "b" / "dst"):
        with pytest.raises(UserError, match=r"leads to a folder that holds DST"):
            go(tree, dst, weights)
        assert not dst.exists()


def test_one_image_never_replaces_what_was_made_of_another(tree: Path, tmp_path: Path, weights: Path) -> None:
    (tree / "a" / "b" / "0.jpg").rename(tree / "twice.jpg")
    (tree / "a" / "b" / "1.png").rename(tree / "twice.png")
    dst = tmp_path / "dst"
    png = Output("png")
    assert go(tree / "twice.jpg", dst, weights, output=png).done == 1
    first = (dst / "twice.png").read_bytes()
    assert go(tree / "twice.png", dst, weights, output=png).failed == 1
    assert (dst / "twice.png").read_bytes() == first
    assert (
        "was not made by srdist of this image; --overwrite replaces it"
        in (dst / "failures.jsonl").read_text()
    )
    assert go(tree / "twice.jpg", dst, weights, output=png).done == 1
    overwritten = go(tree / "twice.png", dst, weights, output=Output("png", overwrite=True))
    assert (overwritten.done, overwritten.failed) == (1, 0)
    assert (dst / "twice.png").read_bytes() != first


def test_urls_and_names_that_are_not_written_are_refused_without_a_password(
    tree: Path, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = "https://bob:secret@host/x"
    calls: dict[str, tuple[str | Path, ...]] = {}
    calls["SRC is a folder or an image file"] = (url, "dst", "--weights", weights)
    calls["DST is a folder or an image file"] = (tree, url, "--weights", weights)
    calls["weights are a file, a run folder or a bundled name"] = (tree, "dst", "--weights", url)
    for words, call in calls.items():
        said = refused(*call)
        assert said == f"srdist: https://***@host/x: is a URL; {words}\n"
    gif = refused(tree / "0.jpg", "out.gif", "--weights", weights)
    assert gif.startswith("srdist: out.gif: .gif is not written, expected a name that ends in .jpg, ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src", "w.safetensors"]


def test_an_interrupt_during_the_imports_is_one_line(tmp_path: Path) -> None:
    # A module that takes long stands for a slow disk.
    (tmp_path / "click.py").write_text("import os, time; os.write(1, b'importing'); time.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, "-m", "srdist", "--help"],
        env=clean_environment() | {"PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(9) == b"importing"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, b"srdist: stopped (SIGINT)\n")
