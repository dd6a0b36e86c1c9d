"""What the pages show to be typed is what the commands take."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import yaml

from docsite.pages import ROOT
from srdist import config
from srdist.machine.errors import UserError
from tests.typed import check, commands_of

PAGES = [ROOT / "README.md", ROOT / "launch/README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_is_one(page: Path) -> None:
    for typed in commands_of(page.read_text()):
        try:
            check(typed)
        except Exception as error:
            error.add_note(f"{page.name}: {typed}")
            raise


@pytest.mark.parametrize(
    "typed",
    [
        "srdist upscal a b",
        "srdist upscale a",
        "srdist upscale a b c",
        "srdist upscale a b --wieghts x",
        "srdist upscale a b --precision fp8",
        "srdist upscale a b --quality 101",
        "make shrads",
        "python -m benchmarks.nothing",
        "accelerate launch srdist/train.py --config configs/demo_x2.yaml --set train.stepps=3",
        "srdist config show configs/demo_x2.yaml --set train.steps=0",
    ],
)
def test_a_command_that_would_be_refused_is_found(typed: str) -> None:
    with pytest.raises((AssertionError, UserError, click.ClickException)):
        check(typed)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_config_on_a_page_is_one(page: Path) -> None:
    for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), flags=re.S | re.M):
        values = yaml.safe_load(block)
        if isinstance(values, dict) and values.keys() <= config.Config.model_fields.keys():
            config.parse(values, source=page.name)


def test_the_config_of_train_your_own_is_found() -> None:
    assert "\n```yaml\ndata:\n" in (ROOT / "docs/train.md").read_text()


def test_commands_are_found_in_blocks_with_their_environment_and_their_second_lines() -> None:
    page = "srdist no\n\n```bash\nOMP_NUM_THREADS=1 srdist upscale a b   # why\nsrdist evaluate \\\n  --hr x\nls\n```\n"
    assert list(commands_of(page)) == ["OMP_NUM_THREADS=1 srdist upscale a b", "srdist evaluate --hr x"]
