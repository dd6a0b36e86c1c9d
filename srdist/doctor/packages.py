"""What is installed: what srdist requires, and its optional parts (extras), by the metadata that pip goes by.

A package counts as there when it also loads: one built for another torch or Python is installed, and of no use.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings
from dataclasses import dataclass
from typing import Self

from packaging.requirements import Requirement

FOR_DEVELOPERS = "dev"
_IMPORTED_AS = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pyvips-binary": "_libvips",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
}
"""Names of modules that are not those of their packages."""


@dataclass(frozen=True, slots=True)
class Package:
    """A package that srdist or one of its extras requires."""

    name: str
    wanted: str
    """Versions, as in ">=2.0"."""
    version: str | None
    """That is installed; None: none is."""
    problem: str | None
    """Why it is of no use; None: it is in order."""


@dataclass(frozen=True, slots=True)
class Extra:
    """An optional part of srdist."""

    name: str
    packages: tuple[Package, ...]

    @property
    def missing(self) -> tuple[Package, ...]:
        """The packages without which it does not work."""
        return tuple(package for package in self.packages if package.problem)

    @property
    def install(self) -> str:
        """The line that installs it."""
        return f"pip install 'srdist[{self.name}]'"


@dataclass(frozen=True, slots=True)
class Requirements:
    """What srdist requires, as its metadata have it."""

    lines: tuple[str, ...]
    """As in `onnx>=1.17; extra == "onnx"`."""
    extras: tuple[str, ...]

    @classmethod
    def installed(cls) -> Self | None:
        """Of the srdist that is installed; None: none is, it is only on the path."""
        try:
            metadata = importlib.metadata.metadata("srdist")
        except importlib.metadata.PackageNotFoundError:
            return None
        return cls(
            tuple(metadata.get_all("Requires-Dist") or ()), tuple(metadata.get_all("Provides-Extra") or ())
        )

    def always(self) -> tuple[Package, ...]:
        """The packages without which srdist does not work."""
        return tuple(examine(wanted) for wanted in map(Requirement, self.lines) if _holds(wanted, ""))

    def optional(self) -> tuple[Extra, ...]:
        """The optional parts, sorted by name; what developers of srdist need is left out."""
        wanted = [one for one in map(Requirement, self.lines) if not _holds(one, "")]
        return tuple(
            Extra(name, tuple(examine(one) for one in wanted if _holds(one, name)))
            for name in sorted(self.extras)
            if name != FOR_DEVELOPERS
        )


def examine(wanted: Requirement) -> Package:
    """Whether a package is installed, of a version that will do, and loads."""
    try:
        version: str | None = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        version = None
    if version is None:
        problem: str | None = "is not installed"
    elif not wanted.specifier.contains(version, prereleases=True):
        problem = f"is {version}, expected {wanted.specifier}"
    else:
        problem = _why_it_does_not_load(_IMPORTED_AS.get(wanted.name.lower(), wanted.name.replace("-", "_")))
    return Package(wanted.name, str(wanted.specifier), version, problem)


def _why_it_does_not_load(module: str) -> str | None:
    try:
        with warnings.catch_warnings(action="ignore"):
            importlib.import_module(module)
    except Exception as error:  # whatever a broken package raises is the finding
        said = " ".join(str(error).split())
        return f"does not load: {type(error).__name__}: {said}"
    return None


def _holds(wanted: Requirement, extra: str) -> bool:
    """Whether a requirement counts with this extra, on this system and Python; "": without any extra."""
    return wanted.marker is None or wanted.marker.evaluate({"extra": extra})
