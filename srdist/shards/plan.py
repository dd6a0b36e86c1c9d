"""Names to splits and keys: which file of a folder gets which key, which split, or why it is left out.

Apart from packing, because it only looks at names (checking looks at sizes, and cuts tiles).
"""

from __future__ import annotations

import hashlib
import tarfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from srdist.images.decode import UnreadableImageError
from srdist.images.folder import Walk, read_regular
from srdist.machine.errors import UserError
from srdist.shards.recipe import Recipe
from srdist.shards.tiles import Area

CELEBA_SPLITS = {"0": "train", "1": "val", "2": "test"}
LEAVE_OUT, NO_TILE = "leave_out", "no tile"
"""Kinds of reasons that the recipe itself gives: such images are listed, but nothing is wrong with them."""


@dataclass(frozen=True, slots=True)
class Partner:
    """The LR image of a pair: its file, and its path below the folder of LR images."""

    file: Path
    relative: str


@dataclass(frozen=True, slots=True)
class Source:
    """One image to be packed: its file, its path below the images' folder, and what the recipe makes of it."""

    file: Path
    relative: str
    split: str
    """Empty for an image with areas: each has a split of its own."""
    key: str
    suffix: str
    lr: Partner | None = None
    areas: tuple[Area, ...] = ()

    @property
    def endings(self) -> tuple[str, ...]:
        """Of its members in the tar, after the key: of the image alone, or of HR and LR."""
        if self.lr is None:
            return (self.suffix,)
        return f"hr.{self.suffix}", f"lr.{self.lr.file.suffix.lower().removeprefix('.')}"

    @property
    def members(self) -> tuple[str, ...]:
        """Their names in the tar."""
        return tuple(f"{self.key}.{ending}" for ending in self.endings)


@dataclass(slots=True)
class Plan:
    """What is to be packed, and what is not: (relative path, kind, reason)."""

    sources: list[Source] = field(default_factory=list)
    left_out: list[tuple[str, str, str]] = field(default_factory=list)
    other_files: Counter[str] = field(default_factory=Counter)
    split_file_sha256: str | None = None


def plan(recipe: Recipe, images: Path, *, split_file: Path | None = None) -> Plan:
    """Give every image below `images` a split and a key.

    Raises:
        UserError: no such folder, no image in it, no split file, a bad line in it, two images with one key.

    A file to which links lead by several paths is packed once, by the first of them: a copy in another split would
    put test images into the training.
    """
    if not images.is_dir():
        what = "a file" if images.exists() else "no such folder"
        raise UserError(f"{images}: {what}: expected the folder of the images")
    if split_file is not None and recipe.split != "file":
        raise UserError(f"--split-file: the recipe {recipe.name} has split: {recipe.split}, which reads none")
    result = Plan()
    files = _files(recipe, images, result)
    match recipe.split:
        case "file":
            _by_file(recipe, images, files, split_file, result)
        case "folders":
            _by_folders(images, files, result)
        case "areas":
            _by_areas(recipe, images, files, result)
        case "hash":
            for relative, file in files.items():
                key = key_of(relative)
                hashed = key if recipe.hash_of == "key" else file.name
                _add(result, file, relative, key, _hashed_split(hashed, recipe.fractions))
    _refuse_absent_splits(recipe, result.sources)
    # held_out_longest moves images to another split once their sizes are known.
    _refuse_equal_keys(images, result.sources, in_all_splits=recipe.split == "hash")
    return result


def _files(recipe: Recipe, images: Path, result: Plan) -> dict[str, Path]:
    """The images that the recipe takes, by their paths below `images`; the others go to what is left out."""
    found: list[tuple[str, tuple[int, int]]] = []
    for top in recipe.only or ("",):
        if not (images / top).exists():
            raise UserError(f"{images / top}: not there, but the recipe {recipe.name} names it in `only`")
        walk = Walk(images / top)
        place = PurePosixPath(top) if walk.folder == walk.source else PurePosixPath(top).parent
        prefix = "" if place == PurePosixPath() else f"{place}/"
        found += [(prefix + image.path, image.identity) for image in walk]
        result.left_out += [(prefix + path, "unreadable", reason) for path, reason in walk.unreadable]
        result.other_files += walk.others
    return _first_paths(found, recipe.leave_out, images, result)


def _first_paths(
    found: list[tuple[str, tuple[int, int]]], leave_out: dict[str, str], images: Path, result: Plan
) -> dict[str, Path]:
    """Each file once, by the first of its paths, without those that are to be left out under any path."""
    named = {path: name for path, _ in found for name in (path, _without_ending(path)) if name in leave_out}
    unwanted = {identity: leave_out[named[path]] for path, identity in found if path in named}
    for name in leave_out.keys() - named.values():
        what = "a folder: name the images in it" if (images / name).is_dir() else "not in the folder"
        result.left_out.append((name, "missing", f"named in leave_out, {what}"))
    files: dict[str, Path] = {}
    seen: dict[tuple[int, int], str] = {}
    for path, identity in found:
        first = seen.setdefault(identity, path)
        if identity in unwanted:
            result.left_out.append((path, LEAVE_OUT, unwanted[identity]))
        elif first == path:
            files[path] = images / path
        else:
            result.left_out.append((path, "same file", f"links lead to {first} as well"))
    return files


def _without_ending(relative: str) -> str:
    return str(PurePosixPath(relative).with_suffix(""))


