"""A set packed into a store: built on this machine, then put there file by file, the manifest last."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

from srdist.machine.errors import UserError
from srdist.shards.cache import waited_for
from srdist.shards.download import attempted
from srdist.shards.manifest import LEFT_OUT, MANIFEST
from srdist.shards.newset import refuse_foreign
from srdist.shards.pack import pack
from srdist.shards.packreport import PackReport
from srdist.shards.recipe import Recipe
from srdist.shards.remote import Place

T = TypeVar("T")

PATIENCE_S = 600.0
"""Time that putting one file may take."""
_BEGUN = ".srdist-pack"
"""Is there from before anything is packed, so that a store that takes nothing is told at once, until all has come."""


def pack_to_store(
    recipe: Recipe, images: Path, *, out: str, lr: Path | None, split_file: Path | None
) -> PackReport:
    """As `pack.pack`, into an fsspec URL. The set waits in the folder of temporary files, which needs room for it.

    Stopped in the middle, there is the old set, or no manifest and nothing that is usable.

    Raises:
        UserError, WorkError: as `pack.pack`; the store cannot be written to, or holds tars that are no set's.
    """
    place = Place(out)
    there = _listed(place)
    if _BEGUN not in there:  # else what is there is what a stopped one has put
        own = (MANIFEST, LEFT_OUT)
        refuse_foreign([name for name in there if _of_a_set(name) and name not in own], place)
    _put(place, _BEGUN, _mark)
    with tempfile.TemporaryDirectory(prefix="srdist-pack-") as folder:
        made = Path(folder) / "set"
        try:
            report = pack(recipe, images, out=made, lr=lr, split_file=split_file)
        except BaseException:
            if _BEGUN not in there:
                _put(place, _BEGUN, _remove)
            raise
        _publish(made, place, old=[name for name in there if _of_a_set(name)])
    _put(place, _BEGUN, _remove)
    return report


def _publish(made: Path, place: Place, *, old: list[str]) -> None:
    """Put the files of a finished set in the place of another: its manifest goes first, the new one comes last."""
    new = [path.relative_to(made).as_posix() for path in sorted(made.rglob("*")) if path.is_file()]
    if MANIFEST in old:
        _put(place, MANIFEST, _remove)
    for name in new:
        if name != MANIFEST:
            _put_file(place, name, made / name)
    for name in old:
        if name not in new:
            _put(place, name, _remove)
    _put_file(place, MANIFEST, made / MANIFEST)


def _put_file(place: Place, name: str, file: Path) -> None:
    def put(fs: Any, path: str) -> None:
        _make_folder(fs, path)
        fs.put_file(str(file), path)
        found, size = fs.info(path)["size"], file.stat().st_size
        if found != size:
            raise ConnectionError(f"{found} of {size} bytes have come")

    _put(place, name, put)


def _remove(fs: Any, path: str) -> None:
    if fs.exists(path):  # else by a try whose answer was lost
        fs.rm_file(path)


def _mark(fs: Any, path: str) -> None:
    _make_folder(fs, path)
    fs.pipe_file(path, b"")


def _make_folder(fs: Any, path: str) -> None:
    """Of a file on this machine; stores know no folders, and s3fs would make a bucket."""
    from fsspec.implementations.local import LocalFileSystem

    if isinstance(fs, LocalFileSystem):
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)


def _put(place: Place, name: str, work: Callable[[Any, str], T]) -> T:
    url = place.url_of(name)

    def tried(given_up: Event) -> T:
        return attempted(url, work, given_up=given_up, what="written", patience_s=PATIENCE_S)

    try:
        return waited_for(url, tried)
    except (NotImplementedError, FileNotFoundError) as error:
        raise UserError(
            f"{place.path_of(name)}: cannot be written: {error or type(error).__name__}"
        ) from error


def _listed(place: Place) -> list[str]:
    """Names of all files there, from the set's folder on."""

    def find(fs: Any, path: str) -> list[str]:
        folder = path.rstrip("/")
        fs.invalidate_cache()
        return sorted(name.removeprefix(f"{folder}/") for name in fs.find(folder))

    try:
        return waited_for(place.name, lambda given_up: attempted(place.name, find, given_up=given_up))
    except FileNotFoundError:
        return []


def _of_a_set(name: str) -> bool:
    is_tar = "/" not in name and name.endswith(".tar")
    return is_tar or name.startswith("index/") or name in (MANIFEST, LEFT_OUT)
