"""Packing: original bytes, the same every time, whole or not at all, and nothing left out without a word."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import skimage
from click.testing import CliRunner
from PIL import Image
from webdataset.compat import WebDataset

from srdist.cli.main import main
from srdist.machine.errors import UserError, WorkError
from srdist.shards.manifest import parse_manifest
from srdist.shards.newset import new_set
from srdist.shards.pack import pack
from srdist.shards.plan import plan
from srdist.shards.reader import ShardIndex
from srdist.shards.recipe import Recipe, read_recipe
from srdist.shards.threads import in_threads
from srdist.shards.verify import verify
from tests.conftest import ROOT, Run
from tests.packed_sets import Images, Packed, encoded

HASHED = Recipe(name="test", split="hash", shard_samples=10)


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but the lock-free temporary ones there must be none of."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_run_gives_the_same_bytes_also_from_another_folder_and_with_other_threads(
    images: Images, tmp_path: Path
) -> None:
    first, second = images(60), images(60, name="elsewhere")
    pack(HASHED, first, out=tmp_path / "a", threads=1)
    pack(HASHED, second, out=tmp_path / "b", threads=4)
    os.utime(first / "000003.jpg", (0, 0))
    before = files_of(tmp_path / "a")
    pack(HASHED, first, out=tmp_path / "a")
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b") == before
    assert {"manifest.json", "left_out.jsonl", "index/train.npy", "train-00000.tar"} < set(before)


def test_the_tars_hold_the_original_bytes_under_keys_without_dots(images: Images, tmp_path: Path) -> None:
    folder = images(30)
    (folder / "sub.folder").mkdir()
    (folder / "000004.jpg").rename(folder / "sub.folder" / "a.b.c.jpg")
    pack(HASHED, folder, out=tmp_path / "set")
    originals = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.jpg")}
    found: dict[str, bytes] = {}
    for shard in sorted((tmp_path / "set").glob("*.tar")):
        listed = subprocess.run(["tar", "-tvf", shard], capture_output=True, text=True, check=True).stdout
        with tarfile.open(shard) as archive:
            members = archive.getmembers()
            assert all(member.pax_headers == {} and member.mtime == 0 for member in members)
            assert [line.split()[-1] for line in listed.splitlines()] == [member.name for member in members]
        assert shard.read_bytes()[257:265] == b"ustar\x0000"
        for sample in WebDataset(str(shard), shardshuffle=False):
            assert "." not in sample["__key__"]
            found[sample["__key__"]] = sample["jpg"]
    assert found.pop("sub_folder/a_b_c") == originals.pop("sub.folder/a.b.c.jpg")
    assert found == {name.removesuffix(".jpg"): data for name, data in originals.items()}


def test_the_index_reads_what_gnu_tar_reads(packed: Packed) -> None:
    index = packed(35)
    for sample_id in range(35):
        shard = Path(index.shard_path(sample_id // 9 if sample_id < 27 else 3))
        found = [
            path
            for path in sorted(shard.parent.glob("*.tar"))
            if subprocess.run(
                ["tar", "-xOf", path, f"{index.key(sample_id)}.jpg"], capture_output=True, check=False
            ).stdout
            == index.read(sample_id)
        ]
        assert len(found) == 1


def test_shards_differ_by_at_most_one_sample_and_hold_about_what_the_recipe_says(
    images: Images, tmp_path: Path
) -> None:
    folder = images(47)
    total = sum(path.stat().st_size for path in folder.iterdir())
    for limits, num_shards in (({"shard_samples": 10}, 5), ({"shard_bytes": total // 3 - 1}, 4), ({}, 1)):
        recipe = Recipe(name="test", fractions={"train": 1.0}, **limits)  # type: ignore[arg-type]
        pack(recipe, folder, out=tmp_path / "set")
        samples = ShardIndex.open(str(tmp_path / "set"), "train").shard_samples
        assert len(samples) == num_shards
        assert sum(samples) == 47
        assert max(samples) - min(samples) <= 1


def test_ids_are_shuffled_once_when_packed(packed: Packed) -> None:
    index = packed(60)
    keys = [index.key(sample_id) for sample_id in range(60)]
    assert sorted(keys) == [f"{number:06d}" for number in range(60)]
    assert abs(np.corrcoef(np.arange(60), [int(key) for key in keys])[0, 1]) < 0.4


def test_a_hash_of_the_name_splits_80_10_10_and_new_images_move_no_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(2000):
        (folder / f"{number}.jpg").touch()
    before = {source.key: source.split for source in plan(HASHED, folder).sources}
    shares = Counter(before.values())
    assert 1540 < shares["train"] < 1660
    assert 150 < shares["val"] < 250
    assert 150 < shares["test"] < 250
    for number in range(2000, 2500):
        (folder / f"{number}.jpg").touch()
    after = {source.key: source.split for source in plan(HASHED, folder).sources}
    assert after.items() > before.items()


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["LF", "mark and CRLF, as on Windows"])
@pytest.mark.parametrize("place", ["", "Eval/", "../", "../Eval/"])
def test_celebas_split_file_is_found_and_followed(
    images: Images, tmp_path: Path, ending: str, place: str
) -> None:
    folder = images(9)
    lines = [f"{number:06d}.jpg {number % 3}" for number in range(8)] + ["000099.jpg 0"]
    path = folder / place / "list_eval_partition.txt"
    path.parent.mkdir(exist_ok=True)
    encoding = "utf-8" if ending == "\n" else "utf-8-sig"
    path.write_bytes((ending.join(lines) + ending).encode(encoding))
    recipe = read_recipe(ROOT / "shards/celeba/recipe.yaml")
    report = pack(recipe, folder, out=tmp_path / "set")
    assert report.samples == {"train": 3, "val": 3, "test": 2}
    assert report.left_out == {"missing": 1, "no split": 1}
    for split, remainder in (("train", 0), ("val", 1), ("test", 2)):
        index = ShardIndex.open(str(tmp_path / "set"), split)
        assert {int(index.key(number)) % 3 for number in range(len(index))} == {remainder}
    left_out = [json.loads(line) for line in (tmp_path / "set" / "left_out.jsonl").read_text().splitlines()]
    assert [(entry["image"], entry["kind"]) for entry in left_out] == [
        ("000008.jpg", "no split"),
        ("000099.jpg", "missing"),
    ]


def test_what_cannot_be_used_is_left_out_listed_with_its_reason_and_ends_in_exit_1(
    images: Images, tmp_path: Path, run: Run
) -> None:
    folder = images(12)
    whole = (folder / "000000.jpg").read_bytes()
    (folder / "empty.jpg").touch()
    (folder / "text.png").write_text("no image")
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    flat = Image.fromarray(np.zeros((1, 1, 3), np.uint8))
    flat.save(folder / "pixel.png")
    (folder / ("long" * 40 + ".jpg")).write_bytes(whole)
    (folder / "two\nlines.jpg").write_bytes(whole)
    (folder / "notes.txt").write_text("not asked for")
    bomb = bytearray(encoded(np.zeros((16, 16, 3), np.uint8), "png"))
    bomb[16:24] = (100_000).to_bytes(4) * 2
    (folder / "bomb.png").write_bytes(_with_crc(bytes(bomb)))
    command = (
        "srdist",
        "pack",
        ROOT / "shards/folder/recipe.yaml",
        "--images",
        folder,
        "--out",
        tmp_path / "set",
    )
    refused = run(*command)
    assert refused.returncode == 1
    assert "7 images were left out (name 2, too small 1, unreadable 4): listed in" in refused.stderr
    assert "skipped: not an image extension: .txt 1" in refused.stdout
    assert "Traceback" not in refused.stderr
    listed = [json.loads(line) for line in (tmp_path / "set" / "left_out.jsonl").read_text().splitlines()]
    reasons = {entry["image"]: entry["reason"] for entry in listed}
    assert "an empty file" in reasons["empty.jpg"]
    assert "not an image" in reasons["text.png"]
    assert "damaged JPEG" in reasons["cut.jpg"]
    assert "1x1" in reasons["pixel.png"]
    assert "100000x100000 pixels" in reasons["bomb.png"] or "too many pixels" in reasons["bomb.png"]
    assert "ustar" in reasons["long" * 40 + ".jpg"]
    allowed = run(*command, "--allow-partial")
    assert allowed.returncode == 0
    assert verify(str(tmp_path / "set")).problems == ()


def _with_crc(png: bytes) -> bytes:
    import zlib

    return png[:29] + zlib.crc32(png[12:29]).to_bytes(4) + png[33:]


def test_no_more_images_wait_for_a_thread_than_the_threads_need() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        return number

    results = in_threads(work, range(5000), 2, "test")
    assert next(results) == 0
    assert len(begun) < 200
    assert list(results) == list(range(1, 5000))
    assert len(begun) == 5000


def test_an_image_that_links_show_several_times_is_packed_once(images: Images, tmp_path: Path) -> None:
    folder = images(10)
    (folder / "round").symlink_to(folder)
    (folder / "sub").mkdir()
    (folder / "sub" / "up").symlink_to(folder)
    (tmp_path / "elsewhere").symlink_to(folder)
    (folder / "sub" / "beside").symlink_to(tmp_path / "elsewhere")
    (folder / "sub" / "again.jpg").symlink_to("../000003.jpg")
    (folder / "sub" / "hard.jpg").hardlink_to(folder / "000004.jpg")
    (tmp_path / "other.jpg").write_bytes((folder / "000005.jpg").read_bytes())
    (folder / "sub" / "other.jpg").symlink_to(tmp_path / "other.jpg")
    report = pack(HASHED, folder, out=tmp_path / "set")
    assert sum(report.samples.values()) == 11
    assert report.left_out == {"same file": 2}
    listed = [json.loads(line) for line in (tmp_path / "set" / "left_out.jsonl").read_text().splitlines()]
    assert [(line["image"], line["reason"]) for line in listed] == [
        ("sub/again.jpg", "links lead to 000003.jpg as well"),
        ("sub/hard.jpg", "links lead to 000004.jpg as well"),
    ]


@pytest.mark.parametrize(
    ("second", "message"),
    [("000003.png", "000003.jpg and 000003.png"), ("000_003.jpg", None), ("000003.JPG", "000003.JPG")],
)
def test_two_images_with_one_key_are_an_error_that_names_both(
    images: Images, tmp_path: Path, second: str, message: str | None
) -> None:
    folder = images(5)
    (folder / second).write_bytes((folder / "000003.jpg").read_bytes())
    if message is None:
        assert sum(pack(HASHED, folder, out=tmp_path / "set").samples.values()) == 6
        return
    with pytest.raises(UserError, match="would have one key, '000003': rename or remove one") as caught:
        pack(HASHED, folder, out=tmp_path / "set")
    assert message in str(caught.value)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nshard_sample: 3\n", "shard_sample: no such field (found 3), did you mean shard_samples?"),
        ("name: x\nmin_side: big\n", "min_side: found 'big', expected: a valid integer"),
        ("name: x\nfractions: {train: 0.5, val: 0.1}\n", "fractions sum to 0.6, expected 1"),
        ("name: x\nsplit: folders\nfractions: {train: 1}\n", "fractions has no effect with split: folders"),
        ("name: x\nsplit: file\n", "split: file and split_file go together"),
        ("[1, 2]\n", "found [1, 2], expected: a valid dictionary"),
        ("name: [\n", "not YAML"),
    ],
)
def test_a_wrong_recipe_is_one_line_that_names_the_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_recipe(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_recipe_of_the_repository_loads() -> None:
    found = {path.parent.name: read_recipe(path).name for path in ROOT.glob("shards/*/recipe.yaml")}
    assert found == {folder: folder for folder in found}
    assert found.keys() >= {"demo", "celeba", "folder"}


@pytest.mark.parametrize("what", ["missing", "empty", "no image", "a file"])
def test_a_source_without_images_is_one_line_and_exit_2(tmp_path: Path, what: str) -> None:
    source = tmp_path / "source"
    if what == "a file":
        source.touch()
    elif what != "missing":
        source.mkdir()
        if what == "no image":
            (source / "readme.txt").touch()
    recipe = str(ROOT / "shards/folder/recipe.yaml")
    done = CliRunner().invoke(main, ["pack", recipe, "--images", str(source), "--out", str(tmp_path / "set")])
    assert done.exit_code == 2
    assert str(source) in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "set").exists()


def test_killed_at_any_point_of_a_repack_the_old_set_or_none_is_usable(
    images: Images, tmp_path: Path
) -> None:
    """A process that packs other images over a set is killed (-9) before its k-th change of a file, for many k."""
    old, new, out = images(25), images(40, name="new"), tmp_path / "set"
    pack(HASHED, old, out=out)
    ids = {ShardIndex.open(str(out), "train").manifest_id}
    (tmp_path / "new-set").mkdir()
    pack(HASHED, new, out=tmp_path / "new-set")
    ids.add(ShardIndex.open(str(tmp_path / "new-set"), "train").manifest_id)
    outcomes = Counter[str]()
    # Forked from one process that has imported everything: a fresh interpreter would take seconds a kill.
    for limit in range(1, 60):
        pack(HASHED, old, out=out)
        child = os.fork()
        if child == 0:
            _pack_and_die(new, out, limit)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            outcomes["finished"] += 1
            assert os.WEXITSTATUS(status) == 0
        try:
            index = ShardIndex.open(str(out), "train")
        except UserError as error:
            outcomes["none"] += "type `srdist" in str(error)
            pack(HASHED, old, out=out)  # and that works
        else:
            assert index.manifest_id in ids
            assert verify(str(out)).problems == ()
            outcomes["whole"] += 1
        if outcomes["finished"]:
            break
    assert outcomes["finished"] == 1
    assert outcomes["none"] >= 5
    assert outcomes["whole"] >= 5
    assert not list(out.glob(".pack-*"))


def test_a_fifo_as_split_file_is_not_waited_for(images: Images, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "splits")
    recipe = read_recipe(ROOT / "shards/celeba/recipe.yaml")
    with pytest.raises(UserError, match="splits: a FIFO, not a regular file; expected lines of"):
        pack(recipe, images(4), out=tmp_path / "set", split_file=tmp_path / "splits")


@pytest.mark.parametrize("name", ["backup.tar", "holiday-00001.tar", "index/notes.npy", "index/mine/a"])
def test_files_of_others_in_a_packed_folder_are_never_removed(
    images: Images, tmp_path: Path, name: str
) -> None:
    source, out = images(25), tmp_path / "set"
    pack(HASHED, source, out=out)
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_bytes(b"precious")
    before = files_of(out)
    with pytest.raises(
        UserError, match=rf"holds {name}, which packing would remove, and the set there does not name"
    ):
        pack(HASHED, source, out=out)
    assert files_of(out) == before
    (out / name).unlink()
    pack(HASHED, source, out=out)


@pytest.mark.parametrize("left", ["nothing", "an empty file", "a half"])
def test_a_set_without_its_manifest_is_not_called_that_of_others_and_says_what_to_do(
    images: Images, tmp_path: Path, left: str
) -> None:
    source, out = images(9), tmp_path / "set"
    pack(HASHED, source, out=out)
    path = out / "manifest.json"
    data = path.read_bytes()
    path.unlink()
    if left != "nothing":
        path.write_bytes(b"" if left == "an empty file" else data[:20])
    with pytest.raises(UserError) as caught:
        pack(HASHED, source, out=out)
    first = min(path.name for path in out.glob("*.tar"))
    said = f"{out}: holds {first}, which packing would remove, and no whole manifest.json says whose it is: "
    assert str(caught.value).startswith(said)


def test_a_file_is_no_folder_to_pack_into(images: Images, tmp_path: Path) -> None:
    (tmp_path / "set").write_bytes(b"precious")
    with pytest.raises(UserError, match=r"--out .*set: a file: expected a folder to pack into") as caught:
        pack(HASHED, images(5), out=tmp_path / "set")
    assert caught.value.exit_code == 2
    assert (tmp_path / "set").read_bytes() == b"precious"


def test_a_second_pack_into_a_folder_is_refused_while_the_first_one_writes(
    images: Images, tmp_path: Path
) -> None:
    source, out = images(25), tmp_path / "set"
    with new_set(out) as building:
        (building / "train-00000.tar").write_bytes(b"half")
        with pytest.raises(UserError, match=r"set: another `srdist pack` is writing there"):
            pack(HASHED, source, out=out)
        assert (building / "train-00000.tar").read_bytes() == b"half"
    pack(HASHED, source, out=out)
    assert verify(str(out)).problems == ()


def _pack_and_die(images: Path, out: Path, limit: int) -> None:
    calls = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal calls
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir") and arguments:
            place = arguments[0]
            writing = event != "open" or (len(arguments) > 2 and int(str(arguments[2])) & 3)
            if isinstance(place, str | os.PathLike) and str(place).startswith(str(out)) and writing:
                calls += 1
                if calls == limit:
                    os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    try:
        pack(HASHED, images, out=out, threads=1)
    except BaseException:
        os._exit(1)
    os._exit(0)


def test_a_reader_of_the_old_set_never_gets_bytes_of_the_new_one(images: Images, tmp_path: Path) -> None:
    out = tmp_path / "set"
    pack(HASHED, images(40), out=out)
    index = ShardIndex.open(str(out), "train")
    before = {sample_id: index.read(sample_id) for sample_id in range(5)}
    rest = dict.fromkeys(range(5, len(index)))
    pack(HASHED, images(50, name="new", sizes="vary"), out=out)
    originals = {path.read_bytes() for path in (tmp_path / "images").iterdir()}
    for sample_id in [*before, *rest]:
        try:
            data = index.read(sample_id)
        except WorkError:
            continue
        assert data in originals
    assert all(index.read(sample_id) == data for sample_id, data in before.items() if _open(index, sample_id))


def _open(index: ShardIndex, sample_id: int) -> bool:
    return sample_id < index.shard_samples[0]


def test_tars_of_another_tool_are_not_overwritten(images: Images, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.tar").write_bytes(b"precious")
    with pytest.raises(
        UserError, match=r"holds mine.tar, which .* and no whole manifest.json says whose it is"
    ):
        pack(HASHED, images(5), out=tmp_path / "set")
    assert (tmp_path / "set" / "mine.tar").read_bytes() == b"precious"


def test_a_set_that_is_not_packed_says_what_to_type(tmp_path: Path) -> None:
    for name, typed in (("demo", "make shards`"), ("celeba", "make shards SET=celeba IMAGES=DIR`")):
        with pytest.raises(UserError, match="not packed") as caught:
            ShardIndex.open(str(tmp_path / "shards" / name), "train")
        assert typed in str(caught.value)


def test_an_unknown_split_is_named_with_those_there_are(packed: Packed) -> None:
    with pytest.raises(UserError, match=r"no split 'val': the set has train \(20\)"):
        ShardIndex.open(packed(20).folder, "val")


def test_the_demo_set_holds_out_whole_areas_of_the_photos(
    tmp_path: Path, photos: dict[str, np.ndarray]
) -> None:
    """No held-out pixel is in a training tile: each tile is looked for in its photo, wherever its name says."""
    recipe = read_recipe(ROOT / "shards/demo/recipe.yaml")
    pack(recipe, Path(*skimage.__path__, "data"), out=tmp_path / "set")
    used = {
        split: {name: np.zeros(photo.shape[:2], bool) for name, photo in photos.items()} for split in SPLITS
    }
    counts = Counter[str]()
    for split in SPLITS:
        index = ShardIndex.open(str(tmp_path / "set"), split)
        for sample_id in range(len(index)):
            photo, left, top = index.key(sample_id).split("_")
            tile = np.asarray(Image.open(io.BytesIO(index.read(sample_id)))).astype(int)
            assert tile.shape == (218, 178, 3)
            area = (slice(int(top), int(top) + 218), slice(int(left), int(left) + 178))
            assert np.abs(tile - photos[photo][area]).mean() < 3
            used[split][photo][area] = True
            counts[split] += 1
    assert counts["train"] >= 300
    assert counts["val"] >= 6
    assert counts["test"] >= 6
    for name in photos:
        assert not (used["train"][name] & used["val"][name]).any()
        assert not (used["train"][name] & used["test"][name]).any()
        assert not (used["val"][name] & used["test"][name]).any()


SPLITS = ("train", "val", "test")


@pytest.mark.shared_data
def test_a_part_of_celeba_packs_with_its_own_split(shared_data: Path, tmp_path: Path) -> None:
    source = tmp_path / "celeba" / "img_align_celeba"
    source.mkdir(parents=True)
    for path in sorted((shared_data / "celeba" / "img_align_celeba").iterdir())[::20]:
        (source / path.name).symlink_to(path)
    recipe = read_recipe(ROOT / "shards/celeba/recipe.yaml")
    report = pack(
        recipe, source, out=tmp_path / "set", split_file=shared_data / "celeba/list_eval_partition.txt"
    )
    assert sum(report.samples.values()) == 300
    assert report.left_out == {"missing": 202_599 - 300}
    index = ShardIndex.open(str(tmp_path / "set"), "train")
    assert index.image_size == (218, 178)
    assert parse_manifest((tmp_path / "set/manifest.json").read_bytes(), source="m").source.images == 202_599
    assert index.key(0).isdigit()
    assert len(index.key(0)) == 6
