"""The site is built of all pages without a warning, needs no network, and its reference has all that the code has."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from docsite import commands, pages, pictures
from docsite.__main__ import main
from docsite.building import MARK, BuildError, build
from docsite.pages import DOCS, ROOT, BrokenLinkError
from srdist import config

NOT_REWRITTEN = {"gpu", "log", "losses", "networks", "pareto", "shards", "upscale"}
"""Pages that are still written for those who wrote them: their lines may be long."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "out"
    build(out)
    return out


def named(part: Any) -> Iterator[str]:
    """The pages of the navigation."""
    if isinstance(part, str):
        yield part
    else:
        for one in part.values() if isinstance(part, dict) else part:
            yield from named(one)


def test_every_page_stands_in_the_navigation_once() -> None:
    project = tomllib.loads((ROOT / "docsite/zensical.toml").read_text())["project"]
    written = [path.name for path in DOCS.glob("*.md")]
    made = ["reference/commands.md", "reference/config.md", "reference/recipe.md", "reference/sweep.md"]
    assert sorted(named(project["nav"])) == sorted([*written, *made])


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert re.findall(r"<(?:script|img|iframe)[^>]*src=\"?(?:https?:)?//", text) == [], page
        assert re.findall(r"<link[^>]*rel=\"?stylesheet[^>]*(?:https?:)?//[^>]*>", text) == [], page
    for style in site.rglob("*.css"):
        assert re.findall(r"(?:@import|url\()[\s\"']*(?:https?:)?//", style.read_text()) == [], style


def test_what_is_meant_as_a_list_or_a_table_is_one(site: Path) -> None:
    for page in site.rglob("*.html"):
        paragraphs = re.findall(r"<p>(.*?)</p>", page.read_text(), flags=re.S)
        assert [text for text in paragraphs if re.search(r"(^|\n)(- |\|)", text)] == [], page


def test_the_reference_has_every_command_option_and_field(site: Path) -> None:
    typed = (site / "reference/commands.html").read_text()
    for name, command in commands.commands():
        assert f">{name}<" in typed
        for parameter in command.params:
            assert all(option in typed for option in parameter.opts if option.startswith("--")), name
    fields = (site / "reference/config.html").read_text()
    for name, _, meaning in config.describe(config.Config()):
        assert f"<code>{name.partition('.')[2]}</code>" in fields, name
        assert meaning
    for kind in ("second_order", "span", "perceptual", "unet"):
        assert f"kind {kind}" in fields or f"family {kind}" in fields, kind


def test_no_line_of_prose_is_longer_than_100_characters() -> None:
    for page in DOCS.glob("*.md"):
        if page.stem not in NOT_REWRITTEN:
            long = [
                (number, line)
                for number, line in pages.prose(page.read_text())
                if len(line) > 100 and not line.startswith("|") and "](" not in line
            ]
            assert long == [], page.name


def test_a_link_to_an_anchor_that_is_not_there_fails_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "reference", lambda: "# Commands\n\n[no](config.md#nowhere)\n")
    with pytest.raises(BuildError, match="nowhere"):
        build(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_link_to_no_file_is_told_by_page_and_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    monkeypatch.setattr(pages, "DOCS", tmp_path / "docs")
    (tmp_path / "docs").mkdir()
    (tmp_path / "a.yaml").write_text("x: 1\n")
    page = tmp_path / "docs/one.md"
    page.write_text(
        "# One\n\n[a](../a.yaml#x) [b](../docs) [c](https://there) `[d](no)`\n```\n[e](no)\n```\n"
    )
    pages.lay_out(tmp_path / "pages")
    laid_out = (tmp_path / "pages/one.md").read_text().splitlines()
    assert laid_out[2] == "[a](repository/a.yaml.md#x) b [c](https://there) `[d](no)`"
    assert "x: 1" in (tmp_path / "pages/repository/a.yaml.md").read_text()
    page.write_text("# One\n\n[two](two.md)\n")
    with pytest.raises(BrokenLinkError, match=r"docs/one\.md:3: two\.md leads to no file"):
        pages.lay_out(tmp_path / "again")


def test_only_an_earlier_site_is_replaced(tmp_path: Path, site: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(BuildError, match="not empty"):
        build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]
    assert (site / MARK).exists()


def test_the_command_refuses_other_folders_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    for out, code in ((tmp_path, 1), (tmp_path / "photo.jpg", 1), ("--no-such-option", 2)):
        done = CliRunner().invoke(main, [str(out)])
        assert done.exit_code == code
        assert "Traceback" not in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_the_picture_of_the_degradations_shows_a_different_panel_for_each(
    photos: dict[str, np.ndarray],
) -> None:
    sheet = np.asarray(pictures.sheet(photos["coffee"]))
    row, column = pictures.SIDE + 28, pictures.SIDE + 8
    panels = {
        sheet[y + 4 : y + 4 + pictures.SIDE, x + 4 : x + 4 + pictures.SIDE].tobytes()
        for y in range(0, 3 * row, row)
        for x in range(0, 3 * column, column)
    }
    assert len(panels) == 1 + len(pictures.KINDS)
