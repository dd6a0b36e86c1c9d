"""Sets behind an fsspec URL: the same stream, each file fetched once, checked, and kept whole."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Timer
from typing import Any, NoReturn

import fsspec
import pytest
import torch

from srdist.machine import stopping, waiting
from srdist.machine.errors import UserError, WorkError
from srdist.machine.stopping import StopRequested
from srdist.shards import cache as shard_cache
from srdist.shards import download
from srdist.shards.reader import ShardIndex
from srdist.shards.remote import Place
from srdist.shards.verify import verify
from tests.packed_sets import Packed
from tests.stores import served
from tests.stream.test_pairs import global_batches


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SRDIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.01)
    return tmp_path / "cache"


def _files(cache: Path) -> set[str]:
    return {path.name for path in cache.rglob("*") if path.is_file() and not path.name.startswith(".")}


def test_a_remote_set_streams_the_same_batches_and_is_read_from_the_cache_next_time(
    packed: Packed, cache: Path
) -> None:
    local = packed(50)
    index = ShardIndex.open(f"file://{local.folder}", "train")
    assert index.manifest_id == local.manifest_id
    assert _files(cache) == {"train.npy"}
    reference = global_batches(local, steps=4)
    fetched = global_batches(index, steps=4, workers=2)
    assert all(torch.equal(a["hr"], b["hr"]) for a, b in zip(reference, fetched, strict=True))
    assert _files(cache) == {"train.npy", *(f"train-{shard:05d}.tar" for shard in range(5))}
    for tar in Path(local.folder).glob("*.tar"):
        tar.unlink()
    again = global_batches(ShardIndex.open(f"file://{local.folder}", "train"), steps=4)
    assert all(torch.equal(a["hr"], b["hr"]) for a, b in zip(reference, again, strict=True))
    assert verify(f"file://{local.folder}").problems == ()


def test_window_order_reads_only_its_window_where_nothing_is_fetched_ahead(
    packed: Packed, cache: Path
) -> None:
    index = ShardIndex.open(f"file://{packed(100).folder}", "train")
    global_batches(index, steps=1, order="window", window_shards=3, prefetch=False)
    assert len(_files(cache)) == 1 + 3


def test_a_bound_that_is_no_number_is_refused(packed: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    local = packed(20)
    for value in ("much", "nan", "inf", "0", "-1", ""):
        monkeypatch.setenv("SRDIST_CACHE_GB", value)
        with pytest.raises(UserError, match=f"SRDIST_CACHE_GB: found '{value}'"):
            verify(f"file://{local.folder}")


def test_a_file_is_fetched_once_for_all_who_ask(packed: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    local = packed(20)
    entry = local.entry.shards[0]
    place = Place(f"file://{local.folder}").of_manifest(local.manifest_id)
    fetches: list[str] = []
    fetch = download.download

    def counted(url: str, part: Path, **how: Any) -> None:
        fetches.append(url)
        fetch(url, part, **how)

    monkeypatch.setattr(shard_cache, "download", counted)
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: place.local(entry), range(16)))
    assert len(paths) == 1
    assert paths.pop().stat().st_size == entry.bytes
    assert fetches == [f"file://{local.folder}/train-00000.tar"]


def test_a_tar_that_does_not_fit_its_sha256_is_never_kept(packed: Packed, cache: Path) -> None:
    local = packed(30)
    tar = Path(local.shard_path(1))
    tar.write_bytes(tar.read_bytes()[:-2000])
    index = ShardIndex.open(f"file://{local.folder}", "train")
    with pytest.raises(
        WorkError, match=r"train-00001\.tar: is not the file that the manifest names, in 4 tries: it ends at"
    ):
        index.read(15)
    assert index.read(3) == local.read(3)
    assert _files(cache) == {"train.npy", "train-00000.tar"}


def test_a_set_packed_anew_is_not_read_from_the_old_sets_cache(packed: Packed, cache: Path) -> None:
    local, other = packed(20), packed(20, name="other", sizes="vary")
    url = f"file://{local.folder}"
    before = ShardIndex.open(url, "train").read(4)
    shutil.rmtree(local.folder)
    os.rename(other.folder, local.folder)  # noqa: PTH104 (strings)
    after = ShardIndex.open(url, "train")
    assert after.read(4) != before
    assert after.manifest_id == other.manifest_id
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///nowhere/at/all", "no manifest.json there"),
        ("nonsense://x/y", "fsspec cannot open it"),
        ("memory://empty", "no manifest.json there"),
    ],
)
def test_a_url_without_a_set_is_one_line(url: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ShardIndex.open(url, "train")


class SilentServer(fsspec.AbstractFileSystem):
    """Takes every request and answers none, as a server behind a broken network does."""

    protocol = "silent"

    def open(self, *_: object, **__: object) -> NoReturn:
        Event().wait()
        raise AssertionError


def test_a_stop_is_heard_while_a_server_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("silent", SilentServer, clobber=True)
    monkeypatch.setattr(stopping, "_received", [])
    Timer(0.3, lambda: stopping._received.append("SIGTERM")).start()
    begin = time.monotonic()
    with pytest.raises(StopRequested):
        ShardIndex.open("silent://somewhere/set", "train")
    assert time.monotonic() - begin < 30


def test_a_stop_is_heard_between_two_tries(packed: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "FIRST_WAIT_S", 60)
    monkeypatch.setattr(download, "LONGEST_WAIT_S", 60)
    monkeypatch.setattr(stopping, "_received", [])
    with served(Path(packed(20).folder), rate=1.0, faults=("busy",), only=".tar") as server:
        index = ShardIndex.open(server.url, "train")
        Timer(0.3, lambda: stopping._received.append("SIGUSR1")).start()
        begin = time.monotonic()
        with pytest.raises(StopRequested):
            index.read(15)
    assert time.monotonic() - begin < 30


def test_one_that_waits_for_anothers_fetch_hears_a_stop_and_says_what_it_waits_for(
    packed: Packed, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "SAID_AFTER_S", 0.2)
    monkeypatch.setattr(waiting, "LOOK_UP_S", 0.1)
    index = ShardIndex.open(f"file://{packed(20).folder}", "train")
    (folder,) = cache.iterdir()
    with (folder / ".train-00001.tar.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        monkeypatch.setattr(stopping, "_received", [])
        Timer(0.6, lambda: stopping._received.append("SIGTERM")).start()
        with pytest.raises(StopRequested):
            index.read(15)
    assert f"waits for another that fetches {folder}/train-00001.tar" in capsys.readouterr().err


def test_a_download_goes_on_where_a_killed_one_stood_and_trusts_nothing_of_it(
    packed: Packed, cache: Path
) -> None:
    local = packed(30)
    tars = [Path(local.shard_path(shard)).read_bytes() for shard in range(3)]
    with served(Path(local.folder)) as server:
        index = ShardIndex.open(server.url, "train")
        (folder,) = cache.iterdir()
        begun = [tars[0][:5000], b"half a tar, and none of this one", tars[2] + b"more than all of it"]
        for shard, (data, tar) in enumerate(zip(begun, tars, strict=True)):
            (folder / f".train-{shard:05d}.tar.{len(tar)}.part").write_bytes(data)
        for sample in (3, 15, 25):
            assert index.read(sample) == local.read(sample)
        asked = [range_ for path, range_ in server.gets if path == "/train-00000.tar"]
        assert asked == [f"bytes=5000-{len(tars[0]) - 1}"]
    assert [(folder / f"train-{shard:05d}.tar").read_bytes() for shard in range(3)] == tars
    assert not list(folder.glob(".*.part"))


def test_a_cached_tar_that_was_cut_since_is_fetched_again(packed: Packed, cache: Path) -> None:
    local = packed(20)
    url = f"file://{local.folder}"
    ShardIndex.open(url, "train").read(15)
    (tar,) = cache.rglob("train-00001.tar")
    tar.write_bytes(b"")
    assert ShardIndex.open(url, "train").read(15) == local.read(15)


def test_a_wrong_file_is_fetched_again_and_then_an_error_names_its_url(packed: Packed) -> None:
    local = packed(20)
    with served(Path(local.folder), rate=1.0, faults=("wrong",), only="train-00001.tar") as server:
        index = ShardIndex.open(server.url, "train")
        with pytest.raises(WorkError, match=rf"{server.url}/train-00001\.tar: is not the file .*sha256 is"):
            index.read(15)
        assert len(server.met) == download.WRONG_TRIES
        server.rate = 0.0
        assert index.read(15) == local.read(15)


def test_a_silent_server_is_given_up_and_asked_for_less(
    packed: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "STALL_S", 0.3)
    monkeypatch.setattr(download, "TRIES", 3)
    monkeypatch.setattr(download, "RANGE_BYTES", 1 << 14)
    monkeypatch.setattr(download, "LEAST_RANGE_BYTES", 1 << 10)
    local = packed(10)
    with served(Path(local.folder), rate=1.0, faults=("stall",), only=".tar") as server:
        index = ShardIndex.open(server.url, "train")
        with pytest.raises(
            WorkError,
            match=r"train-00000\.tar: could not be read in 3 tries: StalledError: no answer in 0\.3 s",
        ):
            index.read(3)
        server.rate = 0.0
        monkeypatch.setattr(download, "STALL_S", 30)
        assert index.read(3) == local.read(3)


def test_what_a_store_refuses_or_has_not_is_asked_for_once(packed: Packed) -> None:
    local = packed(20)
    with served(Path(local.folder)) as server:
        index = ShardIndex.open(server.url, "train")
        Path(local.shard_path(1)).unlink()
        begin = time.monotonic()
        with pytest.raises(WorkError, match=rf"{server.url}/train-00001.tar: no such file in the store"):
            index.read(15)
        assert time.monotonic() - begin < 30


def test_a_set_on_s3_is_a_set(packed: Packed, s3: str) -> None:
    local = packed(20)
    fs = fsspec.filesystem("s3")
    fs.put(local.folder, "bucket/set", recursive=True)
    index = ShardIndex.open(f"{s3}/set", "train")
    assert [index.read(sample) for sample in range(20)] == [local.read(sample) for sample in range(20)]
    with pytest.raises(UserError, match=f"{s3}/nothing: no manifest.json there"):
        ShardIndex.open(f"{s3}/nothing", "train")
