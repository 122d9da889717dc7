"""cnapse's own tables as annotations: ``partners`` as in a run's layer, ``synapses`` as points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from cnapse.errors import TableError
from cnapse.interchange.columns import as_flags, as_ids, as_numbers
from cnapse.interchange.files import TableFiles
from cnapse.interchange.foreign import without_places
from cnapse.interchange.source import SourceOptions
from cnapse.store import Store, cloud_path
from cnapse.tables import PARTNERS, SYNAPSES
from cnapse.viewing.annotations import AnnotationSchema, AnnotationTable, Kind, Property
from cnapse.viewing.partner_lines import (
    PRESYNAPTIC_CELL,
    SYNAPSE_OBJECT,
    ids_fit,
    partner_lines,
    schema,
)

__all__ = ["OwnSource", "own_table"]

_PLACE = ("x_pos", "y_pos", "z_pos")
_OF_PARTNERS = (
    *("syn_id", "pre_id", "post_id", *_PLACE, "size", "share"),
    *("post_x", "post_y", "post_z", "n_partners", "flags"),
)
_OF_SYNAPSES = ("syn_id", "pre_id", *_PLACE, "size", "n_partners", "flags", "doubt")
_DOUBT = ("syn_id", "doubt")
_DTYPES = {c.name: c.dtype for table in (SYNAPSES, PARTNERS) for c in table.columns}


def own_table(names: Sequence[str]) -> Literal["partners", "synapses"] | None:
    """Which of cnapse's tables has these columns; None for neither."""
    if set(_OF_PARTNERS) <= set(names):
        return "partners"
    return "synapses" if set(_OF_SYNAPSES) <= set(names) else None


class OwnSource:
    """``partners`` or ``synapses`` of a run, or of `cnapse measure` and `cnapse partners`.

    Lines are those of `cnapse.viewing.partner_lines`. The doubt of a synapse stands in the table
    ``synapses``: it is looked for beside ``partners``, and left out if it is not there.

    Parameters
    ----------
    path
        A file, or a folder of parts in which all rows of a synapse are in one part.
    files : TableFiles
        The same, opened.
    options : SourceOptions
        `resolution` is the voxel size that the layer stores positions in.

    Raises
    ------
    TableError
        If it is neither table.
    """

    format = "cnapse"
    without_cell = 0  # its tables say so themselves

    def __init__(self, path: str | Path, files: TableFiles, options: SourceOptions) -> None:
        table = own_table(files.names)
        if table is None:
            lacking = [name for name in _OF_PARTNERS if name not in files.names]
            raise TableError(
                f"{files.path} is no table of cnapse: of partners it lacks {', '.join(lacking)}; "
                "give another --format"
            )
        self.skipped = 0
        self._files, self._options, self._table = files, options, table
        self._doubts = _beside(cloud_path(path)) if table == "partners" else None
        self._counted: bool | None = None
        unit = options.resolution or (1.0, 1.0, 1.0)
        self.schema = _points_schema(unit) if table == "synapses" else self._lines_schema(unit)

    def parts(self) -> Iterator[AnnotationTable]:
        """The rows of one file after the other.

        Raises
        ------
        TableError
            If a value is not what its column is for; if a synapse has no position.
        """
        self.skipped = 0
        first = 0
        for name in self._files.files:
            found = self._synapses(name) if self._table == "synapses" else self._lines(name, first)
            skip = self._options.skip_missing
            kept = without_places(found, f"{self._files.folder}/{name}", 0, skip=skip)
            first += len(found)
            self.skipped += len(found) - len(kept)
            yield kept

    def _lines(self, name: str, first: int) -> AnnotationTable:
        partners = _frame(self._files, name, _OF_PARTNERS)
        doubts = pd.DataFrame({"syn_id": np.empty(0, np.uint64), "doubt": np.empty(0)})
        if self._doubts is not None:
            # Parts of both tables have the same name; single files have not.
            there = self._doubts.files
            names = [name] if name in there else there
            doubts = pd.concat([_frame(self._doubts, n, _DOUBT) for n in names])
        lines = partner_lines(doubts, partners, first_id=first + 1 if self._counts() else None)
        properties = {item.name: lines.properties[item.name] for item in self.schema.properties}
        points = lines.points[:, 0] if self._options.points else lines.points
        return replace(lines, points=points, properties=properties)

    def _synapses(self, name: str) -> AnnotationTable:
        rows = _frame(self._files, name, _OF_SYNAPSES)
        ids = rows["syn_id"].to_numpy(np.uint64)
        return AnnotationTable(
            ids,
            rows[list(_PLACE)].to_numpy(np.float64),
            {
                "size": rows["size"].to_numpy(np.float32),
                "doubt": np.nan_to_num(rows["doubt"].to_numpy(np.float32)),
                "flags": rows["flags"].to_numpy(np.uint32),
                "partners": np.minimum(rows["n_partners"].to_numpy(), 255).astype(np.uint8),
            },
            {PRESYNAPTIC_CELL: rows["pre_id"].to_numpy(np.uint64), SYNAPSE_OBJECT: ids},
        )

    def _lines_schema(self, unit: tuple[float, float, float]) -> AnnotationSchema:
        lines = schema(unit)
        kept = [p for p in lines.properties if p.name != "doubt" or self._doubts is not None]
        kind: Kind = "POINT" if self._options.points else "LINE"
        return replace(lines, kind=kind, properties=tuple(kept))

    def _counts(self) -> bool:
        """Whether ids count the rows, since those of the synapses are too large to make them of."""
        if self._counted is None:
            ids = (_frame(self._files, name, ("syn_id",))["syn_id"] for name in self._files.files)
            self._counted = not all(ids_fit(values.to_numpy(np.uint64)) for values in ids)
        return self._counted


def _points_schema(unit: tuple[float, float, float]) -> AnnotationSchema:
    return AnnotationSchema(
        "POINT",
        (
            Property("size", "float32", "volume of the synapse, nm3"),
            Property("doubt", "float32", "of the synapse, 0 to 1, to order review by"),
            Property("flags", "uint32", "flags of the synapse, a bit each"),
            Property("partners", "uint8", "postsynaptic cells of the synapse"),
        ),
        (PRESYNAPTIC_CELL, SYNAPSE_OBJECT),
        unit,
    )


def _beside(path: str) -> TableFiles | None:
    """The table ``synapses`` beside ``partners``, if there is one with doubts."""
    folder, _, name = path.rpartition("/")
    other = name.replace(PARTNERS.name, SYNAPSES.name)
    store = Store(folder)
    if other == name or not (store.exists(other) or store.child(other).names()):
        return None
    files = TableFiles(f"{folder}/{other}")
    return files if set(_DOUBT) <= set(files.names) else None


def _frame(files: TableFiles, name: str, columns: Sequence[str]) -> pd.DataFrame:
    """Some columns of a file, of the dtypes of cnapse's tables; ids exact."""
    text = {
        c: pa.float64() if _DTYPES[c] == "float64" else pa.string() for c in columns
    }  # flags are names in a CSV
    batches = list(files.batches(columns, text, [name]))
    schema = None if batches else pa.schema([(c, text[c]) for c in columns])
    table = pa.Table.from_batches(batches, schema)
    where = f"{files.folder}/{name}"
    return pd.DataFrame({c: _values(table.column(c), c, f"{where}, column {c!r}") for c in columns})


def _values(column: pa.ChunkedArray, name: str, where: str) -> npt.NDArray[np.generic]:
    if name == "flags":
        return as_flags(column, where)
    return as_numbers(column, where) if _DTYPES[name] == "float64" else as_ids(column, where)
