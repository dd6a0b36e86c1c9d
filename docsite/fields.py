"""The reference of every file that a user writes: a run's config, a recipe, a sweep; made of their sections."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from docsite.commands import cell
from srdist.config import Config
from srdist.shards.recipe import Recipe
from srdist.sweeps.sweepfile import SweepSection

Schema = dict[str, Any]


def reference(title: str, opening: str, model: type[BaseModel]) -> str:
    """A page with a table of fields for the model and for each section that stands in it."""
    schema = model.model_json_schema()
    sections = {name: part for name, part in schema.get("$defs", {}).items() if "properties" in part}
    parts = [f"# {title}", opening]
    if model is not Config:
        parts.append(_table(schema, sections))
    places: dict[str, str] = {}
    _find(schema, "", sections, places)
    for name, place in places.items():
        section = sections[name]
        parts += [f"## {_heading(place, section)} {{#{name}}}", section.get("description", "")]
        if section["properties"]:
            parts.append(_table(section, sections))
    return "\n\n".join(parts) + "\n"


def pages() -> dict[str, str]:
    """The pages by the names of their files."""
    made = "This page is made of the code, each time the site is built."
    return {
        "config.md": reference(
            "Config",
            f"{made}\n\nA run's config has the sections [`data`](#DataConfig), `model`, [`train`](#TrainConfig) and"
            " [`log`](#LogConfig). The section `model` is one of the families of networks: `family` says which.\n\n"
            "`srdist config show FILE` prints a config with every field. `--set SECTION.FIELD=VALUE` overrides one.",
            Config,
        ),
        "recipe.md": reference(
            "Recipe", f"{made}\n\nA recipe says how `srdist pack` makes a set of shards.", Recipe
        ),
        "sweep.md": reference(
            "Sweep file",
            f"{made}\n\nA sweep file says which runs `srdist sweep` trains: [Sweeps](../sweeps.md).",
            SweepSection,
        ),
    }


def _find(part: Any, place: str, sections: dict[str, Schema], places: dict[str, str]) -> None:
    """Add each section below a part of the schema to `places`, with the path of the field where it first stands."""
    if isinstance(part, list):
        for one in part:
            _find(one, place, sections, places)
    elif isinstance(part, dict):
        name = str(part.get("$ref", "")).rpartition("/")[2]
        if name in sections and name not in places:
            places[name] = place
            part = sections[name]
        for field, schema in part.get("properties", {}).items():
            _find(schema, f"{place}.{field}".removeprefix("."), sections, places)
        for key in ("anyOf", "oneOf", "items", "prefixItems", "additionalProperties"):
            _find(part.get(key), place, sections, places)


def _heading(place: str, section: Schema) -> str:
    """The path of the field, and `kind jpeg` for a member of a union."""
    for field, schema in section["properties"].items():
        if "const" in schema:
            return f"{place}: {field} {schema['const']}"
    return place


def _table(section: Schema, sections: dict[str, Schema]) -> str:
    required = section.get("required", [])
    rows = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for name, field in section["properties"].items():
        default = "must be given" if name in required else _default(field.get("default"))
        rows.append(
            f"| `{name}` | {cell(_type(field, sections))} | {cell(default)} | {cell(field.get('description', ''))} |"
        )
    return "\n".join(rows)


def _default(value: Any) -> str:
    text = json.dumps(value)
    return f"`{text}`" if len(text) <= 60 else "see its fields"


def _type(schema: Schema, sections: dict[str, Schema]) -> str:
    """What a field takes, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name})" if name in sections else "any value"
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(_type(one, sections) for one in schema[several]))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema.get("enum", [schema.get("const")]))
    if "prefixItems" in schema:
        return "[" + ", ".join(_type(one, sections) for one in schema["prefixItems"]) + "]"
    match schema.get("type"):
        case "array":
            return f"list of: {_type(schema.get('items', {}), sections)}"
        case "object":
            of = schema.get("additionalProperties")
            return f"names, each with: {_type(of if isinstance(of, dict) else {}, sections)}"
        case None:
            return "any value"
        case kind:
            words = {"integer": "whole number", "string": "text"}.get(kind, str(kind))
            return " ".join([words, *_bounds(schema)])


def _bounds(schema: Schema) -> list[str]:
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    return [f"{word} {schema[key]}" for key, word in words.items() if key in schema]
