"""Which columns of a table of partners are which, and how they come in: cnapse's and others'.

A row is one synapse and one postsynaptic cell. Whatever the table, its columns get the names of
:data:`cnapse.tables.PARTNERS`. A cell is an id, a name, or both; text of digits is an id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cnapse.errors import ConfigError, TableError
from cnapse.interchange.columns import as_flags, as_ids, as_numbers, as_places
from cnapse.interchange.formats import FORMATS, Format, detected
from cnapse.tables import PARTNERS

__all__ = ["AXES", "Layout", "Reading", "layout_of"]

AXES = "xyz"

_IDS = ("syn_id", "pre_id", "post_id")
_TEXT = ("pre", "post", "link")
_PLACES = (("x_pos", "y_pos", "z_pos"), ("post_x", "post_y", "post_z"))
_OWN_ENDS = (("pre", "post"), ("pre_id", "post_id"))
_FORMATS = ("cnapse", *FORMATS)

_ARROW = {
    "uint64": pa.uint64(),
    "int32": pa.int32(),
    "uint32": pa.uint32(),
    "float64": pa.float64(),
    "str": pa.string(),
}
TYPES = {column.name: _ARROW[column.dtype] for column in PARTNERS.columns}
"""Arrow types of the columns that a table of partners can have."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a table of another project is to be read.

    Attributes
    ----------
    format : str or None
        ``cnapse`` or one of `cnapse.interchange.FORMATS`; None to tell by the columns.
    columns : mapping of str
        Columns by role (see `cnapse.interchange.formats`), where they have other names.
    resolution : tuple of float or None
        Nanometres of a unit of the table's positions, x, y, z, where they are no nm.
    """

    format: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    resolution: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns of a table.

    Attributes
    ----------
    format : str
        What it was read as.
    columns : dict of str
        The table's columns by our names; of a place that is a column of lists, its x stands for
        all three.
    lists : tuple of str
        Which of ours are such.
    unit_nm : tuple of float or None
        Nanometres of a unit of positions; None if there are no positions that can be used.
    """

    format: str
    columns: dict[str, str]
    lists: tuple[str, ...]
    unit_nm: tuple[float, float, float] | None

    @property
    def names(self) -> list[str]:
        """Our columns, in the order of `PARTNERS`."""
        there = {*self.columns}
        for place in _PLACES:
            there |= {*place} if place[0] in self.lists else set()
        return [name for name in PARTNERS.names if name in there]

    @property
    def schema(self) -> pa.Schema:
        """As `convert` gives it."""
        return pa.schema([(name, TYPES[name]) for name in self.names])

    def csv_types(self) -> dict[str, pa.DataType]:
        """Types of the columns of text files: ids as text, so that nothing is rounded."""
        return {
            theirs: pa.string()
            if ours in (*_IDS, *_TEXT, "flags") or ours in self.lists
            else pa.float64()
            for ours, theirs in self.columns.items()
        }

    def in_place(self, types: Mapping[str, pa.DataType]) -> bool:
        """Whether DuckDB can read the columns as they are: plain names of plain types."""
        return not self.lists and all(
            theirs.isidentifier() and _plain(ours, types[theirs])
            for ours, theirs in self.columns.items()
        )

    def selection(self) -> str:
        """The columns in SQL, for a table that is `in_place`."""
        return ", ".join(f"{self._selected(name)} AS {name}" for name in self.names)

    def _selected(self, ours: str) -> str:
        theirs = f'CAST("{self.columns[ours]}" AS {_SQL[TYPES[ours]]})'
        for place in _PLACES:
            if ours in place and self.unit_nm is not None:
                unit = float(self.unit_nm[place.index(ours)])
                return theirs if unit == 1 else f"{theirs} * CAST({unit!r} AS DOUBLE)"
        return theirs

    def convert(self, batch: pa.RecordBatch, where: str) -> pa.RecordBatch:
        """Rows under our names and types.

        Parameters
        ----------
        batch : RecordBatch
        where : str
            The table, for errors.

        Raises
        ------
        TableError
            If a value is not what its column is for.
        """
        made: dict[str, pa.Array] = {}
        for ours, theirs in self.columns.items():
            told = f"{where}, column {theirs!r} ({ours})"
            column = batch.column(theirs)
            if ours in self.lists:
                axes = next(place for place in _PLACES if place[0] == ours)
                points = as_places(column, told) * np.asarray(self.unit_nm)
                made.update(zip(axes, (pa.array(points[:, a]) for a in range(3)), strict=True))
            else:
                made[ours] = self._converted(ours, column, told)
        return pa.RecordBatch.from_arrays(
            [made[name].cast(TYPES[name]) for name in self.names], schema=self.schema
        )

    def _converted(self, ours: str, column: pa.Array, told: str) -> pa.Array:
        if ours in _IDS:
            return pa.array(as_ids(column, told))
        if ours in _TEXT:
            if pa.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            return pc.fill_null(column.cast(pa.string()), "")
        if ours == "flags":
            return pa.array(as_flags(column, told))
        numbers = as_numbers(column, told)
        for place in _PLACES:
            if ours in place and self.unit_nm is not None:
                numbers = numbers * self.unit_nm[place.index(ours)]
        return pa.array(numbers, from_pandas=TYPES[ours] != pa.float64())


