"""Pairs from two folders: one sample, two members, sizes checked, and nothing without its partner."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from webdataset.compat import WebDataset
from webdataset.writer import ShardWriter

from srdist.cli.main import main
from srdist.machine.errors import UserError, WorkError
from srdist.shards.indexing import index_tars
from srdist.shards.pack import pack
from srdist.shards.reader import ShardIndex, read_manifest
from srdist.shards.recipe import Recipe
from srdist.shards.remote import Place
from srdist.shards.tiles import Tiles
from srdist.shards.verify import verify
from tests.packed_sets import Folders, Packed

RECIPE = Recipe(name="test", fractions={"train": 1.0}, shard_samples=10)


def _said(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def _left_out(folder: Path) -> dict[str, tuple[str, str]]:
    rows = [json.loads(line) for line in (folder / "left_out.jsonl").read_text().splitlines()]
    return {row["image"]: (row["kind"], row["reason"]) for row in rows}


def test_a_sample_has_two_members_with_the_original_bytes_that_webdataset_reads(
    pair_folders: Folders, tmp_path: Path
) -> None:
    hr, lr = pair_folders(24)
    report = pack(RECIPE, hr, lr=lr, out=tmp_path / "set")
    assert (report.samples, report.lr_scale, report.left_out) == ({"train": 24}, 2, {})
    index = ShardIndex.open(str(tmp_path / "set"), "train")
    ids = {index.key(sample_id): sample_id for sample_id in range(24)}
    seen = 0
    for shard in sorted((tmp_path / "set").glob("*.tar")):
        for sample in WebDataset(str(shard), shardshuffle=False):
            key = sample["__key__"]
            originals = (hr / f"{key}.png").read_bytes(), (lr / f"{key}x2.png").read_bytes()
            assert (sample["hr.png"], sample["lr.png"]) == originals
            assert (index.read(ids[key]), index.read(ids[key], member="lr")) == originals
            seen += 1
    assert seen == 24
    assert verify(str(tmp_path / "set")).problems == ()
    assert "pairs of HR and LR at x2" in _said("shards", "info", tmp_path / "set")[1]


def test_a_second_run_with_other_threads_gives_the_same_bytes_and_a_set_of_hr_alone_keeps_its_id(
    pair_folders: Folders, tmp_path: Path
) -> None:
    hr, lr = pair_folders(24)
    shutil.copytree(hr.parent, tmp_path / "moved")
    pack(RECIPE, hr, lr=lr, out=tmp_path / "a", threads=1)
    pack(RECIPE, tmp_path / "moved/hr", lr=tmp_path / "moved/lr", out=tmp_path / "b", threads=4)
    one, other = (
        {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "a", tmp_path / "b")
    )
    assert one == other
    pack(RECIPE, hr, out=tmp_path / "alone")
    assert "lr_scale" not in (tmp_path / "alone/manifest.json").read_text()


def test_what_has_no_partner_another_size_or_cannot_be_read_is_left_out_and_listed(
    pair_folders: Folders, tmp_path: Path
) -> None:
    hr, lr = pair_folders(20)
    (lr / "000001x2.png").unlink()
    (hr / "000002.png").unlink()
    Image.new("RGB", (21, 24)).save(lr / "000003x2.png")
    Image.new("RGB", (41, 48)).save(hr / "000004.png")
    (lr / "000005x2.png").write_bytes((lr / "000005x2.png").read_bytes()[:200])
    shutil.copy(hr / "000006.png", lr / "000006x2.png")
    (lr / "000007x2.png").unlink()
    (lr / "000007x2.png").symlink_to(lr / "000008x2.png")
    os.mkfifo(lr / "pipe.png")
    # Two faults of one pair are one pair left out.
    (lr / "000009x2.png").unlink()
    (lr / "000009x2.png").symlink_to(lr / "gone.png")
    (lr / "notes.txt").touch()
    # On a folder that is packed already the same rule holds as for images: exit code 1, the rest is there.
    (tmp_path / "recipe.yaml").write_text("name: test\nfractions: {train: 1.0}\n")
    arguments = ("pack", tmp_path / "recipe.yaml", "--images", hr, "--lr", lr, "--out", tmp_path / "set")
    code, said = _said(*arguments)
    assert code == 1
    assert "train 12 in 1 shards, pairs x2" in said
    assert "9 images were left out (no HR 1, no LR 1, same file 1, size 3, unreadable 3)" in said
    found = _left_out(tmp_path / "set")
    assert {name: kind for name, (kind, _) in found.items()} == {
        "000001.png": "no LR",
        "000002x2.png": "no HR",
        "000003.png": "size",
        "000004.png": "size",
        "000005.png": "unreadable",
        "000006.png": "size",
        "000008.png": "same file",
        "000009.png": "unreadable",
        "pipe.png": "unreadable",
    }
    assert found["000003.png"][1] == ("HR is 48x40 and LR 24x21 (height x width): expected HR of 48x42")
    assert "its LR image 000005x2.png" in found["000005.png"][1]
    assert "skipped: not an image extension: .txt 1" in said
    assert _said(*arguments, "--allow-partial")[0] == 0


def test_pairs_of_several_scales_are_refused_until_the_recipe_says_which(
    pair_folders: Folders, tmp_path: Path
) -> None:
    hr, lr = pair_folders(6)
    three, small = pair_folders(4, scale=3, name="three")
    for folder, into in ((three, hr), (small, lr)):
        for path in folder.iterdir():
            shutil.copy(path, into / f"b{path.name}")
    with pytest.raises(
        UserError, match=r"several scales: 6 of x2, 4 of x3: say which with `scale` in the recipe"
    ):
        pack(RECIPE, hr, lr=lr, out=tmp_path / "set")
    report = pack(RECIPE.model_copy(update={"scale": 2}), hr, lr=lr, out=tmp_path / "set")
    # A scale that is said also says which sign (x2) a name ends with.
    assert (report.samples, report.left_out) == ({"train": 6}, {"no HR": 4, "no LR": 4})
    same = RECIPE.model_copy(update={"scale": 4})
    for path in lr.iterdir():
        path.rename(lr / re.sub(r"x[23]\.", ".", path.name))
    with pytest.raises(
        WorkError, match=r"none of its images can be used: 000000.png: HR is 48x40 and LR 24x20"
    ):
        pack(same, hr, lr=lr, out=tmp_path / "set")
    assert ShardIndex.open(str(tmp_path / "set"), "train").lr_scale == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("twice", r"two LR images fit the HR image 000000.png: 000000.jpg and 000000x2.png"),
        ("shared", r"the LR image 000000x2.png fits two HR images: 000000.png and 000000_HR.png"),
        ("one folder", r"is the folder of the HR images as well"),
        ("inside", r"one of .* lies in the other"),
        ("around", r"one of .* lies in the other"),
        ("none", r"--lr .*nowhere: no such folder: expected the folder of LR images"),
        ("a file", r"--lr .*: a file: expected the folder"),
        ("empty", r"no image in it"),
        ("no --lr", r"the recipe test has scale: 2, which is that of pairs: give the folder of their LR"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    pair_folders: Folders, tmp_path: Path, change: str, words: str
) -> None:
    hr, lr = pair_folders(4)
    recipe = "name: test\n"
    arguments = ["--images", hr, "--lr", lr]
    match change:
        case "twice":
            shutil.copy(lr / "000000x2.png", lr / "000000.jpg")
        case "shared":
            shutil.copy(hr / "000001.png", hr / "000000_HR.png")
        case "one folder":
            arguments[3] = hr
        case "inside":
            lr.rename(hr / "lr")
            arguments[3] = hr / "lr"
        case "around":
            arguments[3] = hr.parent
        case "none":
            arguments[3] = lr / "nowhere"
        case "a file":
            arguments[3] = lr / "000000x2.png"
        case "empty":
            (tmp_path / "nothing").mkdir()
            arguments[3] = tmp_path / "nothing"
        case "no --lr":
            recipe, arguments = "name: test\nscale: 2\n", arguments[:2]
    (tmp_path / "recipe.yaml").write_text(recipe)
    code, said = _said("pack", tmp_path / "recipe.yaml", *arguments, "--out", tmp_path / "set")
    assert code == 2, said
    assert re.search(words, said)
    assert said.count("\n") == 1


def test_damage_to_either_member_is_found_and_the_index_is_made_anew_from_the_tars(
    packed_pairs: Packed, tmp_path: Path
) -> None:
    index = packed_pairs(24)
    manifest = read_manifest(Place(index.folder))
    before = (tmp_path / "pairset/index/train.npy").read_bytes()
    (tmp_path / "pairset/index/train.npy").unlink()
    index_tars(tmp_path / "pairset")
    assert (tmp_path / "pairset/index/train.npy").read_bytes() == before
    assert read_manifest(Place(index.folder)) == manifest

    place = index.bad(3, "", member="lr")
    tar = Path(place.shard)
    data = bytearray(tar.read_bytes())
    data[place.offset + 60] ^= 1
    tar.write_bytes(data)
    problems = verify(index.folder).problems
    assert len(problems) == 2, problems
    assert f"sample {index.key(3)} at offset {place.offset}: its LR: its " in problems[1]


def test_pairs_that_another_tool_packed_are_indexed_by_their_two_endings(
    pair_folders: Folders, tmp_path: Path
) -> None:
    hr, lr = pair_folders(12)
    (lr / "000004x2.png").unlink()
    Image.new("RGB", (7, 7)).save(lr / "000005x2.png")
    # Two faults of one pair are one pair left out.
    for path in (hr / "000006.png", lr / "000006x2.png", hr / "000007.png"):
        path.write_bytes(path.read_bytes()[:100])
    (lr / "000007x2.png").unlink()
    (tmp_path / "foreign").mkdir()
    with ShardWriter(str(tmp_path / "foreign/train-%04d.tar"), maxcount=5, verbose=0) as writer:
        for path in sorted(hr.iterdir()):
            small = lr / f"{path.stem}x2.png"
            halves = {"gt.png": path.read_bytes()} | (
                {"lq.png": small.read_bytes()} if small.exists() else {}
            )
            writer.write({"__key__": path.stem, **halves, "json": {}})
    folder = tmp_path / "foreign"
    assert _said("shards", "index", folder)[0] == 2
    assert "give --member as well" in _said("shards", "index", folder, "--lr-member", "lq.png")[1]
    assert "give --lr-member as well" in _said("shards", "index", folder, "--scale", "2")[1]
    code, said = _said("shards", "index", folder, "--member", "gt.png", "--lr-member", "lq.png")
    assert code == 1
    assert "train 8 in 3 shards, pairs x2" in said
    assert "4 images were left out (no LR 1, size 1, unreadable 2)" in said
    assert {name.split("/")[-1]: kind for name, (kind, _) in _left_out(folder).items()} == {
        "train-0000.tar:000004.gt.png": "no LR",
        "train-0001.tar:000005": "size",
        "train-0001.tar:000006.gt.png": "unreadable",
        "train-0001.tar:000007.gt.png": "unreadable",
    }
    assert verify(str(folder)).problems == ()
    index = ShardIndex.open(str(folder), "train")
    for sample_id in range(8):
        assert index.read(sample_id, member="lr") == (lr / f"{index.key(sample_id)}x2.png").read_bytes()


def test_a_recipe_that_takes_a_part_asks_for_partners_of_that_part_alone_and_tiles_are_refused(
    pair_folders: Folders, tmp_path: Path
) -> None:
    hr, lr = pair_folders(8)
    for folder in (hr, lr):
        for name, paths in (("a", sorted(folder.iterdir())[:5]), ("b", sorted(folder.iterdir())[5:])):
            (folder / name).mkdir()
            for path in paths:
                path.rename(folder / name / path.name)
    (hr / "b/000006.png").unlink()
    only = RECIPE.model_copy(update={"only": ("a",), "leave_out": {"a/000001.png": "a twin"}})
    report = pack(only, hr, lr=lr, out=tmp_path / "set")
    assert (report.samples, report.left_out) == ({"train": 4}, {"leave_out": 1})
    cut = RECIPE.model_copy(update={"tiles": Tiles(height=16, width=16, stride=16)})
    with pytest.raises(UserError, match="--lr: the recipe test cuts tiles, and pairs are packed whole"):
        pack(cut, hr, lr=lr, out=tmp_path / "set")
