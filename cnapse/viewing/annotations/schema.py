"""What an annotation layer holds, and the record that one annotation is stored as.

After the specification of precomputed annotations (neuroglancer,
``src/datasource/precomputed/annotations.md``: "info JSON file format" and "Single annotation
encoding"): geometry as float32, then the properties from wide to narrow, then padding to four
bytes. neuroglancer 2.41's Python classes align uint32 to three bytes, and so write and read other
bytes than the viewer; here the specification holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from cnapse.errors import TableError

__all__ = ["AnnotationSchema", "Kind", "Property", "PropertyType"]

Kind = Literal["LINE", "POINT"]
PropertyType = Literal[
    "uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "rgb", "rgba"
]

RANK = 3
_ALIGNMENT = 4
# The viewer keeps what it draws of an annotation in a stride of at most 255 bytes.
_MOST_BYTES = 252
_NAME = re.compile(r"[a-z][a-zA-Z0-9_]*")
_COLOURS = {"rgb": 3, "rgba": 4}


@dataclass(frozen=True, slots=True)
class Property:
    """One property of every annotation, which shaders and the viewer's list see.

    Attributes
    ----------
    name : str
        Begins with a small letter; letters, digits and ``_``.
    type : str
        How it is stored.
    description : str
        What the viewer shows beside it.
    enum : mapping
        Values with a label of their own, for the numeric types.
    """

    name: str
    type: PropertyType
    description: str = ""
    enum: Mapping[int | float, str] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """Numbers a value: 3 or 4 for a colour, else 1."""
        return _COLOURS.get(self.type, 1)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of one number."""
        name = "uint8" if self.type in _COLOURS else self.type
        return np.dtype(name).newbyteorder("<")

    def as_json(self) -> dict[str, Any]:
        """As it stands in the ``info``."""
        result: dict[str, Any] = {"id": self.name, "type": self.type}
        if self.description:
            result["description"] = self.description
        if self.enum:
            result["enum_values"] = list(self.enum)
            result["enum_labels"] = [self.enum[value] for value in self.enum]
        return result

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Property:
        """Back from `as_json`."""
        enum = dict(zip(value.get("enum_values", ()), value.get("enum_labels", ()), strict=True))
        return cls(value["id"], value["type"], value.get("description", ""), enum)


@dataclass(frozen=True, slots=True)
class AnnotationSchema:
    """What the annotations of a layer are.

    Attributes
    ----------
    kind : {"LINE", "POINT"}
    properties : tuple of Property
        In the order in which the viewer lists them; those of the same width keep it.
    relationships : tuple of str
        Names of the lists of segments, as the viewer shows them.
    unit_nm : tuple of float
        Nanometres of a stored unit, x, y, z: 1, or the size of a voxel. Positions are stored as
        float32: beyond 2^24 units they are rounded to more than one unit.

    Raises
    ------
    TableError
        If a name is not one the format allows, or used twice; if an annotation takes more bytes
        than the viewer can draw.
    """

    kind: Kind
    properties: tuple[Property, ...] = ()
    relationships: tuple[str, ...] = ()
    unit_nm: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        """Check what is known without data."""
        if self.kind not in {"LINE", "POINT"}:
            raise TableError(f"annotation kind {self.kind!r}: there are LINE and POINT")
        if not all(np.isfinite(v) and v > 0 for v in self.unit_nm):
            raise TableError(f"unit_nm {self.unit_nm}: give three sizes above 0, in nm")
        for item in self.properties:
            _check_property(item)
        _check_unique("property", [item.name for item in self.properties])
        _check_unique("relationship", [folder_name(name) for name in self.relationships])
        if self.record_bytes > _MOST_BYTES:
            raise TableError(
                f"an annotation would take {self.record_bytes} bytes, and the viewer draws at "
                f"most {_MOST_BYTES}: leave properties out"
            )

    @property
    def ends(self) -> int:
        """Positions an annotation has."""
        return 2 if self.kind == "LINE" else 1

    @property
    def stored_properties(self) -> tuple[Property, ...]:
        """The properties in the order of their bytes: from wide to narrow.

        uint32 goes first of its width, so that neuroglancer 2.41's own reader, which aligns it to
        three bytes, reads a layer with one of them.
        """
        return tuple(sorted(self.properties, key=lambda p: (-p.dtype.itemsize, p.type != "uint32")))

    @property
    def record_dtype(self) -> np.dtype[Any]:
        """The stored bytes of an annotation without its segments, as a packed record."""
        fields: list[Any] = [("geometry", "<f4", (self.ends * RANK,))]
        fields += [
            (p.name, p.dtype, (p.channels,)) if p.channels > 1 else (p.name, p.dtype)
            for p in self.stored_properties
        ]
        size = np.dtype(fields).itemsize
        if size % _ALIGNMENT:
            # No property can have this name.
            fields.append(("_padding", "|u1", (_ALIGNMENT - size % _ALIGNMENT,)))
        return np.dtype(fields)

    @property
    def record_bytes(self) -> int:
        """Bytes of an annotation without its id and segments; a multiple of four."""
        return self.record_dtype.itemsize

    def as_json(self) -> dict[str, Any]:
        """As a plan keeps it."""
        return {
            "kind": self.kind,
            "properties": [item.as_json() for item in self.properties],
            "relationships": list(self.relationships),
            "unit_nm": list(self.unit_nm),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> AnnotationSchema:
        """Back from `as_json`."""
        x, y, z = value["unit_nm"]
        return cls(
            value["kind"],
            tuple(Property.from_json(item) for item in value["properties"]),
            tuple(value["relationships"]),
            (x, y, z),
        )


def folder_name(relationship: str) -> str:
    """The folder of the index of a relationship: letters and digits of its name."""
    return "rel_" + re.sub(r"[^a-zA-Z0-9]+", "_", relationship).strip("_").lower()


def _check_property(item: Property) -> None:
    if not _NAME.fullmatch(item.name):
        raise TableError(
            f"property {item.name!r}: a name begins with a small letter and has letters, digits "
            "and _ only"
        )
    if item.enum and item.type in _COLOURS:
        raise TableError(f"property {item.name!r}: a colour has no labels")


def _check_unique(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise TableError(f"{what} {name!r} is there twice: give each a name of its own")