_SQL = {
    pa.uint64(): "UBIGINT",
    pa.int32(): "INTEGER",
    pa.uint32(): "UINTEGER",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
}


def layout_of(
    path: str, types: Mapping[str, pa.DataType], reading: Reading, *, text: bool
) -> Layout:
    """Find out what the columns of a table are.

    Parameters
    ----------
    path : str
        For errors.
    types : mapping of str
        The table's columns.
    reading : Reading
    text : bool
        Whether the types are but guesses, as those of CSV files.

    Raises
    ------
    ConfigError
        For an unknown format.
    TableError
        If the table has no cells at both ends.
    """
    if reading.format not in {None, *_FORMATS}:
        raise ConfigError(f"--format {reading.format}: there are {', '.join(_FORMATS)}")
    names = list(types)
    if _is_own(names, reading):
        return _own(path, names)
    kind = _format_of(path, names, reading)
    return _foreign(path, types, kind, reading, text=text)


def _is_own(names: Sequence[str], reading: Reading) -> bool:
    if reading.columns or reading.format not in {None, "cnapse"}:
        return False
    if reading.format == "cnapse":
        return True
    # Others call their ids `pre` and `post`, too, but have places that ours has not.
    return any({*ends} & {*names} for ends in _OWN_ENDS) and "pre_x" not in names


def _own(path: str, names: Sequence[str]) -> Layout:
    for pre, post in _OWN_ENDS:
        if (pre in names) != (post in names):
            there, missing = (pre, post) if pre in names else (post, pre)
            hint = (
                "; it looks like the table of synapses: give that of partners"
                if {"centroid_x", "voxels"} & {*names}
                else ""
            )
            raise TableError(f"{path} has a column {there} but no {missing}{hint}")
    if not any(pre in names for pre, _ in _OWN_ENDS):
        raise TableError(f"{path} has no cells: a table of partners has pre and post, or their ids")
    columns = {name: name for name in PARTNERS.names if name in names}
    for place in _PLACES:
        if not {*place} <= {*columns}:
            for axis in place:
                columns.pop(axis, None)
    return Layout("cnapse", columns, (), (1.0, 1.0, 1.0))


def _format_of(path: str, names: Sequence[str], reading: Reading) -> Format:
    if reading.format is not None:
        return FORMATS[reading.format]
    try:
        return detected(path, names, reading.columns)
    except TableError:
        # Cells are enough here, even of a table whose places are not there.
        for kind in FORMATS.values():
            ends = (_first(kind.names.get(role, ()), names) for role in ("pre_cell", "post_cell"))
            if all(ends):
                return kind
        raise


def _foreign(
    path: str,
    types: Mapping[str, pa.DataType],
    kind: Format,
    reading: Reading,
    *,
    text: bool,
) -> Layout:
    names = list(types)

    def column(*roles: str) -> str | None:
        for role in roles:
            if role in reading.columns:
                chosen = reading.columns[role]
                if chosen and chosen not in names:
                    raise TableError(
                        f"{path} has no column {chosen!r} (--columns {role}={chosen}): it has "
                        f"{', '.join(names[:20])}"
                    )
                found: str | None = chosen or None
            else:
                found = _first(kind.names.get(role, ()), names)
            if found:
                return found
        return None

    columns: dict[str, str] = {}
    for ours in ("pre", "post"):
        cell = column(f"{ours}_cell")
        if cell is None:
            wanted = " or ".join(kind.names.get(f"{ours}_cell", (f"{ours}_cell",)))
            raise TableError(
                f"{path}, read as {kind.name}, has no column of {ours}synaptic cells ({wanted}): "
                f"it has {', '.join(names[:20])}; name it with --columns {ours}_cell=COLUMN"
            )
        # Of formats that are known, cells are ids; else a column of text may hold names.
        named = kind.name == "other" and (text or _is_text(types[cell]))
        columns[ours if named else f"{ours}_id"] = cell
    for ours, roles in (("syn_id", ("synapse", "id")), ("size", ("size",)), ("share", ("share",))):
        found = column(*roles)
        if found is not None:
            columns[ours] = found
    unit = reading.resolution or kind.unit_nm
    lists = []
    for place, ends in zip(_PLACES, (("centre", "pre"), ("post",)), strict=True):
        for end in ends if unit is not None else ():
            axes = [column(f"{end}_{axis}") for axis in AXES]
            whole = column(end)
            if all(axes):
                columns.update((ours, axis or "") for ours, axis in zip(place, axes, strict=True))
                break
            if whole is not None:
                columns[place[0]] = whole
                lists.append(place[0])
                break
    return Layout(kind.name, columns, tuple(lists), unit)


def _first(candidates: Sequence[str], names: Sequence[str]) -> str | None:
    return next((name for name in candidates if name in names), None)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view()
    )


def _plain(ours: str, kind: pa.DataType) -> bool:
    """Whether a column is of a type that casts to ours without harm."""
    if ours in _IDS or ours == "flags":
        return bool(pa.types.is_integer(kind))
    if ours in _TEXT:
        return _is_text(kind)
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
