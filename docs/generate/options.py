"""The page of all options of ``cnapse.toml``, from the records that read it.

Types, ranges and defaults come from pydantic, the meaning from the docstring below each field of
`cnapse.config`. So the page cannot say what the code does not.
"""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from cnapse import config
from cnapse.partners.parameters import PRESETS

__all__ = ["Option", "Section", "page", "sections"]

Json = Mapping[str, Any]

_UNITS = {
    "resolution": "nm",
    "block": "voxels",
    "shape": "voxels",
    "start": "voxels",
    "stop": "voxels",
    "tile": "pixels",
    "lease_seconds": "s",
    "mip": "halvings",
    "near_cut_sigmas": "standard errors",
}
_ENDINGS = {"_nm": "nm", "_vx": "voxels", "_voxels": "voxels"}
_COUNTS = {2: "two", 3: "three"}
_TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
}

_HEAD = """\
# All options of `cnapse.toml`

Every key that a `cnapse.toml` may have, by section. [The configuration page](../configuration.md)
has a commented file to start from, and says more about masks, blocks, classes and precision.

This page is made from the code that reads the file, so it is complete. Keys that are not listed are
refused, with the nearest name. Three kinds of keys have no default of their own: **required** ones,
ones that are *not used* unless they are given, and parameters of `[assign]` that the preset sets.
"""


@dataclass(frozen=True, slots=True)
class Option:
    """One key: how it is written, and what it means."""

    name: str
    type: str
    unit: str
    default: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Section:
    """One table of the file; the first is the file's top level."""

    name: str
    meaning: str
    options: tuple[Option, ...]


def sections() -> list[Section]:
    """The sections of ``cnapse.toml`` in the order of the record."""
    schema = config.Config.model_json_schema()
    parts = schema["$defs"]
    own = {
        name: field
        for name, field in schema["properties"].items()
        if (part := _part_of(field)) is None or part == "LayerSection"
    }
    required = set(schema["required"])
    top = "At the top of the file, before the first section."
    found = [Section("", top, tuple(_options(config.Config, own, required)))]
    for name, field in schema["properties"].items():
        part = _part_of(field)
        if part is not None:
            found.append(_section(name, parts[part]))
    where = next(i for i, section in enumerate(found) if section.name == "layers")
    layer = _section("layers.NAME", parts["LayerSection"])
    meaning = (
        "Each layer is its path, or a table of these keys: "
        '`cells = { path = "cells", fill_missing = true }`.'
    )
    found.insert(where + 1, Section(layer.name, meaning, layer.options))
    return found


def page() -> str:
    """The page, as Markdown."""
    return _HEAD + "".join(_written(section) for section in sections())


def _written(section: Section) -> str:
    title = f"`[{section.name}]`" if section.name else "Top level"
    lines = [f"\n## {title}\n", f"{section.meaning}\n"]
    for option in section.options:
        anchor = f"{section.name}.{option.name}".lstrip(".").replace(".", "-")
        unit = f", in {option.unit}" if option.unit else ""
        lines += [
            f"### `{option.name}` {{ #{anchor} }}\n",
            f"{option.meaning}\n",
            f"*{option.type}{unit}* · {option.default}\n",
        ]
    return "\n".join(lines)


def _section(name: str, schema: Json) -> Section:
    model = getattr(config, schema["title"])
    fields, required = schema.get("properties", {}), set(schema.get("required", ()))
    return Section(name, _first(schema["description"]), tuple(_options(model, fields, required)))


def _options(
    model: type[BaseModel], fields: Mapping[str, Json], required: set[str]
) -> Iterator[Option]:
    meanings = field_docstrings(config, model.__name__)
    for name, field in fields.items():
        default = _default(field, is_required=name in required)
        if model is config.AssignSection and field.get("default") is None:
            default = _preset_default(name)
        yield Option(name, _type(field), _unit(name), default, meanings.get(name, ""))


def field_docstrings(module: ModuleType, name: str) -> dict[str, str]:
    """The docstrings below the fields of a class.

    Parameters
    ----------
    module : module
        Where the class is defined.
    name : str
        The class.
    """
    (found,) = [
        node
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.ClassDef) and node.name == name
    ]
    docs: dict[str, str] = {}
    waiting: list[str] = []
    for node in found.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            waiting.append(node.target.id)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and waiting:
            docs[waiting[-1]] = _markdown(str(node.value.value))
    return docs


def _markdown(text: str) -> str:
    """A docstring's text as Markdown, in one line."""
    return " ".join(text.split()).replace("``", "`")


def _first(text: str) -> str:
    return _markdown(text.split("\n\n", maxsplit=1)[0])


def _part_of(field: Json) -> str | None:
    """The section that a field holds, by the name of its class."""
    for given in (field, *field.get("anyOf", ())):
        if "$ref" in given:
            return str(given["$ref"]).rpartition("/")[2]
    return None


def _unit(name: str) -> str:
    if name in _UNITS:
        return _UNITS[name]
    return next((unit for ending, unit in _ENDINGS.items() if name.endswith(ending)), "")


def _type(field: Json) -> str:
    if "anyOf" in field:
        return " or ".join(_type(part) for part in field["anyOf"] if part.get("type") != "null")
    if "$ref" in field:
        return "path or table"
    if "enum" in field:
        return " or ".join(_value(value) for value in field["enum"])
    if field["type"] == "array":
        parts = field.get("prefixItems")
        if parts is None:
            return f"list of {_type(field['items'])}"
        inner = _type(parts[0])
        each = inner.replace(" at least", "s, each at least").replace(" above", "s, each above")
        return f"{_COUNTS[len(parts)]} {each if each != inner else f'{inner}s'}"
    return _TYPES[field["type"]] + _range(field)


def _range(field: Json) -> str:
    """Bounds of a number in words."""
    low, high = field.get("minimum"), field.get("maximum")
    words = []
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    if low is not None:
        words.append(f"at least {low:g}")
    if "exclusiveMinimum" in field:
        words.append(f"above {field['exclusiveMinimum']:g}")
    if high is not None:
        words.append(f"at most {high:g}")
    if "exclusiveMaximum" in field:
        words.append(f"below {field['exclusiveMaximum']:g}")
    return f" {' and '.join(words)}" if words else ""


def _default(field: Json, *, is_required: bool) -> str:
    if is_required:
        return "**required**"
    value = field.get("default")
    if value is None or value == "":
        return "not used unless given"
    return f"default {_value(value)}"


def _preset_default(name: str) -> str:
    """What the published sets have for a parameter."""
    own = {preset: getattr(made(), name, None) for preset, made in PRESETS.items()}
    if name in ("block",) or all(value is None for value in own.values()):
        return "not used unless given"
    if len(set(own.values())) == 1:
        return f"default {_value(next(iter(own.values())))}"
    return "default " + ", ".join(f"{_value(v)} with preset `{p}`" for p, v in own.items())


def _value(value: object) -> str:
    return f"`{json.dumps(value)}`"
