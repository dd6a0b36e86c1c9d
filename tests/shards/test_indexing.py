"""Tars that other tools wrote: indexed once, then streamed exactly like our own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from webdataset.compat import WebDataset
from webdataset.writer import ShardWriter

from srdist.cli.main import main
from srdist.machine.errors import UserError, WorkError
from srdist.shards.indexing import index_tars, split_of
from srdist.shards.reader import ShardIndex
from srdist.shards.verify import verify
from tests.packed_sets import Images, Packed, encoded
from tests.stream.test_pairs import global_batches


def _webdataset_tars(folder: Path, images: Path, *, suffix: str) -> None:
    """Ten samples a tar with .json, .cls and .txt members, as webdataset's own writer makes them."""
    folder.mkdir()
    with ShardWriter(str(folder / "train-%04d.tar"), maxcount=10, verbose=0) as writer:
        for number, path in enumerate(sorted(images.iterdir())):
            writer.write(
                {
                    "__key__": f"sub/{path.stem}",
                    suffix: path.read_bytes(),
                    "json": {"number": number},
                    "cls": number,
                    "txt": "a caption",
                }
            )


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_tars_of_the_webdataset_library_stream_like_our_own(
    tmp_path: Path, images: Images, suffix: str
) -> None:
    folder = images(35, suffix=suffix)
    _webdataset_tars(tmp_path / "foreign", folder, suffix=suffix)
    report = index_tars(tmp_path / "foreign")
    assert report.samples == {"train": 35}
    assert report.shards == 4
    assert report.other_files == {".json": 35, ".cls": 35, ".txt": 35}
    assert verify(str(tmp_path / "foreign")).problems == ()
    index = ShardIndex.open(str(tmp_path / "foreign"), "train")
    expected = {
        sample["__key__"]: sample[suffix]
        for shard in sorted((tmp_path / "foreign").glob("*.tar"))
        for sample in WebDataset(str(shard), shardshuffle=False)
    }
    assert {index.key(number): index.read(number) for number in range(35)} == expected
    reference = global_batches(index, steps=4)
    for order, world, workers in (("global", 3, 2), ("window", 1, 2)):
        steps = global_batches(index, steps=4, world=world, workers=workers, order=order)
        ids = torch.cat([step["ids"] for step in steps]).tolist()
        assert sorted(ids[:35]) == list(range(35))
        if order == "global":
            assert all(torch.equal(a["hr"], b["hr"]) for a, b in zip(steps, reference, strict=True))


@pytest.mark.parametrize("form", ["gnu", "pax", "ustar", "v7"])
def test_tars_of_gnu_tar_in_every_form_with_long_names(tmp_path: Path, images: Images, form: str) -> None:
    folder = images(12)
    if form in ("gnu", "pax"):
        deep = folder / ("d" * 90) / ("e" * 90)
        deep.mkdir(parents=True)
        (folder / "000003.jpg").rename(deep / ("f" * 120 + ".jpg"))
        (folder / "000004.jpg").rename(folder / "Zürich.jpg")
    (folder / "linked.jpg").hardlink_to(folder / "000001.jpg")
    (folder / "pointer.jpg").symlink_to("000002.jpg")
    (tmp_path / "set").mkdir()
    subprocess.run(
        [
            "tar",
            f"--format={form}",
            "--sort=name",
            "-C",
            folder,
            "-cf",
            tmp_path / "set" / "val_000.tar",
            ".",
        ],
        check=True,
    )
    assert index_tars(tmp_path / "set").samples == {"val": 12}
    index = ShardIndex.open(str(tmp_path / "set"), "val")
    files = {f"./{path.relative_to(folder).with_suffix('')}": path for path in folder.rglob("*.jpg")}
    keys = [index.key(number) for number in range(12)]
    assert len(set(keys)) == 12
    for number, key in enumerate(keys):
        assert index.read(number) == files[key].read_bytes()
    assert verify(str(tmp_path / "set")).problems == ()
    before = (tmp_path / "set" / "manifest.json").read_bytes()
    index_tars(tmp_path / "set")
    assert (tmp_path / "set" / "manifest.json").read_bytes() == before


