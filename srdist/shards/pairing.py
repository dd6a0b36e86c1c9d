"""Pairs: which LR file is packed beside which HR image, and the one scale that their sizes must have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from srdist.images.folder import Walk
from srdist.images.partners import partners
from srdist.machine.errors import UserError
from srdist.shards.plan import Partner, Plan, Source, name_problem
from srdist.shards.recipe import Recipe

SCALES = range(2, 9)
"""Those that networks have."""

Sides = tuple[int, int]
"""(height, width) in pixels."""


def pair_up(planned: Plan, recipe: Recipe, *, images: Path, lr: Path) -> None:
    """Give each planned image its LR file from the folder `lr`; what has no partner, on either side, is left out.

    Raises:
        UserError: no such folder or no image in it, one folder in the other, or names that fit two files.
    """
    _refuse_one_in_the_other(images, lr)
    walk = Walk(lr)
    identities = {image.path: image.identity for image in walk}
    # Images that are left out have their partners too: a pair is left out, not a half of it twice.
    names = [*(source.relative for source in planned.sources), *(path for path, _, _ in planned.left_out)]
    fitting = partners(names, identities, scale=recipe.scale)
    unreadable = dict(walk.unreadable)
    unreadable_of = partners(names, unreadable, scale=recipe.scale)
    pairs: list[Source] = []
    hr_of: dict[str, str] = {}
    path_of: dict[tuple[int, int], str] = {}
    for source in planned.sources:
        found = fitting[source.relative]
        if len(found) > 1:
            raise UserError(
                f"{lr}: two LR images fit the HR image {source.relative}: {found[0]} and {found[1]}: "
                "rename or remove one"
            )
        if not found:
            planned.left_out.append(_without_lr(source, unreadable_of[source.relative], unreadable))
            continue
        other = hr_of.setdefault(found[0], source.relative)
        if other != source.relative:
            raise UserError(
                f"{images}: the LR image {found[0]} fits two HR images: {other} and {source.relative}: "
                "rename or remove one"
            )
        first = path_of.setdefault(identities[found[0]], found[0])
        if first != found[0]:
            planned.left_out.append(
                (source.relative, "same file", f"links make its LR {first}, of another image")
            )
            continue
        pairs.append(replace(source, lr=Partner(lr / found[0], found[0])))
    used = {name for found in (*fitting.values(), *unreadable_of.values()) for name in found}
    planned.left_out += [
        (name, "no HR", "an LR image: no HR image of this name")
        for name in identities
        if name not in used and _wanted(name, recipe.only)
    ]
    planned.left_out += [
        (path, "unreadable", f"in the folder of LR: {reason}")
        for path, reason in unreadable.items()
        if path not in used
    ]
    planned.other_files += walk.others
    planned.sources = [source for source in pairs if not _unnameable(planned, source)]


def _without_lr(source: Source, its: list[str], unreadable: dict[str, str]) -> tuple[str, str, str]:
    """What is left out, once, where an image has no LR that could be read: `its` are those of its name that could not."""
    if its:
        return source.relative, "unreadable", f"its LR image {its[0]}: {unreadable[its[0]]}"
    return source.relative, "no LR", "no LR image of this name"


def scale_of(hr: Sides, lr: Sides) -> int | None:
    """The whole factor between two images, if there is one that networks have."""
    scale = hr[0] // lr[0]
    return scale if scale in SCALES and hr == (lr[0] * scale, lr[1] * scale) else None


def one_scale(
    sides: Iterable[tuple[Sides, Sides]], *, asked: int | None, source: str, how: str
) -> int | None:
    """The scale of a set of pairs (HR, LR): the one that is asked for, else the one that all have; None if none has one.

    Args:
        how: how the user asks for one.

    Raises:
        UserError: pairs of several scales, and nobody asked for one of them.
    """
    if asked is not None:
        return asked
    counts = Counter(scale for hr, lr in sides if (scale := scale_of(hr, lr)) is not None)
    if len(counts) > 1:
        held = ", ".join(f"{count:,} of x{scale}" for scale, count in sorted(counts.items()))
        raise UserError(
            f"{source}: pairs of several scales: {held}: say which with {how}; the rest is then left out"
        )
    return next(iter(counts), None)


def misfit(hr: Sides, lr: Sides, *, scale: int | None) -> str | None:
    """What is wrong with the sizes of a pair; None if nothing is."""
    if scale is not None and scale_of(hr, lr) == scale:
        return None
    expected = f"HR of {lr[0] * scale}x{lr[1] * scale}" if scale is not None else "HR 2 to 8 times as large"
    return f"HR is {hr[0]}x{hr[1]} and LR {lr[0]}x{lr[1]} (height x width): expected {expected}"


def _wanted(name: str, only: tuple[str, ...] | None) -> bool:
    """Whether a path lies where the recipe looks for images."""
    return only is None or any(name == top or name.startswith(f"{top.rstrip('/')}/") for top in only)


def _refuse_one_in_the_other(images: Path, lr: Path) -> None:
    if not lr.is_dir():
        raise UserError(
            f"--lr {lr}: {'a file' if lr.exists() else 'no such folder'}: expected the folder of LR images"
        )
    hr_place, lr_place = images.resolve(), lr.resolve()
    if hr_place == lr_place:
        raise UserError(f"--lr {lr}: is the folder of the HR images as well: expected two folders")
    if hr_place in lr_place.parents or lr_place in hr_place.parents:
        raise UserError(
            f"--lr {lr}: one of {images} and {lr} lies in the other, so that images of one would count for both: "
            "expected two folders side by side"
        )


def _unnameable(planned: Plan, source: Source) -> bool:
    problem = next(filter(None, map(name_problem, source.members)), None)
    if problem is not None:
        planned.left_out.append((source.relative, "name", problem))
    return problem is not None
