"""A network of somebody else's class, made of arguments from a config: checked against the class's signature first."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import JsonValue, PydanticUserError, TypeAdapter, ValidationError
from torch import nn

from srdist.machine.errors import UserError
from srdist.networks.architectures import Architecture

_CHANNELS = ("num_in_ch", "num_out_ch")
"""Arguments without a default that RGB decides."""
_UNSHUFFLED = ("start_unshuffle", "shuffle_factor")
"""Arguments that make the image smaller first, by which the factor of the rest is larger."""


def complete(architecture: Architecture, *, scale: int, given: Mapping[str, JsonValue]) -> dict[str, Any]:
    """The arguments that make `architecture` upscale RGB by `scale`: those given, the scale, the channels.

    Raises:
        UserError: an argument that the class does not have, of a wrong type, or missing; or no class for the scale.
    """
    make = architecture.make(scale)
    parameters = _parameters(make)
    for name in given:
        if name == architecture.scale_argument:
            raise UserError(f"model.arguments.{name}: the scale is told by model.scale alone")
        if name not in parameters:
            close = get_close_matches(name, parameters, n=1)
            accepted = ", ".join(other for other in parameters if other != architecture.scale_argument)
            hint = (
                f"did you mean {close[0]}?"
                if close
                else f"the arguments of {architecture.name} are: {accepted}"
            )
            raise UserError(f"model.arguments.{name}: no such argument (found {given[name]!r}), {hint}")
    arguments = {name: _checked(parameters[name], value) for name, value in given.items()}
    for name, parameter in parameters.items():
        if name not in arguments and name != architecture.scale_argument:
            if name in _CHANNELS:
                arguments[name] = 3
            elif parameter.default is parameter.empty:
                raise UserError(
                    f"model.arguments.{name}: missing, and {architecture.name} has no default for it"
                )
    if architecture.scale_argument is not None:
        arguments[architecture.scale_argument] = scale * _unshuffled(arguments)
    return arguments


def wrong_number(make: type[nn.Module], given: Mapping[str, JsonValue]) -> str | None:
    """Which argument is a fraction where its default is a whole number, if one is: where building fails, the likely reason."""
    for name, parameter in _parameters(make).items():
        value = given.get(name)
        if isinstance(value, float) and type(parameter.default) is int:
            return f"model.arguments.{name}: found {value!r}, expected a whole number (its default is {parameter.default})"
    return None


def _unshuffled(arguments: Mapping[str, Any]) -> int:
    return next((arguments[name] for name in _UNSHUFFLED if arguments.get(name)), 1)


def _parameters(make: type[nn.Module]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(make, eval_str=True).parameters
    except NameError:  # an annotation that only type checkers can follow
        return inspect.signature(make).parameters


def _checked(parameter: inspect.Parameter, value: JsonValue) -> Any:
    """`value` as the class takes it: a list from a config may have to be a tuple."""
    default, name = parameter.default, parameter.name
    if default is not parameter.empty and callable(default):
        raise UserError(
            f"model.arguments.{name}: takes Python code, which a config cannot give; leave it out"
        )
    try:
        # As JSON: so a list is a tuple too where one is expected, and 1 a float, but true is no number.
        return TypeAdapter(_expected(parameter)).validate_json(json.dumps(value), strict=True)
    except PydanticUserError:  # an annotation that is no type of values
        return value
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(
            ["model.arguments", name, *(str(part) for part in problem["loc"] if isinstance(part, int))]
        )
        expected = problem["msg"].removeprefix("Input should be ")
        example = "" if default is parameter.empty else f" (its default is {_as_config(default)})"
        raise UserError(f"{place}: found {problem['input']!r}, expected: {expected}{example}") from error


def _expected(parameter: inspect.Parameter) -> Any:
    """The type of an argument: as it is annotated, else as its default is."""
    if parameter.annotation is not parameter.empty and not isinstance(parameter.annotation, str):
        return parameter.annotation
    default = parameter.default
    match default:
        case bool() | str():
            return type(default)
        case int() | float():
            return float | int if isinstance(default, float) else int | float
        case list() | tuple() if default and not isinstance(default[0], list | tuple):
            kind = type(default[0])
            return list[kind] if isinstance(default, list) else tuple[kind, ...]  # type: ignore[valid-type]
        case _:
            return JsonValue


def _as_config(default: Any) -> str:
    return json.dumps(default) if not isinstance(default, tuple) else json.dumps(list(default))
