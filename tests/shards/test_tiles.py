"""Tiles in recipes: cut where the recipe says, pixel for pixel, packed like any set, and nothing dropped without a word."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from srdist.cli.main import main
from srdist.images.decode import decode_into
from srdist.machine.errors import UserError, WorkError
from srdist.shards.pack import pack
from srdist.shards.reader import ShardIndex
from srdist.shards.recipe import Recipe, read_recipe
from srdist.shards.spool import Spool
from srdist.shards.tiles import Tiles
from srdist.shards.verify import verify
from tests.conftest import Run
from tests.packed_sets import Images, encoded
from tests.shards.test_pack import HASHED, files_of

TRAIN = {"train": 1.0}
SMALL = Tiles(height=24, width=32, stride=20)


def recipe(tiles: Tiles = SMALL, **fields: Any) -> Recipe:
    return Recipe(name="tiled", tiles=tiles, **({"fractions": TRAIN} | fields))


def samples_of(folder: Path, split: str = "train") -> dict[str, np.ndarray]:
    """The pixels of each sample of a split by its key."""
    index = ShardIndex.open(str(folder), split)
    found = {}
    for sample_id in range(len(index)):
        height, width = index.sizes(np.array([sample_id]))[0]
        image_u8 = np.empty((height, width, 3), np.uint8)
        decode_into(index.read(sample_id), image_u8)
        found[index.key(sample_id)] = image_u8
    return found


@pytest.fixture
def photo(tmp_path: Path, photos: dict[str, np.ndarray]) -> Path:
    """A folder with one photo of 150 x 101 (width x height)."""
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "cat.png").write_bytes(encoded(photos["chelsea"][40:141, 60:210], "png"))
    return folder


@pytest.mark.parametrize("flush", [True, False])
def test_tiles_of_all_sizes_are_the_pixels_at_the_places_that_their_names_say(
    photo: Path, tmp_path: Path, flush: bool
) -> None:
    tiles = Tiles(height=24, width=32, stride=20, sizes=(1.0, 0.5, 0.25), longest=120, flush=flush)
    pack(recipe(tiles), photo, out=tmp_path / "set")
    original = Image.open(photo / "cat.png")
    sizes = {
        width: original.resize((width, height), Image.Resampling.LANCZOS)
        for width, height in ((120, 81), (60, 40), (30, 20))
    }
    covered = {width: np.zeros((image.height, width), bool) for width, image in sizes.items()}
    for key, tile in samples_of(tmp_path / "set").items():
        name, width, left, top = key.rsplit("_", 3)
        place = (slice(int(top), int(top) + 24), slice(int(left), int(left) + 32))
        assert name == "cat"
        assert tile.shape == (24, 32, 3)
        assert (tile == np.asarray(sizes[int(width)])[place]).all()
        covered[int(width)][place] = True
    # Without the last tiles the part on the grid of the stride alone.
    assert covered[120][: 81 if flush else 64, : 120 if flush else 112].all()
    assert covered[60][: 40 if flush else 24, : 60 if flush else 52].all()
    assert covered[120].sum() == (81 * 120 if flush else 64 * 112)
    assert not covered[30].any()


def test_tiles_may_be_as_small_as_the_recipe_says_and_an_image_below_is_counted(
    photo: Path, tmp_path: Path, photos: dict[str, np.ndarray]
) -> None:
    (photo / "narrow.png").write_bytes(encoded(photos["rocket"][:90, :29], "png"))
    (photo / "tiny.png").write_bytes(encoded(photos["rocket"][:90, :27], "png"))
    tiles = Tiles(height=64, width=64, stride=64, smallest=28)
    report = pack(recipe(tiles), photo, out=tmp_path / "set")
    shapes = Counter(tile.shape[:2] for key, tile in samples_of(tmp_path / "set").items() if "narrow" in key)
    assert shapes == {(64, 29): 2}
    assert report.left_out == report.left_out_as_asked == {"no tile": 1}
    reason = json.loads((tmp_path / "set" / "left_out.jsonl").read_text())
    assert reason["image"] == "tiny.png"
    assert reason["reason"] == "is 90x27 (height x width): no tile of 28x28 or more in it"


def test_a_second_run_gives_the_same_bytes_with_other_threads_and_nothing_waits_on_disk(
    images: Images, tmp_path: Path
) -> None:
    folder = images(30, sizes="vary")
    tiled = recipe(Tiles(height=16, width=16, stride=12, sizes=(1.0, 0.7)), shard_bytes=100_000)
    pack(tiled, folder, out=tmp_path / "a", threads=1)
    pack(tiled, folder, out=tmp_path / "b", threads=4)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert not list((tmp_path / "a").glob(".pack-*"))
    index = ShardIndex.open(str(tmp_path / "a"), "train")
    assert len(index.shard_samples) > 2
    assert max(index.shard_samples) - min(index.shard_samples) <= 1
    # Tiles of one image are far apart: they are shuffled as samples.
    first = [index.key(sample_id).split("_")[0] for sample_id in range(30)]
    assert len(set(first)) > 12
    assert verify(str(tmp_path / "a")).problems == ()


def test_splits_that_are_not_cut_keep_their_files_byte_for_byte(images: Images, tmp_path: Path) -> None:
    folder = images(30)
    tiles = Tiles(height=32, width=32, stride=22, splits=("train",))
    pack(Recipe(name="tiled", tiles=tiles), folder, out=tmp_path / "set")
    train = {key.split("_")[0] for key in samples_of(tmp_path / "set")}
    for split in ("val", "test"):
        index = ShardIndex.open(str(tmp_path / "set"), split)
        for sample_id in range(len(index)):
            assert index.read(sample_id) == (folder / f"{index.key(sample_id)}.jpg").read_bytes()
            assert index.key(sample_id) not in train


def test_a_hash_of_the_name_holds_out_no_image_above_the_longest_side(images: Images, tmp_path: Path) -> None:
    folder = images(40)
    held_out = {"val": 0.5, "train": 0.5}
    drawn = Recipe(name="all", fractions=held_out, hash_of="name")
    pack(drawn, folder, out=tmp_path / "set")
    val = set(samples_of(tmp_path / "set", "val"))
    assert 10 < len(val) < 30
    for path in sorted(folder.iterdir())[::2]:
        Image.open(path).resize((60, 60)).save(path)
    pack(drawn.model_copy(update={"held_out_longest": 54}), folder, out=tmp_path / "set")
    assert set(samples_of(tmp_path / "set", "val")) == {key for key in val if int(key) % 2}


def test_only_what_the_recipe_names_is_looked_at_and_what_it_leaves_out_is_listed(
    images: Images, tmp_path: Path
) -> None:
    folder = images(12)
    for name in ("a", "b/c", "elsewhere"):
        (folder / name).mkdir(parents=True)
    for number, place in enumerate(("a/1.jpg", "a/2.jpg", "b/c/3.jpg", "elsewhere/4.jpg")):
        (folder / f"{number:06d}.jpg").rename(folder / place)
    (folder / "elsewhere" / "damaged.png").touch()
    (folder / "b" / "again.jpg").symlink_to(folder / "a" / "2.jpg")
    chosen = recipe(
        Tiles(height=32, width=32, stride=32),
        only=("a", "b/", "000007.jpg"),
        leave_out={"a/2": "seen before", "000007.jpg": "blurred", "b/5": "mistyped", "b/c": "all"},
    )
    report = pack(chosen, folder, out=tmp_path / "set")
    assert {key.split("_")[0] for key in samples_of(tmp_path / "set")} == {"a/1", "b/c/3"}
    assert report.left_out == {"leave_out": 3, "missing": 2}
    assert report.left_out_as_asked == {"leave_out": 3}
    left_out = [json.loads(line) for line in (tmp_path / "set" / "left_out.jsonl").read_text().splitlines()]
    assert [(entry["image"], entry["reason"]) for entry in left_out] == [
        ("000007.jpg", "blurred"),
        ("a/2.jpg", "seen before"),
        ("b/5", "named in leave_out, not in the folder"),
        ("b/again.jpg", "seen before"),
        ("b/c", "named in leave_out, a folder: name the images in it"),
    ]
    with pytest.raises(UserError, match=r"gone: not there, but the recipe tiled names it in `only`"):
        pack(recipe(only=("a", "gone")), folder, out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_what_the_recipe_leaves_out_is_no_failure_and_a_damaged_photo_is(
    photo: Path, tmp_path: Path, photos: dict[str, np.ndarray]
) -> None:
    (photo / "tiny.png").write_bytes(encoded(photos["rocket"][:20, :20], "png"))
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "name: tiled\nfractions: {train: 1}\nleave_out: {twice: the same as cat}\n"
        "tiles: {height: 24, width: 32, stride: 20}\n"
    )
    (photo / "twice.png").write_bytes((photo / "cat.png").read_bytes())
    command = ["pack", str(path), "--images", str(photo), "--out", str(tmp_path / "set")]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "2 images were left out (leave_out 1, no tile 1) as the recipe says: listed in" in done.stdout
    whole = encoded(photos["coffee"][:200, :200], "jpg")
    (photo / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    failed = CliRunner().invoke(main, command)
    assert failed.exit_code == 1
    assert "1 images were left out (unreadable 1): listed in" in failed.stderr
    assert "2 images were left out (leave_out 1, no tile 1) as the recipe says" in failed.stdout
    info = CliRunner().invoke(main, ["shards", "info", str(tmp_path / "set")])
    assert "tiled, 4 images, packed by srdist" in info.stdout


def test_areas_go_to_their_splits_and_one_that_does_not_fit_is_listed(
    photo: Path, tmp_path: Path, photos: dict[str, np.ndarray]
) -> None:
    (photo / "small.png").write_bytes(encoded(photos["rocket"][:40, :60], "png"))
    (photo / "unnamed.png").write_bytes(encoded(photos["rocket"][:40, :60], "png"))
    areas = [
        {"image": "cat.png", "split": "train", "left": 0, "top": 0, "right": 80, "bottom": 101},
        {"image": "cat.png", "split": "val", "left": 80, "top": 3, "right": 150, "bottom": 101, "stride": 30},
        {"image": "small.png", "split": "val", "left": 0, "top": 0, "right": 61, "bottom": 40},
        {"image": "gone.png", "split": "val", "left": 0, "top": 0, "right": 61, "bottom": 40},
    ]
    by_areas = Recipe.model_validate({"name": "areas", "split": "areas", "areas": areas, "tiles": SMALL})
    report = pack(by_areas, photo, out=tmp_path / "set")
    assert report.left_out == {"area": 1, "missing": 1, "no split": 1}
    assert (
        "is 40x60 (height x width), its area of columns 0 to 61, rows 0 to 40 is not inside of it"
        in (tmp_path / "set" / "left_out.jsonl").read_text()
    )
    original = np.asarray(Image.open(photo / "cat.png"))
    lefts = {"train": {0, 20, 40, 48}, "val": {80, 110, 118}}
    tops = {"train": {0, 20, 40, 60, 77}, "val": {3, 33, 63, 77}}
    for split in ("train", "val"):
        found = samples_of(tmp_path / "set", split)
        assert found.keys() == {f"cat_{left:03d}_{top:03d}" for left in lefts[split] for top in tops[split]}
        for key, tile in found.items():
            left, top = map(int, key.split("_")[1:])
            assert (tile == original[top : top + 24, left : left + 32]).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("tiles: {height: 8, width: 8}", "tiles.stride: found"),
        (
            "tiles: {height: 8, width: 8, stride: 0}",
            "tiles.stride: found 0, expected: greater than or equal to 1",
        ),
        ("tiles: {height: 8, width: 8, stride: 4, step: 1}", "tiles.step: no such field (found 1)"),
        ("tiles: {height: 8, width: 8, stride: 4, smallest: 9}", "tiles: smallest 9 is above a tile's 8x8"),
        ("tiles: {height: 8, width: 8, stride: 4, sizes: [1, 1]}", "tiles: sizes holds one size twice"),
        ("tiles: {height: 8, width: 8, stride: 4, sizes: [1.5]}", "tiles.sizes.0: found 1.5"),
        ("tiles: {height: 8, width: 8, stride: 4, sizes: []}", "tiles.sizes: found []"),
        (
            "tiles: {height: 8, width: 8, stride: 4, splits: [rain]}",
            "tiles.splits: rain: no such split in fractions",
        ),
        ("areas: []\nsplit: areas", "split: areas, areas and tiles go together"),
        ("hash_of: name\nsplit: folders", "hash_of has no effect with split: folders"),
        ("held_out_longest: 9\nfractions: {a: 1}", "held_out_longest needs a split train in fractions"),
        ("leave_out: {../x: outside}", "'../x' is no path below the folder of the images"),
        ("only: [/etc]", "'/etc' is no path below the folder of the images"),
        ("only: []", "only: found []"),
    ],
)
def test_a_wrong_field_is_one_line_that_names_it(tmp_path: Path, fields: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"name: x\n{fields}\n")
    with pytest.raises(UserError) as caught:
        read_recipe(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_areas_that_overlap_are_refused_since_a_pixel_would_be_in_two_splits(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    area = "{{image: a.png, split: {}, left: {}, top: 0, right: {}, bottom: 9}}"
    areas = ", ".join(area.format(*values) for values in (("train", 0, 9), ("val", 9, 20), ("test", 19, 30)))
    path.write_text(f"name: x\nsplit: areas\ntiles: {{height: 8, width: 8, stride: 4}}\nareas: [{areas}]\n")
    with pytest.raises(UserError, match=r"areas 1 and 2 of a\.png overlap"):
        read_recipe(path)


@pytest.mark.parametrize(("tiles", "width"), [("", 7), (", smallest: 4", 3)])
def test_areas_below_a_tile_are_refused_since_no_tile_is_smaller_than_the_recipe_says(
    tmp_path: Path, tiles: str, width: int
) -> None:
    path = tmp_path / "recipe.yaml"
    head = f"name: x\nsplit: areas\ntiles: {{height: 8, width: 8, stride: 4{tiles}}}\n"
    area = "areas: [{{image: a.png, split: train, left: 2, top: 0, right: {}, bottom: 9}}]\n"
    path.write_text(head + area.format(2 + width))
    with pytest.raises(UserError, match=rf"area 0 of a\.png is 9x{width} \(height x width\), expected"):
        read_recipe(path)
    path.write_text(head + area.format(2 + width + 1))
    read_recipe(path)


def test_pairs_are_not_cut(images: Images, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the recipe tiled cuts tiles, and pairs are packed whole"):
        pack(recipe(), images(4), lr=images(4, name="lr"), out=tmp_path / "set")


def test_tiles_of_a_split_that_the_images_do_not_have_are_refused(images: Images, tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    images(4, name="all/train")
    tiles = Tiles(height=8, width=8, stride=8, splits=("trian",))
    with pytest.raises(UserError, match="cuts tiles of trian, but the splits here are train"):
        pack(Recipe(name="x", split="folders", tiles=tiles), tmp_path / "all", out=tmp_path / "set")


def test_killed_while_tiles_are_cut_nothing_is_left_but_a_folder_that_the_next_run_removes(
    images: Images, tmp_path: Path
) -> None:
    folder, out = images(20), tmp_path / "set"
    tiled = recipe(Tiles(height=16, width=16, stride=12))
    pack(HASHED, folder, out=out)
    before = files_of(out)
    child = os.fork()
    if child == 0:
        killed_by_the_fifth_tile(tiled, folder, out)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert {name: data for name, data in files_of(out).items() if not name.startswith(".pack-")} == before
    pack(tiled, folder, out=out)
    pack(tiled, folder, out=tmp_path / "undisturbed")
    assert files_of(out) == files_of(tmp_path / "undisturbed")


def killed_by_the_fifth_tile(tiled: Recipe, folder: Path, out: Path) -> None:
    append, calls = Spool.append, iter(range(4))

    def counted(self: Spool, data: bytes) -> int:
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return append(self, data)

    Spool.append = counted  # type: ignore[method-assign]
    pack(tiled, folder, out=out, threads=1)
    os._exit(1)


def test_a_tile_that_the_disk_gives_back_changed_is_never_packed(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Spool, "read", lambda _spool, _place, size: bytes(size))
    with pytest.raises(WorkError, match=r"cat.png: its tile cat_150_\d+_\d+ changed on this disk while"):
        pack(recipe(), photo, out=tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_what_the_disk_refuses_is_no_fault_of_the_image_whose_tile_it_is(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images after it were listed as unreadable, and the others packed."""
    write, calls = os.pwrite, iter(range(4))

    def limited(file: int, data: bytes, place: int) -> int:
        if next(calls, None) is None:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return write(file, data, place)

    monkeypatch.setattr(os, "pwrite", limited)
    tiled = recipe(Tiles(height=16, width=16, stride=12))
    with pytest.raises(OSError, match="File too large"):
        pack(tiled, images(20), out=tmp_path / "set", threads=1)
    assert not (tmp_path / "set").exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(photo: Path, tiny_disk: Path, run: Run) -> None:
    many = tiny_disk / "recipe.yaml"
    many.write_text("name: x\nfractions: {train: 1}\ntiles: {height: 64, width: 64, stride: 1}\n")
    done = run("srdist", "pack", many, "--images", photo, "--out", tiny_disk / "set")
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tiny_disk / "set").exists()
