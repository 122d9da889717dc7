"""Annotations as arrays: the columns of a table, or of one part of it, checked and encoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.errors import TableError
from cnapse.viewing.annotations.schema import RANK, AnnotationSchema, Property

__all__ = ["AnnotationTable", "Related"]

Ids = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint32]
Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Related:
    """The segments that annotations are related to in one relationship.

    Attributes
    ----------
    values : ndarray of uint64
        One a row; with `offsets`, those of all rows one after the other. 0 is no segment and is
        left out; what is there twice for a row counts once.
    offsets : ndarray of int64, shape (rows + 1,), or None
        Row i has ``values[offsets[i]:offsets[i + 1]]``.
    """

    values: Ids
    offsets: Int64s | None = None

    def rows(self, start: int, stop: int) -> Related:
        """Those of some rows."""
        if self.offsets is None:
            return Related(self.values[start:stop])
        offsets = self.offsets[start : stop + 1]
        return Related(self.values[offsets[0] : offsets[-1]], offsets - offsets[0])


@dataclass(frozen=True, slots=True, eq=False)
class AnnotationTable:
    """Annotations: a whole table, or one part of its rows.

    Attributes
    ----------
    ids : ndarray of uint64, shape (n,)
        Each once in the whole table.
    points : ndarray of float, shape (n, 3) for points, (n, 2, 3) for lines
        Positions in nm, x, y, z; of a line both ends.
    properties : mapping of str to ndarray
        Shape (n,); (n, 3) for rgb, (n, 4) for rgba. Values that the property's type can hold.
    relationships : mapping of str to Related
        A plain array of uint64 stands for one segment a row.
    """

    ids: Ids
    points: Floats
    properties: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    relationships: Mapping[str, Related | Ids] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, start: int, stop: int) -> AnnotationTable:
        """A part: the rows from `start` up to `stop`."""
        return AnnotationTable(
            self.ids[start:stop],
            self.points[start:stop],
            {name: values[start:stop] for name, values in self.properties.items()},
            {
                name: as_related(values).rows(start, stop)
                for name, values in self.relationships.items()
            },
        )


def as_related(values: Related | Ids) -> Related:
    """A plain array as one segment a row."""
    return values if isinstance(values, Related) else Related(np.asarray(values))


def check_table(schema: AnnotationSchema, table: AnnotationTable) -> None:
    """Check that a table's columns are those of the schema, and their shapes.

    Raises
    ------
    TableError
        If not.
    """
    n = len(table)
    _check_integers("ids", table.ids, (n,))
    shape = (n, 2, RANK) if schema.kind == "LINE" else (n, RANK)
    if table.points.shape != shape:
        raise TableError(
            f"points of {n} annotations of kind {schema.kind} have shape {table.points.shape}: "
            f"expected {shape}"
        )
    _check_names("property", [item.name for item in schema.properties], table.properties)
    _check_names("relationship", schema.relationships, table.relationships)
    for name in schema.relationships:
        _check_related(name, as_related(table.relationships[name]), n)


def geometry(schema: AnnotationSchema, table: AnnotationTable) -> npt.NDArray[np.float32]:
    """Positions as they are stored.

    Returns
    -------
    ndarray of float32, shape (n, 3) or (n, 6)
        In the schema's unit.

    Raises
    ------
    TableError
        If one is no number.
    """
    unit = np.asarray(schema.unit_nm, np.float64)
    # Divided in float64: rounding happens once.
    points = (table.points / unit).astype(np.float32) if (unit != 1).any() else table.points
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(points, np.float32)
    stored = stored.reshape(len(table), RANK * schema.ends)
    finite = np.isfinite(stored)
    if not finite.all():
        row = int(np.flatnonzero(~finite.all(axis=1))[0])
        raise TableError(
            f"annotation {table.ids[row]} (row {row}) has no finite position: "
            f"{stored[row].tolist()}; leave such rows out"
        )
    return stored


def encode_records(schema: AnnotationSchema, table: AnnotationTable) -> Words:
    """The records of all rows, as they are stored without their segments.

    Returns
    -------
    ndarray of uint32, shape (n, schema.record_bytes / 4)

    Raises
    ------
    TableError
        If a value is not one that its property's type can hold.
    """
    records = np.zeros(len(table), schema.record_dtype)
    records["geometry"] = geometry(schema, table)
    for item in schema.properties:
        records[item.name] = _stored(item, table)
    words: Words = records.view("<u4").reshape(len(table), schema.record_bytes // 4)
    return words


def unique_related(related: Related) -> Related:
    """What is related without 0, and each once a row; plain arrays keep their zeros."""
    values = np.ascontiguousarray(related.values, np.uint64)
    if related.offsets is None:
        return Related(values)
    n = len(related.offsets) - 1
    rows = np.repeat(np.arange(n), np.diff(related.offsets))
    order = np.lexsort((values, rows))
    rows, values = rows[order], values[order]
    first = np.ones(len(rows), bool)
    first[1:] = (rows[1:] != rows[:-1]) | (values[1:] != values[:-1])
    first &= values != 0
    return Related(values[first], np.append(0, np.cumsum(np.bincount(rows[first], minlength=n))))


def _stored(item: Property, table: AnnotationTable) -> npt.NDArray[Any]:
    """The values of a property, checked to be what its type can hold."""
    values = np.asarray(table.properties[item.name])
    n = len(table)
    shape = (n, item.channels) if item.channels > 1 else (n,)
    if values.shape != shape or values.dtype.kind not in "biuf":
        raise TableError(
            f"property {item.name!r} is {values.dtype} of shape {values.shape}: expected numbers "
            f"of shape {shape}"
        )
    if item.dtype.kind == "f" or values.dtype == item.dtype or n == 0:
        # NaN is a value of float32, and the viewer's shaders can test it.
        return values
    limits = np.iinfo(item.dtype)
    low, high = values.min(), values.max()
    # NaN is neither.
    if not (low >= limits.min and high <= limits.max):
        raise TableError(
            f"property {item.name!r} has values from {low} to {high}: {item.type} holds "
            f"{limits.min} to {limits.max}"
        )
    if values.dtype.kind == "f" and (values != np.floor(values)).any():
        raise TableError(f"property {item.name!r} has fractions: make it float32, or round it")
    return values


def _check_names(
    what: str, expected: tuple[str, ...] | list[str], found: Mapping[str, Any]
) -> None:
    for name in expected:
        if name not in found:
            raise TableError(f"the table has no {what} {name!r}: it has {sorted(found)}")
    for name in found:
        if name not in expected:
            raise TableError(f"the table has a {what} {name!r} that the schema does not name")


def _check_related(name: str, related: Related, n: int) -> None:
    offsets = related.offsets
    where = f"relationship {name!r}"
    if offsets is None:
        _check_integers(where, related.values, (n,))
        return
    _check_integers(where, related.values, (len(related.values),))
    good = offsets.shape == (n + 1,) and offsets[0] == 0 and offsets[-1] == len(related.values)
    if not good or (np.diff(offsets) < 0).any():
        raise TableError(
            f"{where}: offsets must be {n + 1} numbers that rise from 0 to {len(related.values)}"
        )


def _check_integers(what: str, values: npt.NDArray[Any], shape: tuple[int, ...]) -> None:
    if values.shape != shape or values.dtype.kind not in "ui":
        raise TableError(
            f"{what}: {values.dtype} of shape {values.shape}; expected integers of shape {shape}"
        )
    if values.dtype.kind == "i" and len(values) and int(values.min()) < 0:
        raise TableError(f"{what}: {values.min()} is below 0; ids are uint64")
