"""Shapes in signatures, checked at each call under pytest: for jaxtyping's import hook (tests/__init__.py), by beartype."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray

ROOT = Path(__file__).parents[1]


def modules() -> list[str]:
    """The modules of srdist that state shapes. Not all: to wrap every function takes seconds at each start."""
    paths = [path for path in (ROOT / "srdist").rglob("*.py") if "jaxtyping" in path.read_text()]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function under beartype where its signature has shapes, and those alone: mypy answers for what else it says."""
    shapes = {name: hint for name, hint in function.__annotations__.items() if _has_shape(hint)}
    if not shapes:
        return function
    function.__annotations__ = shapes  # of jaxtyping's stand-in, which has the signature only
    return beartype(function)


def _has_shape(hint: object) -> bool:
    return (isinstance(hint, type) and issubclass(hint, AbstractArray)) or any(
        map(_has_shape, get_args(hint))
    )
