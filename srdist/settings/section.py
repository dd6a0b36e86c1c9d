"""What every section of a config has in common: it is frozen and strict, and its errors name the field."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

LONGEST_VALUE = 80
"""Characters of a wrong value that a message shows."""


class Section(BaseModel):
    """A frozen section: unknown fields are errors, attribute docstrings are the fields' descriptions."""

    # strict: `steps: true` and `steps: "3"` are wrong types, not 1 and 3.
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def problems(error: ValidationError, kind: Any) -> Iterator[str]:
    """Each wrong field in a line: its name, what was found, what was expected.

    Args:
        kind: what was read: a model (a section, a recipe, a manifest), or a union of sections told apart by one field.
    """
    for problem in error.errors():
        names, fields = _place(problem["loc"], kind)
        place, value = ".".join(names), problem["input"]
        shown = _short(value)
        match problem["type"]:
            case "extra_forbidden":
                yield f"{place}: no such field (found {shown}){_nearest(names[-1], fields)}"
            case "value_error":
                message = problem["msg"].removeprefix("Value error, ")
                yield f"{place}: {message}" if place else message
            case "too_short" if len(value) >= problem["ctx"]["min_length"]:
                continue  # its wrong members are told already
            case "union_tag_not_found":
                yield f"{place}: found {shown}, expected a field {problem['ctx']['discriminator']}"
            case "union_tag_invalid":
                union = problem["ctx"]
                tags = [tag.strip("' ") for tag in union["expected_tags"].split(",")]
                place = ".".join([*names, union["discriminator"].strip("'")])
                yield f"{place}: found {union['tag']!r}{_nearest(union['tag'], tags, called='values')}"
            case _:
                wrong = f"found {shown}, expected: {problem['msg'].removeprefix('Input should be ')}"
                yield f"{place}: {wrong}" if place else wrong


def _place(location: tuple[int | str, ...], kind: Any) -> tuple[list[str], list[str]]:
    """The names of the fields on the way to a wrong value, and the fields of the section that it stands in."""
    sections, names = _sections(kind), []
    fields = list(sections[0].model_fields) if len(sections) == 1 else []
    for part in location:
        if isinstance(part, int):  # the place in a list
            names.append(str(part))
        elif len(sections) > 1:
            # pydantic names the union's member by its tag, which is no part of the field's name.
            sections = [one for one in sections if any(part in get_args(f.annotation) for f in _tags(one))]
            fields = list(sections[0].model_fields) if sections else []
        elif not part.startswith("function-"):
            names.append(part)
            of_section = sections[0].model_fields if sections else {}
            sections = _sections(of_section[part].annotation) if part in of_section else []
            if len(sections) == 1:
                fields = list(sections[0].model_fields)
    return names, fields


def _sections(kind: Any) -> list[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [section for part in get_args(kind) for section in _sections(part)]


def _tags(section: type[BaseModel]) -> list[FieldInfo]:
    """The fields that tell sections apart: of one possible value. Other choices may have values of the same names."""
    literals = [field for field in section.model_fields.values() if get_origin(field.annotation) is Literal]
    return [field for field in literals if len(get_args(field.annotation)) == 1]


def _nearest(name: str, names: Sequence[str], *, called: str = "fields") -> str:
    close = get_close_matches(name, names, n=1)
    return f", did you mean {close[0]}?" if close else f", the {called} are: {', '.join(names)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."
