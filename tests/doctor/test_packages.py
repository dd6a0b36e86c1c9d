"""What the doctor says of packages: those that are there, are missing, are too old or do not load."""

from __future__ import annotations

import sys
import tomllib

import pytest
from packaging.requirements import Requirement

from srdist.doctor.packages import Requirements, examine
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements() -> Requirements:
    """As pip writes them into the metadata of what it installs."""
    optional = [
        f'{line}; extra == "{extra}"'
        for extra, lines in PROJECT["optional-dependencies"].items()
        for line in lines
    ]
    return Requirements((*PROJECT["dependencies"], *optional), tuple(PROJECT["optional-dependencies"]))


def test_all_that_srdist_requires_is_in_order_and_the_developers_extra_is_not_told() -> None:
    wanted = requirements()
    assert [(one.name, one.problem) for one in wanted.always() if one.problem] == []
    assert len(wanted.always()) == len(PROJECT["dependencies"])
    assert [extra.name for extra in wanted.optional()] == sorted(
        set(PROJECT["optional-dependencies"]) - {"dev"}
    )


def test_an_extra_says_what_it_lacks_and_the_line_that_installs_it() -> None:
    (extra,) = Requirements(('no-such-package>=1; extra == "sweep"',), ("sweep", "dev")).optional()
    assert [(one.name, one.problem) for one in extra.missing] == [("no-such-package", "is not installed")]
    assert extra.install == "pip install 'srdist[sweep]'"


def test_a_package_that_is_too_old_or_does_not_load_is_of_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    too_old = examine(Requirement("click>=1000"))
    assert too_old.problem == f"is {too_old.version}, expected >=1000"
    monkeypatch.setitem(sys.modules, "skimage", None)
    broken = examine(Requirement("scikit-image>=0.1"))
    assert broken.version is not None
    assert broken.problem is not None
    assert broken.problem.startswith("does not load: ModuleNotFoundError: ")


def test_a_requirement_of_another_system_is_left_out() -> None:
    wanted = Requirements(('no-such-package; sys_platform == "win32"',), ())
    assert wanted.always() == ()
