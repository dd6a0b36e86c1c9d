"""A new set is built beside the old one, and takes its place only when all of it is written."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from srdist.machine import files as wholefile
from srdist.machine.errors import UserError
from srdist.machine.locks import take
from srdist.shards.manifest import LEFT_OUT, MANIFEST, parse_manifest
from srdist.shards.remote import Place

_LOCK = "lock"
"""Beside the set that is being built: held by the process that builds it."""


@contextmanager
def new_set(out: Path) -> Iterator[Path]:
    """A new folder inside `out` to build a set in; gone afterwards, with what a killed run left of its own.

    Raises:
        UserError: `out` holds tars or index files of others, which the new set would remove, or another process packs
            there now.
    """
    is_new = not out.exists()
    if not is_new and not out.is_dir():
        raise UserError(f"--out {out}: a file: expected a folder to pack into")
    out.mkdir(parents=True, exist_ok=True)
    killed = list(out.glob(".pack-*"))
    if not killed:
        refuse_foreign(_names_in(out), Place(str(out)))
    for stale in killed:
        _remove(stale)
    mine = Path(tempfile.mkdtemp(prefix=".pack-", dir=out))
    lock = take(mine / _LOCK, patience_s=0)
    folder = mine / "set"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(mine, ignore_errors=True)
        if lock is not None:
            lock.release()
        if is_new and not any(out.iterdir()):
            out.rmdir()


def _remove(stale: Path) -> None:
    """Remove what a killed run left; one that lives holds its lock."""
    lock = take(stale / _LOCK, patience_s=0)
    if lock is None:
        raise UserError(
            f"{stale.parent}: another `srdist pack` is writing there; wait for it, or stop it first"
        )
    shutil.rmtree(stale)
    lock.release()


def _names_in(out: Path) -> list[str]:
    """Tars and files below index/, from `out` on."""
    held = [*sorted(out.glob("*.tar")), *out.glob("index"), *sorted(out.glob("index/**/*"))]
    return [path.relative_to(out).as_posix() for path in held if not path.is_dir()]


def refuse_foreign(names: list[str], place: Place) -> None:
    """Refuse tars, and files below index/, that the set in a place does not name: packing there would remove them.

    Args:
        names: of those that are there.
    """
    data = place.read(MANIFEST)
    why = "no whole manifest.json says whose it is"
    if data is not None:
        try:
            manifest = parse_manifest(data, source=place.path_of(MANIFEST))
        except UserError:
            if b'"made_by": "pack"' in data:
                return  # ours, though damaged: packing anew is the cure
        else:
            why = "the set there does not name it"
            if manifest.made_by == "pack":
                own = {entry.index.file for entry in manifest.splits.values()}
                own |= {shard.file for entry in manifest.splits.values() for shard in entry.shards}
                names = [name for name in names if name not in own]
            else:
                why = "the set there is of another tool's tars"
    if names:
        raise UserError(
            f"{place.shown}: holds {names[0]}, which packing would remove, and {why}: remove it if it may go, "
            "or give another folder with --out"
        )


def publish(folder: Path, out: Path) -> None:
    """Put a finished set in the place of the one in `out`: its manifest goes first and the new one comes last.

    Killed in the middle, `out` has no manifest: nothing there is usable until it is packed again. A process that
    opened the old set before finds its own open tars, or bytes that do not fit the crc32 of its index.
    """
    for file in sorted(folder.rglob("*")):
        wholefile.sync(file)
    manifest = out / MANIFEST
    manifest.unlink(missing_ok=True)
    wholefile.sync(out)
    for old in [*out.glob("*.tar"), out / LEFT_OUT]:
        old.unlink(missing_ok=True)
    if (out / "index").is_dir():
        shutil.rmtree(out / "index")
    else:
        (out / "index").unlink(missing_ok=True)
    for new in folder.iterdir():
        if new.name != MANIFEST:
            new.rename(out / new.name)
    wholefile.sync(out)
    (folder / MANIFEST).rename(manifest)
    wholefile.sync(out)
