"""The one walker: which files of a folder are images, and that nothing but a regular file is ever opened."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from srdist.cli.main import main
from srdist.images.decode import UnreadableImageError
from srdist.images.folder import Walk, read_regular
from srdist.images.photo import probe_size
from srdist.machine.errors import UserError
from srdist.shards.pack import pack
from srdist.shards.recipe import Recipe
from tests.conftest import ROOT, Run

ODD = {
    "fifo.jpg": "a FIFO",
    "gone.jpg": "a link that leads nowhere",
    "round.jpg": "a link that leads nowhere",
    "socket.jpg": "a socket",
    "zero.jpg": "a device",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two images beside what is called like one: a FIFO, a socket, links to a device, to nowhere, to each other."""
    source = tmp_path / "src"
    (source / "sub").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(source / "a.png")
    Image.fromarray(pixels).save(source / "sub" / "b.png")
    os.mkfifo(source / "fifo.jpg")
    (source / "gone.jpg").symlink_to("nowhere.jpg")
    (source / "round.jpg").symlink_to("round.jpg")
    (source / "zero.jpg").symlink_to("/dev/zero")
    monkeypatch.chdir(source)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket.jpg")
        yield source


def test_what_is_no_regular_file_is_told_by_name_and_the_others_are_found(folder: Path) -> None:
    walk = Walk(folder)
    assert [file.path for file in walk] == ["a.png", "sub/b.png"]
    assert dict(walk.unreadable) == {name: f"{kind}, not a regular file" for name, kind in ODD.items()}


@pytest.mark.parametrize("name", ODD)
def test_a_file_that_was_exchanged_after_the_walk_is_not_waited_for(folder: Path, name: str) -> None:
    if name in ("gone.jpg", "round.jpg"):
        with pytest.raises(OSError, match=r"No such file|Too many levels"):
            read_regular(folder / name)
    elif name == "socket.jpg":
        with pytest.raises(OSError, match="No such device or address"):
            read_regular(folder / name)
    else:
        with pytest.raises(UnreadableImageError, match=f"{ODD[name]}, not a regular file"):
            read_regular(folder / name)
    assert probe_size(folder / name) == (0, 0)


@pytest.mark.parametrize("name", ["fifo.jpg", "zero.jpg", "socket.jpg"])
def test_a_walk_of_no_folder_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"{ODD[name]}, expected a folder or an image file"):
        list(Walk(folder / name))


def test_every_command_ends_and_lists_them(folder: Path, tmp_path: Path, run: Run) -> None:
    done = run("srdist", "upscale", folder, tmp_path / "dst", timeout_s=600)
    assert done.returncode == 1
    assert "2 of 7 images" in done.stdout
    assert "5 failed" in done.stdout
    listed = [json.loads(line) for line in (tmp_path / "dst" / "failures.jsonl").read_text().splitlines()]
    assert {line["path"] for line in listed} == ODD.keys()
    done = run("srdist", "evaluate", "--scale", "2", "--hr", folder, timeout_s=600)
    assert done.returncode == 1
    assert all(f"srdist: {name}: {kind}, not a regular file" in done.stderr for name, kind in ODD.items())
    assert "5 of 7 images could not be evaluated" in done.stderr
    report = pack(Recipe(name="odd", fractions={"train": 1.0}), folder, out=tmp_path / "set")
    assert (report.samples, report.left_out) == ({"train": 2}, {"unreadable": 5})


@pytest.mark.parametrize("name", ["fifo.jpg", "zero.jpg"])
def test_one_image_that_is_none_is_one_line(folder: Path, tmp_path: Path, name: str) -> None:
    for call in (
        ["compare", str(folder / name), "--weights", "srcnn_x2", "--out", str(tmp_path / "f.png")],
        ["upscale", str(folder / name), str(tmp_path / "out.png")],
        ["evaluate", "--hr", str(folder / name), "--scale", "2"],
        ["pack", str(ROOT / "shards/folder/recipe.yaml"), "--images", str(folder / name), "--out", "set"],
    ):
        done = CliRunner().invoke(main, call)
        assert done.exit_code in (1, 2), done.output
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert name in done.stderr


def test_hidden_files_and_folders_are_skipped_and_counted(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    for name in ("a.png", ".b.png", ".git/c.png", "d.txt"):
        (tmp_path / name).touch()
    walk = Walk(tmp_path)
    assert [file.path for file in walk] == ["a.png"]
    assert walk.others == {"hidden": 2, ".txt": 1}
