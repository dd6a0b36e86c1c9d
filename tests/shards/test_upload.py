"""Packing into a store: the set of the folder, whole or not at all, and nothing of others removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pytest
from click.testing import CliRunner
from fsspec.implementations.local import LocalFileSystem

from srdist.cli.main import main
from srdist.machine.errors import UserError, WorkError
from srdist.shards import download
from srdist.shards.pack import pack
from srdist.shards.reader import ShardIndex
from srdist.shards.recipe import Recipe
from srdist.shards.upload import pack_to_store
from srdist.shards.verify import verify
from tests.packed_sets import Images
from tests.stores import served

RECIPE = Recipe(name="test", split="hash", fractions={"train": 1.0}, shard_samples=10)


@pytest.fixture(autouse=True)
def _impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRDIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.01)


def _put(images: Path, url: str) -> str:
    return pack_to_store(RECIPE, images, out=url, lr=None, split_file=None).manifest_id


def test_a_set_packed_into_s3_is_the_one_of_a_folder_and_takes_the_place_of_another(
    images: Images, tmp_path: Path, s3: str
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: test\nsplit: hash\nfractions: {train: 1.0}\nshard_samples: 10\n")
    larger, smaller = images(40, name="larger"), images(20, name="smaller")
    for folder in (larger, smaller):
        here = pack(RECIPE, folder, out=tmp_path / f"{folder.name}-set")
        done = CliRunner().invoke(
            main, ["pack", str(recipe), "--images", str(folder), "--out", f"{s3}/packed/set"]
        )
        assert done.exit_code == 0, done.output
        assert f"{s3}/packed/set: train" in done.output
        fs = fsspec.filesystem("s3")
        fs.invalidate_cache()
        names = sorted(name.removeprefix("bucket/packed/set/") for name in fs.find("bucket/packed/set"))
        made = tmp_path / f"{folder.name}-set"
        assert names == sorted(str(path.relative_to(made)) for path in made.rglob("*") if path.is_file())
        assert ShardIndex.open(f"{s3}/packed/set", "train").manifest_id == here.manifest_id
    assert verify(f"{s3}/packed/set").problems == ()


def test_tars_that_no_set_there_names_are_refused_and_stay(images: Images, s3: str) -> None:
    fs = fsspec.filesystem("s3")
    fs.pipe_file("bucket/foreign/mine.tar", b"a tar of my own")
    with pytest.raises(UserError, match=f"{s3}/foreign: holds mine.tar, which packing would remove"):
        _put(images(5), f"{s3}/foreign")
    assert fs.cat_file("bucket/foreign/mine.tar") == b"a tar of my own"


class Brittle(LocalFileSystem):
    """Takes a number of files, and then no more."""

    protocol = ("brittle", "breaks-easily")
    takes = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("brittle://")

    def put_file(self, *args: Any, **kwargs: Any) -> None:
        if Brittle.takes == 0:
            raise ConnectionError("the store is gone")
        Brittle.takes -= 1
        super().put_file(*args, **kwargs)  # type: ignore[no-untyped-call]


def test_a_store_lost_at_any_file_leaves_no_set_and_the_same_command_makes_it(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec.register_implementation("brittle", Brittle, clobber=True)
    monkeypatch.setattr(download, "TRIES", 2)
    folder, out = images(20), tmp_path / "store"
    for takes in range(5):  # two tars, an index, what was left out, the manifest
        Brittle.takes = takes
        with pytest.raises(
            WorkError, match=r"brittle://.*: could not be written in 2 tries: .*the store is gone"
        ):
            _put(folder, f"brittle://{out}")
        assert not (out / "manifest.json").exists()
    Brittle.takes = 5
    assert _put(folder, f"brittle://{out}") == ShardIndex.open(str(out), "train").manifest_id
    assert verify(str(out)).problems == ()


def test_a_store_that_takes_nothing_is_told_before_anything_is_packed(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        with pytest.raises(UserError, match=r"http://\*\*\*@.*written") as refused:
            _put(tmp_path / "no-images-needed", f"http://user:SECRET9@{server.netloc}/set?sig=TOKEN7")
        assert "SECRET9" not in str(refused.value)
        assert "TOKEN7" not in str(refused.value)
