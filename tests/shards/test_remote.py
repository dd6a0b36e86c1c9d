"""Sets behind an fsspec URL: the same stream, each file fetched once, checked, and kept whole."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Timer
from typing import NoReturn

import fsspec
import pytest
import torch

from srdist.machine import stopping, waiting
from srdist.machine.errors import UserError, WorkError
from srdist.machine.stopping import StopRequested
from srdist.shards import remote
from srdist.shards.reader import ShardIndex
from srdist.shards.remote import Place
from srdist.shards.verify import verify
from tests.packed_sets import Packed
from tests.stream.test_pairs import global_batches


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SRDIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "FIRST_WAIT_S", 0.01)
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


def test_window_order_reads_only_its_window_ahead(packed: Packed, cache: Path) -> None:
    index = ShardIndex.open(f"file://{packed(100).folder}", "train")
    global_batches(index, steps=1, order="window", window_shards=3)
    assert len(_files(cache)) == 1 + 3


def test_a_bounded_cache_drops_the_longest_unused_tars_and_the_stream_stays_exact(
    packed: Packed, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = packed(100)
    size = Path(local.shard_path(0)).stat().st_size
    monkeypatch.setenv("SRDIST_CACHE_GB", str(3.5 * size / 1e9))
    index = ShardIndex.open(f"file://{local.folder}", "train")
    settings = {"steps": 9, "order": "window", "window_shards": 2}
    reference = global_batches(local, **settings)  # type: ignore[arg-type]
    bounded = global_batches(index, workers=2, **settings)  # type: ignore[arg-type]
    assert all(torch.equal(a["hr"], b["hr"]) for a, b in zip(reference, bounded, strict=True))
    assert len([name for name in _files(cache) if name.endswith(".tar")]) <= 4
    monkeypatch.setenv("SRDIST_CACHE_GB", "much")
    with pytest.raises(UserError, match="SRDIST_CACHE_GB: found 'much'"):
        verify(f"file://{local.folder}")


def test_a_file_is_fetched_once_for_all_who_ask(packed: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    local = packed(20)
    entry = local.entry.shards[0]
    place = Place(f"file://{local.folder}").of_manifest(local.manifest_id)
    fetches: list[str] = []
    fetch = remote._fetch

    def counted(url: str, path: Path, sha256: str, given_up: Event) -> None:
        fetches.append(url)
        fetch(url, path, sha256, given_up)

    monkeypatch.setattr(remote, "_fetch", counted)
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: place.local(entry.file, sha256=entry.sha256), range(16)))
    assert len(paths) == 1
    assert paths.pop().stat().st_size == entry.bytes
    assert fetches == [f"file://{local.folder}/train-00000.tar"]


def test_a_tar_that_does_not_fit_its_sha256_is_never_kept(packed: Packed, cache: Path) -> None:
    local = packed(30)
    tar = Path(local.shard_path(1))
    tar.write_bytes(tar.read_bytes()[:-2000])
    index = ShardIndex.open(f"file://{local.folder}", "train")
    with pytest.raises(WorkError, match=r"train-00001\.tar: could not be read in 5 tries: .*sha256"):
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
    monkeypatch.setattr(remote, "FIRST_WAIT_S", 60)
    local = packed(20)
    index = ShardIndex.open(f"file://{local.folder}", "train")
    Path(local.shard_path(1)).unlink()
    monkeypatch.setattr(stopping, "_received", [])
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


def test_what_a_killed_process_had_half_fetched_is_removed_by_the_next(packed: Packed, cache: Path) -> None:
    index = ShardIndex.open(f"file://{packed(20).folder}", "train")
    (folder,) = cache.iterdir()
    half, other = folder / ".train-00001.abc.tmp.tar", folder / ".train-00000.abc.tmp.tar"
    for path in (half, other):
        path.write_bytes(b"half a tar")
    assert index.read(15)
    assert not half.exists()
    assert other.exists()  # perhaps in hand
