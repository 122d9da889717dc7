"""Tables of other projects as annotations, by the roles of their columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cnapse.errors import ConfigError, TableError
from cnapse.interchange.columns import as_flags, as_ids, as_numbers, as_places
from cnapse.interchange.files import TableFiles
from cnapse.interchange.formats import ENDS, IDS, NUMBERS, Format, chosen_columns
from cnapse.interchange.source import SourceOptions
from cnapse.viewing.annotations import AnnotationSchema, AnnotationTable, Property
from cnapse.viewing.partner_lines import POSTSYNAPTIC_CELL, PRESYNAPTIC_CELL, SYNAPSE_OBJECT

__all__ = ["ForeignSource", "without_places"]

_RELATIONSHIPS = {
    "pre_cell": PRESYNAPTIC_CELL,
    "post_cell": POSTSYNAPTIC_CELL,
    "synapse": SYNAPSE_OBJECT,
}
_ROWS = 1 << 20
_NOT_OF_A_NAME = re.compile(r"[^a-zA-Z0-9]+")


class ForeignSource:
    """A table in files, its columns found by their roles.

    Ids are those of the column ``id``, or else count the rows from 1.

    Parameters
    ----------
    files : TableFiles
    kind : Format
    options : SourceOptions

    Raises
    ------
    ConfigError
        If the table's unit is not known.
    TableError
        If columns are missing.
    """

    def __init__(self, files: TableFiles, kind: Format, options: SourceOptions) -> None:
        unit = options.resolution or kind.unit_nm
        if unit is None:
            raise ConfigError(
                f"{files.path}, read as {kind.name}, has positions in voxels: give their size in "
                "nm, as in --resolution 4 4 40 (--resolution 1 1 1 if they are in nm)"
            )
        self.format = kind.name
        self.skipped = self.without_cell = 0
        self._files, self._options, self._unit = files, options, np.array(unit, np.float64)
        self.columns = chosen_columns(
            files.path, files.names, kind, options.columns, points=options.points
        )
        self._further = _further(files, options.properties)
        self.schema = AnnotationSchema(
            "POINT" if options.points else "LINE",
            tuple(
                Property(
                    role,
                    "uint32" if role == "flags" else "float32",
                    f"{meaning}: column {self.columns[role]}",
                )
                for role, meaning in NUMBERS.items()
                if role in self.columns
            )
            + tuple(
                Property(name, options.properties[column], f"column {column}")
                for name, column in self._further.items()
            ),
            tuple(name for role, name in _RELATIONSHIPS.items() if role in self.columns),
            unit,
        )

    def parts(self) -> Iterator[AnnotationTable]:
        """All annotations, about a million at a time.

        Raises
        ------
        TableError
            If a value is not what its column is for; if a row has no position.
        """
        self.skipped = self.without_cell = 0
        first = 0
        types = self._types()
        for batch in _gathered(self._files.batches(list(types), types), types):
            yield self._annotations(batch, first)
            first += batch.num_rows

    def _types(self) -> dict[str, pa.DataType]:
        """How the columns of a CSV are read: ids and lists as text, so that nothing is rounded."""
        types = {column: pa.float64() for column in self._further.values()}
        types |= {
            column: pa.string() if role in {*IDS, *ENDS, "flags"} else pa.float64()
            for role, column in reversed(self.columns.items())
        }
        return types

    def _annotations(self, batch: pa.Table, first: int) -> AnnotationTable:
        rows = _Rows(batch, self.columns, self._files.path)
        count = batch.num_rows
        ids = rows.ids("id")
        if ids is None:
            ids = np.arange(first + 1, first + count + 1, dtype=np.uint64)
        properties: dict[str, npt.NDArray[Any]] = {}
        for item in self.schema.properties:
            if item.name in self._further:
                column = self._further[item.name]
                where = f"{self._files.path}, column {column!r} (--property)"
                properties[item.name] = as_numbers(batch.column(column), where)
            elif item.name == "flags":
                properties[item.name] = as_flags(rows.column("flags"), rows.where("flags"))
            else:
                properties[item.name] = rows.numbers(item.name).astype(np.float32)
        table = AnnotationTable(
            ids,
            self._points(rows) * self._unit,
            properties,
            {
                name: rows.required_ids(role)
                for role, name in _RELATIONSHIPS.items()
                if role in self.columns
            },
        )
        kept = without_places(table, self._files.path, first, skip=self._options.skip_missing)
        self.skipped += count - len(kept)
        cells = [
            np.asarray(values) == 0
            for name, values in kept.relationships.items()
            if name != SYNAPSE_OBJECT
        ]
        self.without_cell += int(np.count_nonzero(np.any(cells, axis=0))) if cells else 0
        return kept

    def _points(self, rows: _Rows) -> npt.NDArray[np.float64]:
        if not self._options.points:
            return np.stack([rows.places("pre"), rows.places("post")], axis=1)
        chosen = next(end for end in ("centre", "pre", "post") if rows.has(end))
        return rows.places(chosen)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Some rows of a table, their columns by role."""

    table: pa.Table
    columns: dict[str, str]
    path: str

    def has(self, end: str) -> bool:
        """Whether there is this place."""
        return end in self.columns or f"{end}_x" in self.columns

    def column(self, role: str) -> pa.Array:
        return self.table.column(self.columns[role])

    def where(self, role: str) -> str:
        """For errors."""
        return f"{self.path}, column {self.columns[role]!r} ({role})"

    def ids(self, role: str) -> npt.NDArray[np.uint64] | None:
        return self.required_ids(role) if role in self.columns else None

    def required_ids(self, role: str) -> npt.NDArray[np.uint64]:
        return as_ids(self.column(role), self.where(role))

    def numbers(self, role: str) -> npt.NDArray[np.float64]:
        return as_numbers(self.column(role), self.where(role))

    def places(self, end: str) -> npt.NDArray[np.float64]:
        """Positions in the table's unit, shape (n, 3)."""
        if end in self.columns:
            return as_places(self.column(end), self.where(end))
        return np.stack([self.numbers(f"{end}_{axis}") for axis in "xyz"], axis=1)


