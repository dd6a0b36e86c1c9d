"""Twelve kinds of damage to a set, each done to real tars: each is noticed and named, by reading or by verifying."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from srdist.cli.main import main
from srdist.images.decode import UnreadableImageError, decode_into
from srdist.machine.errors import UserError, WorkError
from srdist.shards.indexing import index_tars
from srdist.shards.reader import BadSampleError, ShardIndex, read_manifest, sha256_of
from srdist.shards.remote import Place
from srdist.shards.verify import verify
from tests.packed_sets import Packed, encoded

Damage = Callable[[ShardIndex, Path], int]
"""Does damage to the second shard; gives the first sample id that it touches."""

SHARD = 1
FIRST, LAST = 10, 19


def _record(index: ShardIndex, sample_id: int) -> tuple[int, int]:
    ids = np.array([sample_id])
    return index.bad(sample_id, "").offset, int(index.data_sizes(ids)[0])


def _write(shard: Path, offset: int, data: bytes) -> None:
    with shard.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def cut_between_members(index: ShardIndex, shard: Path) -> int:
    with shard.open("r+b") as file:
        file.truncate(_record(index, 15)[0] - 512)
    return 15


def cut_inside_a_header(index: ShardIndex, shard: Path) -> int:
    with shard.open("r+b") as file:
        file.truncate(_record(index, 15)[0] - 300)
    return 15


def cut_inside_data(index: ShardIndex, shard: Path) -> int:
    with shard.open("r+b") as file:
        file.truncate(_record(index, 15)[0] + 100)
    return 15


def a_zeroed_block_of_data(index: ShardIndex, shard: Path) -> int:
    _write(shard, _record(index, 12)[0] + 512, bytes(512))
    return 12


def a_zeroed_header(index: ShardIndex, shard: Path) -> int:
    _write(shard, _record(index, 12)[0] - 512, bytes(512))
    return 12


def one_flipped_bit(index: ShardIndex, shard: Path) -> int:
    offset, size = _record(index, 17)
    _write(shard, offset + size // 2, bytes([shard.read_bytes()[offset + size // 2] ^ 1]))
    return 17


def a_wrong_size_in_a_header(index: ShardIndex, shard: Path) -> int:
    offset, _ = _record(index, 13)
    info = tarfile.TarInfo.frombuf(shard.read_bytes()[offset - 512 : offset], "utf-8", "strict")
    info.size += 1024
    _write(shard, offset - 512, info.tobuf(tarfile.USTAR_FORMAT))
    return 13


def _rewrite(shard: Path, names: Callable[[list[str]], list[str]]) -> None:
    with tarfile.open(shard) as archive:
        members = {member.name: member for member in archive.getmembers()}
        data = {name: archive.extractfile(member).read() for name, member in members.items()}  # type: ignore[union-attr]
    with tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name in names(list(members)):
            archive.addfile(members[name], io.BytesIO(data[name]))


def a_member_missing(_: ShardIndex, shard: Path) -> int:
    _rewrite(shard, lambda names: names[:4] + names[5:])
    return 14


def a_member_twice(_: ShardIndex, shard: Path) -> int:
    _rewrite(shard, lambda names: [*names[:6], *names[5:]])
    return 16


def an_empty_tar(_: ShardIndex, shard: Path) -> int:
    shard.write_bytes(b"")
    return FIRST


IN_THE_TAR: list[Damage] = [
    cut_between_members,
    cut_inside_a_header,
    cut_inside_data,
    a_zeroed_block_of_data,
    a_zeroed_header,
    one_flipped_bit,
    a_wrong_size_in_a_header,
    a_member_missing,
    a_member_twice,
    an_empty_tar,
]
ONLY_THE_HEADER = (a_zeroed_header, a_wrong_size_in_a_header)


@pytest.fixture
def index(packed: Packed) -> ShardIndex:
    return packed(30)


@pytest.mark.parametrize("damage", IN_THE_TAR)
def test_verify_names_shard_key_and_offset_of_each_damage(index: ShardIndex, damage: Damage) -> None:
    assert verify(index.folder).problems == ()
    shard = Path(index.shard_path(SHARD))
    touched = damage(index, shard)
    offset = index.bad(touched, "").offset
    problems = verify(index.folder).problems
    assert problems
    assert all(problem.startswith(str(shard)) for problem in problems)
    text = "\n".join(problems)
    assert index.key(touched) in text
    assert any(f"offset {place}" in text for place in (offset, offset - 512))
    done = CliRunner().invoke(main, ["shards", "verify", index.folder])
    assert done.exit_code == 1
    assert done.stdout.splitlines() == list(problems)


@pytest.mark.parametrize("damage", IN_THE_TAR)
def test_reading_refuses_every_sample_whose_bytes_are_touched_and_gives_the_others_whole(
    index: ShardIndex, damage: Damage
) -> None:
    before = [index.read(sample_id) for sample_id in range(30)]
    index.close()
    touched = damage(index, Path(index.shard_path(SHARD)))
    refused = []
    for sample_id in range(30):
        try:
            assert index.read(sample_id) == before[sample_id]
        except BadSampleError as error:
            refused.append(error.bad)
    assert refused == [index.bad(bad.sample_id, bad.reason) for bad in refused]
    if damage in ONLY_THE_HEADER:
        assert refused == []  # the bytes are all there, and the index needs no header
    else:
        assert refused[0].sample_id == touched
        assert refused[-1].sample_id <= LAST


@pytest.mark.parametrize("damage", IN_THE_TAR)
def test_indexing_refuses_a_damaged_tar_of_ours(index: ShardIndex, damage: Damage) -> None:
    shard = Path(index.shard_path(SHARD))
    damage(index, shard)
    with pytest.raises(WorkError, match=str(shard)):
        index_tars(Path(index.folder))


@pytest.mark.parametrize("damage", [d for d in IN_THE_TAR if d not in (a_member_missing, one_flipped_bit)])
def test_indexing_another_tools_tar_notices_what_a_tar_can_tell(index: ShardIndex, damage: Damage) -> None:
    """There is no checksum yet: what breaks the archive or an image is noticed, a bit that breaks neither is not."""
    shard = Path(index.shard_path(SHARD))
    key = index.key(damage(index, shard))
    (Path(index.folder) / "manifest.json").unlink()
    try:
        index_tars(Path(index.folder))
    except WorkError as error:
        told = str(error)
    else:
        left_out = json.loads((Path(index.folder) / "left_out.jsonl").read_text())
        told = f"{left_out['image']} offset"
    assert shard.name in told
    assert "offset" in told
    assert key in told or damage is not a_zeroed_block_of_data


def test_a_missing_tar_is_named_by_verify_and_stops_every_reader(index: ShardIndex) -> None:
    shard = Path(index.shard_path(SHARD))
    shard.unlink()
    assert (
        verify(index.folder).problems[0] == f"{shard}: No such file or directory: its 10 samples are missing"
    )
    assert index.read(0)
    with pytest.raises(WorkError, match=r"train-00001\.tar: a shard of the set cannot be opened") as caught:
        index.read(FIRST)
    assert not isinstance(caught.value, BadSampleError)


def test_two_tars_exchanged_are_noticed(index: ShardIndex) -> None:
    first, second = (Path(index.shard_path(shard)) for shard in (0, 1))
    first.rename(first.with_suffix(".away"))
    second.rename(first)
    first.with_suffix(".away").rename(second)
    text = "\n".join(verify(index.folder).problems)
    assert str(first) in text
    assert str(second) in text
    for sample_id in range(20):
        with pytest.raises(BadSampleError, match=index.key(sample_id)):
            index.read(sample_id)


def test_the_index_of_another_set_is_refused_by_name(index: ShardIndex, packed: Packed) -> None:
    other = packed(30, name="other", sizes="vary")
    theirs, ours = (Path(folder) / "index" / "train.npy" for folder in (other.folder, index.folder))
    shutil.copyfile(theirs, ours)
    for use in (lambda: ShardIndex.open(index.folder, "train"), lambda: verify(index.folder)):
        with pytest.raises(UserError, match=r"index/train\.npy: .*srdist shards index"):
            use()
    CliRunner().invoke(main, ["shards", "index", index.folder], catch_exceptions=False)
    assert verify(index.folder).problems == ()


@pytest.mark.parametrize("damaged", ["bit", "cut", "gone", "pickle"])
def test_a_damaged_index_is_refused_and_made_anew_from_the_tars(index: ShardIndex, damaged: str) -> None:
    path = Path(index.folder) / "index" / "train.npy"
    before = path.read_bytes()
    match damaged:
        case "bit":
            _write(path, 300, bytes([before[300] ^ 16]))
        case "cut":
            path.write_bytes(before[:-5])
        case "gone":
            path.unlink()
        case "pickle":
            np.save(path, np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(UserError, match=r"index/train\.npy"):
        ShardIndex.open(index.folder, "train")
    index_tars(Path(index.folder))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("key", b"other", "the tar calls it"),
        ("key", b"\xff\xfe", "the tar calls it"),
        ("shard", 0, "the index has it in another shard than it counts it in"),
        ("shard", 99, "the index has it in another shard than it counts it in"),
        ("offset", 1 << 63, f"offset {1 << 63}: no such member there"),
        ("offset", (1 << 64) - 1, f"offset {(1 << 64) - 1}: no such member there"),
    ],
)
def test_an_index_that_fits_its_manifest_and_not_its_tars_is_found_by_verify_and_gives_no_wrong_sample(
    index: ShardIndex, field: str, value: object, said: str
) -> None:
    """As of a program that wrote its own index, and a manifest to go with it."""
    folder = Path(index.folder)
    path = folder / "index" / "train.npy"
    rows = np.load(path)
    rows[field][FIRST + 2] = value
    np.save(path, rows)
    manifest = read_manifest(Place(index.folder))
    entry = manifest.splits["train"]
    described = entry.index.model_copy(update={"bytes": path.stat().st_size, "sha256": sha256_of(path)})
    splits = {"train": entry.model_copy(update={"index": described})}
    (folder / "manifest.json").write_bytes(manifest.model_copy(update={"splits": splits}).to_json())
    done = CliRunner().invoke(main, ["shards", "verify", index.folder])
    assert done.exit_code == 1
    (line,) = done.stdout.splitlines()
    assert said in line
    if field != "key":
        with pytest.raises(BadSampleError, match=f"sample {index.key(FIRST + 2)}"):
            ShardIndex.open(index.folder, "train").read(FIRST + 2)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text.replace('"samples": 30', '"samples": 31'), "shards hold 30"),
        (lambda text: text.replace('"pack_seed": 0', '"pack_seed": 1'), "was edited or damaged"),
        (lambda text: text.replace('"version": 1', '"version": 9'), "version"),
        (lambda text: text.replace("train-00001.tar", "../../etc/passwd"), "does not stay inside"),
        (lambda text: text.replace("train-00001.tar", "/etc/passwd"), "does not stay inside"),
        (lambda text: text.replace('"left_out": {}', '"left_out": {}, "more": 1'), "more"),
        (lambda text: text[: len(text) // 2], "not a manifest"),
        (lambda _: "[]", "expected an object"),
        (lambda _: "\0\xff", "not a manifest"),
    ],
)
def test_an_edited_manifest_is_refused_in_one_line(
    index: ShardIndex, edit: Callable[[str], str], message: str
) -> None:
    path = Path(index.folder) / "manifest.json"
    text = path.read_text()
    assert edit(text) != text
    path.write_text(edit(text), encoding="latin-1")
    with pytest.raises(UserError, match=message) as caught:
        ShardIndex.open(index.folder, "train")
    assert str(path) in str(caught.value)
    done = CliRunner().invoke(main, ["shards", "verify", index.folder])
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_text("[" * 200_000), "not a manifest: nested more than 64 deep"),
        (lambda path: path.write_text('{"splits":' * 200_000), "not a manifest: nested more than 64 deep"),
        (lambda path: path.open("wb").truncate(100 << 30), "more than 64 MB, expected a manifest"),
        (lambda path: path.symlink_to("/dev/zero"), "a device, not a regular file"),
        (os.mkfifo, "a FIFO, not a regular file"),
        (lambda path: path.mkdir(), "a folder, not a regular file"),
    ],
    ids=["lists", "objects", "huge", "device", "FIFO", "folder"],
)
def test_what_cannot_be_a_manifest_is_refused_at_once(
    index: ShardIndex, make: Callable[[Path], object], words: str
) -> None:
    path = Path(index.folder) / "manifest.json"
    path.unlink()
    make(path)
    done = CliRunner().invoke(main, ["shards", "info", index.folder])
    assert done.exit_code == 2
    (line,) = done.output.splitlines()
    assert f"{path}: {words}" in line


def test_a_fifo_in_the_place_of_a_tar_is_named_and_not_waited_for(index: ShardIndex) -> None:
    path = Path(index.shard_path(0))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(WorkError, match=re.escape(str(path))):
        index.read(0)


def test_a_fifo_in_a_set_is_named_by_verify_and_replaced_by_index(index: ShardIndex) -> None:
    place = Path(index.folder) / "index" / "train.npy"
    rows = place.read_bytes()
    place.unlink()
    os.mkfifo(place)
    assert CliRunner().invoke(main, ["shards", "index", index.folder]).exit_code == 0
    assert place.read_bytes() == rows
    tar = Path(index.shard_path(0))
    tar.unlink()
    os.mkfifo(tar)
    told = CliRunner().invoke(main, ["shards", "verify", index.folder])
    assert told.exit_code == 1
    assert f"{tar}: " in told.output


def test_a_tar_that_the_manifest_does_not_know_is_named(index: ShardIndex) -> None:
    shutil.copyfile(index.shard_path(0), Path(index.folder) / "train-00009.tar")
    assert verify(index.folder).problems == (
        f"{index.folder}/train-00009.tar: a tar that the manifest does not know",
    )


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_an_image_that_claims_a_huge_size_is_refused_before_it_is_decoded(suffix: str) -> None:
    data = bytearray(encoded(np.zeros((16, 16, 3), np.uint8), suffix))
    if suffix == "png":
        import zlib

        data[16:24] = (100_000).to_bytes(4) * 2
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4)
    else:
        start = data.index(b"\xff\xc0") + 5
        data[start : start + 4] = (65_500).to_bytes(2) * 2
    with pytest.raises(UnreadableImageError, match=r"claims .* over the limit of 537 megapixels$"):
        decode_into(bytes(data), np.empty((16, 16, 3), np.uint8))
