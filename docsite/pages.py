"""Pages of docs/ and the files of the repository that they link to, laid out as one tree of pages.

A page of docs/ keeps its name. Another file stands below repository/: Markdown and code as pages, the rest as it is.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"

# Code between backticks comes first, as a link in it is none.
_LINK = re.compile(r"`[^`]*`|(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_FENCE = re.compile(r"^( *)(```|~~~)")
_SHOWN_AS_CODE = {".yaml": "yaml", ".py": "python", ".sh": "bash", ".toml": "toml"}


class BrokenLinkError(ValueError):
    """A page links to a file that is not there."""


def lay_out(pages: Path) -> None:
    """Write every page of docs/, and whatever files of the repository they link to, into the new folder `pages`.

    Raises:
        BrokenLinkError: a link leads to no file of the repository; page, line and target are named.
    """
    waiting = sorted(DOCS.glob("*.md"))
    done: set[Path] = set()
    while waiting:
        source = waiting.pop()
        if source in done:
            continue
        done.add(source)
        place = pages / place_of(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            text, linked = _with_links(source)
            place.write_text(text, encoding="utf-8")
            waiting += linked
        elif source.suffix in _SHOWN_AS_CODE:
            place.write_text(_as_page(source), encoding="utf-8")
        else:
            shutil.copyfile(source, place)


def place_of(source: Path) -> PurePosixPath:
    """Where a file of the repository stands among the pages."""
    if source.is_relative_to(DOCS):
        return PurePosixPath(source.relative_to(DOCS))
    place = PurePosixPath("repository", source.relative_to(ROOT))
    return place.with_name(place.name + ".md") if source.suffix in _SHOWN_AS_CODE else place


def prose(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a page that are no code, with their numbers from 1."""
    fence = None
    for number, line in enumerate(text.splitlines(), start=1):
        if found := _FENCE.match(line):
            fence = None if fence == found[2] else fence or found[2]
        elif fence is None:
            yield number, line


def _as_page(source: Path) -> str:
    code = source.read_text(encoding="utf-8")
    return f"# {source.relative_to(ROOT).as_posix()}\n\n```{_SHOWN_AS_CODE[source.suffix]}\n{code.rstrip()}\n```\n"


def _with_links(source: Path) -> tuple[str, list[Path]]:
    """The text of a page with its links as they stand among the pages, and the files that these lead to."""
    lines = source.read_text(encoding="utf-8").splitlines()
    linked: list[Path] = []
    for number, line in prose("\n".join(lines)):

        def moved(match: re.Match[str], number: int = number) -> str:
            image, label, target = match.groups()
            path, hash_mark, anchor = (target or "").partition("#")
            if (
                target is None
                or "://" in target
                or target.startswith("mailto:")
                or not path
                or _is_generated(path)
            ):
                return match[0]
            file = Path(os.path.normpath(source.parent / path))
            if file.is_dir() and file.is_relative_to(ROOT):
                return label  # a folder is no page
            if not (file.is_file() and file.is_relative_to(ROOT)):
                raise BrokenLinkError(f"{source.relative_to(ROOT)}:{number}: {target} leads to no file")
            linked.append(file)
            there = os.path.relpath(place_of(file), place_of(source).parent)
            return f"{image}[{label}]({there}{hash_mark}{anchor})"

        lines[number - 1] = _LINK.sub(moved, line)
    return "\n".join(lines) + "\n", linked


def _is_generated(path: str) -> bool:
    return path.startswith("reference/")