def test_two_images_under_one_key_are_refused_and_member_chooses(tmp_path: Path, images: Images) -> None:
    folder = images(4)
    with tarfile.open(tmp_path / "train-0.tar", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
            archive.add(path, f"{path.stem}.seg.png")
    with pytest.raises(
        UserError, match=r"000000\.jpg and 000000\.seg\.png: say which with --member seg\.png"
    ):
        index_tars(tmp_path)
    assert not (tmp_path / "manifest.json").exists()
    for member in ("jpg", "seg.png"):
        assert index_tars(tmp_path, member=member).samples == {"train": 4}
        assert ShardIndex.open(str(tmp_path), "train").key(0) == "000000"


def test_a_member_that_is_no_image_is_left_out_and_listed(tmp_path: Path, images: Images) -> None:
    folder = images(4)
    (folder / "000002.jpg").write_bytes((folder / "000002.jpg").read_bytes()[:300])
    with tarfile.open(tmp_path / "train-0.tar", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    refused = CliRunner().invoke(main, ["shards", "index", str(tmp_path)])
    assert refused.exit_code == 1
    assert "1 images were left out (unreadable 1)" in refused.stderr
    allowed = CliRunner().invoke(main, ["shards", "index", str(tmp_path), "--allow-partial"])
    assert allowed.exit_code == 0
    listed = json.loads((tmp_path / "left_out.jsonl").read_text())
    assert listed["image"] == "train-0.tar:000002.jpg"
    assert len(ShardIndex.open(str(tmp_path), "train")) == 3


@pytest.mark.parametrize(
    ("file", "split"),
    [
        ("train-000000.tar", "train"),
        ("val_12.tar", "val"),
        ("00000.tar", "train"),
        ("imagenet-train-0001.tar", "imagenet-train"),
        ("test/00001.tar", "test"),
        ("data.tar", "data"),
    ],
)
def test_a_tars_name_says_its_split(file: str, split: str) -> None:
    assert split_of(file) == split


def test_equal_names_in_two_folders_are_two_tars(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "val")):
        (tmp_path / split).mkdir()
        with tarfile.open(tmp_path / split / "000.tar", "w") as archive:
            data = encoded(np.full((20, 20, 3), 100 + number, np.uint8), "png")
            info = tarfile.TarInfo("a.png")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    assert index_tars(tmp_path).samples == {"train": 1, "val": 1}
    train, val = (ShardIndex.open(str(tmp_path), split).read(0) for split in ("train", "val"))
    assert train != val


def test_names_that_point_outside_are_only_names(tmp_path: Path, images: Images) -> None:
    path = sorted(images(1).iterdir())[0]
    (tmp_path / "set").mkdir()
    with tarfile.open(tmp_path / "set" / "train-0.tar", "w") as archive:
        for name in ("../../outside.jpg", "/tmp/absolute.jpg", "C:\\windows.jpg"):
            info = tarfile.TarInfo(name)
            info.size = path.stat().st_size
            archive.addfile(info, io.BytesIO(path.read_bytes()))
        archive.add(path, "two\nlines.jpg")
    before = {str(each) for each in tmp_path.parent.rglob("*")}
    report = index_tars(tmp_path / "set")
    assert report.samples == {"train": 3}
    assert report.left_out == {"name": 1}
    index = ShardIndex.open(str(tmp_path / "set"), "train")
    assert all(index.read(number) == path.read_bytes() for number in range(3))
    made = {str(each) for each in tmp_path.parent.rglob("*")} - before
    assert made == {
        str(tmp_path / "set" / name)
        for name in ("manifest.json", "left_out.jsonl", "index", "index/train.npy")
    }


def test_compressed_empty_and_no_tars_are_refused_with_what_to_do(tmp_path: Path, images: Images) -> None:
    with pytest.raises(UserError, match=r"no \.tar in it"):
        index_tars(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        index_tars(tmp_path / "nowhere")
    with tarfile.open(tmp_path / "train.tar.gz", "w:gz") as archive:
        archive.add(images(2), "images")
    with pytest.raises(UserError, match=r"train\.tar\.gz is compressed, unpack it first"):
        index_tars(tmp_path)
    (tmp_path / "train.tar.gz").rename(tmp_path / "train.tar")
    with pytest.raises(WorkError, match="a compressed tar"):
        index_tars(tmp_path)
    with tarfile.open(tmp_path / "train.tar", "w"):
        pass
    with pytest.raises(WorkError, match="no image that can be used"):
        index_tars(tmp_path)


@pytest.mark.parametrize("split", ["../../precious", "/tmp/precious", "a/b", "..", "x y", "a\nb", ""])
def test_a_split_that_is_no_name_of_a_file_is_refused(images: Images, tmp_path: Path, split: str) -> None:
    """It became a path: an index was written outside the set, over what was there."""
    folder = tmp_path / "a" / "set"
    folder.mkdir(parents=True)
    with tarfile.open(folder / "train.tar", "w") as archive:
        archive.add(images(2), "images")
    before = set(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"--split: found .*, expected letters, digits, _ and -"):
        index_tars(folder, split=split)
    assert set(tmp_path.rglob("*")) == before


def test_a_fifo_in_the_place_of_a_tar_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "train-0.tar")
    with pytest.raises(WorkError, match=r"train-0\.tar: a FIFO, not a regular file"):
        index_tars(tmp_path)


def test_our_own_set_is_indexed_anew_to_the_same_manifest(packed: Packed) -> None:
    index = packed(25)
    folder = Path(index.folder)
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (folder / "index" / "train.npy").unlink()
    index_tars(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files
    with pytest.raises(UserError, match="packed by srdist"):
        index_tars(folder, member="jpg")