def _further(files: TableFiles, wanted: Mapping[str, str]) -> dict[str, str]:
    """Columns to keep beside those of roles, by the name that the viewer lets them have.

    Raises
    ------
    TableError
        If the table has not one of them.
    """
    for column in wanted:
        if column not in files.names:
            raise TableError(
                f"{files.path} has no column {column!r} for --property: it has "
                f"{', '.join(files.names[:20])}"
            )
    return {_NOT_OF_A_NAME.sub("_", column).strip("_").lower(): column for column in wanted}


def without_places(table: AnnotationTable, path: str, first: int, *, skip: bool) -> AnnotationTable:
    """The rows that have a position.

    Parameters
    ----------
    table : AnnotationTable
    path : str
        For errors.
    first : int
        Row of the table that is the first of these, from 0.
    skip : bool
        Leave the others out; else the first of them is an error.

    Raises
    ------
    TableError
    """
    good = np.isfinite(table.points).all(axis=tuple(range(1, table.points.ndim)))
    if good.all():
        return table
    if not skip:
        row = int(np.flatnonzero(~good)[0])
        raise TableError(
            f"{path}: row {first + row + 1} (id {table.ids[row]}) has no position, nor have "
            f"{np.count_nonzero(~good) - 1} of the rows near it: give --skip-missing to leave such "
            "rows out"
        )
    return AnnotationTable(
        table.ids[good],
        table.points[good],
        {name: values[good] for name, values in table.properties.items()},
        {name: np.asarray(values)[good] for name, values in table.relationships.items()},
    )


def _gathered(
    batches: Iterator[pa.RecordBatch], types: Mapping[str, pa.DataType]
) -> Iterator[pa.Table]:
    """Batches put together to about a million rows; one without rows if there are none."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        # Parts of a table may have their columns in another order, or of another type.
        if held and (rows >= _ROWS or batch.schema != held[0].schema):
            yield pa.Table.from_batches(held)
            held, rows = [], 0
        held.append(batch)
        rows += batch.num_rows
    if held:
        yield pa.Table.from_batches(held)
    else:
        yield pa.table({name: pa.array([], kind) for name, kind in types.items()})
