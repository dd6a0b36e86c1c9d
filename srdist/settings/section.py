"""What every section of a config has in common: it is frozen and strict, and its errors name the field."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from pydantic import BaseModel, ConfigDict, ValidationError


class Section(BaseModel):
    """A frozen section: unknown fields are errors, attribute docstrings are the fields' descriptions."""

    # strict: `steps: true` and `steps: "3"` are wrong types, not 1 and 3.
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def problems(error: ValidationError, model: type[Section]) -> Iterator[str]:
    """Each wrong field of a config in a line: its name, what was found, what was expected."""
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"] if part != "function-before[_precision_name()]")
        found = problem["input"]
        match problem["type"]:
            case "extra_forbidden":
                yield f"{place}: no such field (found {found!r}){_nearest(problem['loc'], model)}"
            case "value_error":
                message = problem["msg"].removeprefix("Value error, ")
                yield f"{place}: {message}" if place else message
            case _:
                yield f"{place}: found {found!r}, expected: {problem['msg'].removeprefix('Input should be ')}"


def _nearest(location: tuple[int | str, ...], model: type[Section]) -> str:
    names = list(model.model_fields)
    if len(location) > 1:
        section = model.model_fields[str(location[0])].annotation
        assert isinstance(section, type)
        assert issubclass(section, Section)
        names = list(section.model_fields)
    close = get_close_matches(str(location[-1]), names, n=1)
    return f", did you mean {close[0]}?" if close else f", the fields are: {', '.join(names)}"