def _refuse_absent_splits(recipe: Recipe, sources: list[Source]) -> None:
    if recipe.tiles is None or recipe.tiles.splits is None or recipe.split == "hash":
        return
    splits = {source.split for source in sources}
    if absent := set(recipe.tiles.splits) - splits:
        raise UserError(
            f"the recipe {recipe.name} cuts tiles of {', '.join(sorted(absent))}, "
            f"but the splits here are {', '.join(sorted(splits))}"
        )


def key_of(relative: str) -> str:
    """An image's key: its path without the ending, dots replaced (webdataset cuts a key at its first dot)."""
    return _without_ending(relative).replace(".", "_")


def _by_folders(images: Path, files: dict[str, Path], result: Plan) -> None:
    for relative, file in files.items():
        split, slash, rest = relative.partition("/")
        if not slash or not split.replace("_", "").isalnum() or not split.isascii():
            reason = "lies in no split folder" if not slash else f"folder {split!r} is no name for a split"
            result.left_out.append((relative, "no split", f"{reason} (train/, val/, test/, say)"))
        else:
            _add(result, file, relative, key_of(rest), split)
    if not result.sources:
        raise UserError(
            f"{images}: no split folder in it: split: folders expects train/, val/, test/ with the images"
        )


def _by_areas(recipe: Recipe, images: Path, files: dict[str, Path], result: Plan) -> None:
    areas: dict[str, list[Area]] = {}
    for area in recipe.areas:
        areas.setdefault(area.image, []).append(area)
    for relative, its_areas in areas.items():
        if relative in files:
            _add(result, files[relative], relative, key_of(relative), "", tuple(its_areas))
        else:
            result.left_out.append((relative, "missing", "named in areas, not in the folder"))
    for relative in files.keys() - areas.keys():
        result.left_out.append((relative, "no split", "has no area in the recipe"))
    if not result.sources:
        raise UserError(f"{images}: none of its {len(files)} images has an area in the recipe {recipe.name}")


def _by_file(
    recipe: Recipe, images: Path, files: dict[str, Path], split_file: Path | None, result: Plan
) -> None:
    assert recipe.split_file is not None
    path = split_file or _find_split_file(images, recipe.split_file)
    splits, result.split_file_sha256 = _read_split_file(path)
    for name, split in splits.items():
        if name in files:
            _add(result, files[name], name, key_of(name), split)
        else:
            result.left_out.append((name, "missing", f"named in {path.name}, not in the folder"))
    for relative in files.keys() - splits.keys():
        result.left_out.append((relative, "no split", f"not named in {path.name}"))
    if not result.sources:
        raise UserError(f"{images}: none of its {len(files)} images is named in {path}")


def _find_split_file(images: Path, name: str) -> Path:
    here = images.resolve()
    places = [here, here / "Eval", here.parent, here.parent / "Eval", here.parent.parent / "Eval"]
    for place in places:
        if (place / name).is_file():
            return place / name
    raise UserError(
        f"{name}: no split file beside the images, in their parent or in Eval/: give it with --split-file FILE"
    )


def _read_split_file(path: Path) -> tuple[dict[str, str], str]:
    try:
        data = read_regular(path)
        lines = data.decode("utf-8-sig").splitlines()  # editors on Windows begin a text with a mark
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such split file") from error
    except UnreadableImageError as error:
        raise UserError(f"{path}: {error}; expected lines of `000001.jpg 0`") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text, expected lines of `000001.jpg 0`") from error
    splits: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, code = line.strip().rpartition(" ")
        name = name.strip()
        if code not in CELEBA_SPLITS or not name:
            raise UserError(
                f"{path}:{number}: found {line.strip()[:60]!r}, expected `name 0|1|2` (train, val, test)"
            )
        if splits.setdefault(name, CELEBA_SPLITS[code]) != CELEBA_SPLITS[code]:
            raise UserError(f"{path}:{number}: {name} is in two splits")
    return splits, hashlib.sha256(data).hexdigest()


def _hashed_split(key: str, fractions: dict[str, float]) -> str:
    place = int.from_bytes(hashlib.sha256(key.encode(errors="surrogateescape")).digest()[:8]) / 2**64
    for split, fraction in fractions.items():
        if place < fraction:
            return split
        place -= fraction
    return [split for split, fraction in fractions.items() if fraction > 0][-1]


def _add(result: Plan, file: Path, relative: str, key: str, split: str, areas: tuple[Area, ...] = ()) -> None:
    source = Source(file, relative, split, key, file.suffix.lower().removeprefix("."), areas=areas)
    if problem := name_problem(source.members[0]):
        result.left_out.append((relative, "name", problem))
    else:
        result.sources.append(source)


def unprintable(name: str) -> str | None:
    """Why a name cannot stand in a list of keys, one a line; None if it can."""
    if name.isprintable():
        return None
    return "its name holds a character that cannot be printed (or is not UTF-8)"


def name_problem(member: str) -> str | None:
    """Why ustar cannot hold a member's name; None if it can."""
    if problem := unprintable(member):
        return problem
    try:
        tarfile.TarInfo(member).tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
    except ValueError as error:
        return f"its name of {len(member.encode())} bytes does not go into ustar: {error}"
    return None


def _refuse_equal_keys(images: Path, sources: list[Source], *, in_all_splits: bool) -> None:
    seen: dict[tuple[str, str], Source] = {}
    for source in sources:
        other = seen.setdefault(("" if in_all_splits else source.split, source.key), source)
        if other is not source:
            raise UserError(
                f"{images}: {other.relative} and {source.relative} would have one key, {source.key!r}: "
                "rename or remove one"
            )
