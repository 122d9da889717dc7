"""Every column of every table: its name, dtype, unit and meaning; reading, writing, checking.

Two tables come out of a run. ``synapses`` has one row per synapse object; ``partners`` has one
row per synapse and postsynaptic cell, and starts with the nine columns of the Cnapse README. Flags
are a bit field in Parquet, and names joined by ``|`` in CSV. Positions are centres of voxels, nm.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cnapse.errors import DamagedFileError, LayerNotFoundError, TableError
from cnapse.store import Store, cloud_path

__all__ = [
    "CORRECTED_PARTNERS",
    "CORRECTED_SYNAPSES",
    "PARTNERS",
    "SYNAPSES",
    "TABLES",
    "Column",
    "Schema",
    "SynapseFlag",
    "csv_bytes",
    "empty_table",
    "filled",
    "flag_names",
    "parquet_bytes",
    "parse_flags",
    "parse_parquet",
    "read_metadata",
    "read_part",
    "read_table",
    "validate",
    "write_table",
]


class SynapseFlag(IntFlag):
    """What is doubtful about a synapse; never a reason to drop it silently."""

    NO_PRESYNAPTIC_CELL = 1
    """No voxel of the object lies on a cell."""
    NO_EMITTERS = 2
    """No voxel from which transmitter could be released: no partner can be found."""
    NOTHING_HIT = 4
    """Not enough transmitter reached any one cell to call it a partner."""
    MANY_LOST = 8
    """Much of the transmitter reached no cell."""
    WEAK_PRESYNAPTIC = 16
    """The presynaptic cell covers little more of the object than others do."""
    BORDER = 32
    """The object, or the box around it, is cut by the edge of the volume."""
    NEAR_CUT = 64
    """The share of some cell is so near the least share that it might be a partner or not."""
    TOO_LARGE = 128
    """Too large to be one synapse; no partners were looked for."""
    UNDECIDED_SIDE = 256
    """The density covers the cleft, and nothing tells which of its cells is presynaptic."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    dtype: Literal["uint64", "int64", "int32", "uint32", "float64", "str"]
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of a table, in order."""

    name: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        """Names of the columns, in order."""
        return [column.name for column in self.columns]


def _columns(*rows: tuple[str, str, str, str]) -> tuple[Column, ...]:
    return tuple(Column(*row) for row in rows)  # type: ignore[arg-type]


SYNAPSES = Schema(
    "synapses",
    _columns(
        ("syn_id", "uint64", "", "synapse id: 1 + raster index of its first voxel, or as imported"),
        ("pre", "str", "", "name of the presynaptic cell; its id where it has none"),
        ("pre_id", "uint64", "", "segment id of the presynaptic cell; 0 for none"),
        ("size", "float64", "nm3", "volume of the object"),
        ("x_pos", "float64", "nm", "centre of the object's voxel nearest to its centroid"),
        ("y_pos", "float64", "nm", "the same, y"),
        ("z_pos", "float64", "nm", "the same, z"),
        ("pre_fraction", "float64", "", "presynaptic cell's share of the voxels on cells"),
        ("voxels", "int64", "voxels", "number of voxels"),
        ("sections", "int32", "sections", "number of sections (z) with a voxel of the object"),
        ("centroid_x", "float64", "nm", "centroid"),
        ("centroid_y", "float64", "nm", "the same, y"),
        ("centroid_z", "float64", "nm", "the same, z"),
        ("start_x", "int64", "voxels", "bounding box: first voxel"),
        ("start_y", "int64", "voxels", "the same, y"),
        ("start_z", "int64", "voxels", "the same, z"),
        ("stop_x", "int64", "voxels", "bounding box: one past the last voxel"),
        ("stop_y", "int64", "voxels", "the same, y"),
        ("stop_z", "int64", "voxels", "the same, z"),
        ("first_voxel", "int64", "", "raster index (x fastest) of the first voxel in the layer"),
        ("mean_probability", "float64", "", "mean predicted probability; empty without a map"),
        ("max_probability", "float64", "", "highest predicted probability; empty without a map"),
        ("emitters", "int64", "voxels", "voxels from which transmitter was released"),
        ("lost", "float64", "", "share of the transmitter that reached no cell"),
        ("trapped", "float64", "", "the part of it that lies in closed pockets, where known"),
        ("near_cut", "float64", "", "chance that published walks, repeated, decide otherwise"),
        ("disagreement", "float64", "", "total variation between both methods; empty for one"),
        ("n_partners", "int32", "", "number of postsynaptic cells"),
        ("flags", "uint32", "", "what is doubtful: see the flags"),
        ("doubt", "float64", "", "0 to 1, to order review by; no probability"),
        ("doubts", "str", "", "its parts by name, largest first"),
        ("link", "str", "", "address that shows the synapse in Neuroglancer"),
    ),
)

PARTNERS = Schema(
    "partners",
    _columns(
        ("syn_id", "uint64", "", "synapse id"),
        ("pre", "str", "", "name of the presynaptic cell; its id where it has none"),
        ("pre_id", "uint64", "", "segment id of the presynaptic cell"),
        ("post", "str", "", "name of the postsynaptic cell; its id where it has none"),
        ("post_id", "uint64", "", "segment id of the postsynaptic cell"),
        ("x_pos", "float64", "nm", "centre of the synapse's voxel nearest to its centroid"),
        ("y_pos", "float64", "nm", "the same, y"),
        ("z_pos", "float64", "nm", "the same, z"),
        ("size", "float64", "nm3", "share x volume of the synapse"),
        ("share", "float64", "", "share among the partners; adds up to 1 over a synapse"),
        ("share_error", "float64", "", "standard error of share by sampling; 0 where exact"),
        ("raw_share", "float64", "", "share of all the transmitter, before small ones are dropped"),
        ("lost", "float64", "", "share of the transmitter that reached no cell"),
        ("post_x", "float64", "nm", "where the cell is hit: centre of the nearest absorbing voxel"),
        ("post_y", "float64", "nm", "the same, y"),
        ("post_z", "float64", "nm", "the same, z"),
        ("n_partners", "int32", "", "number of postsynaptic cells of the synapse"),
        ("flags", "uint32", "", "flags of the synapse"),
        ("link", "str", "", "address that shows the synapse in Neuroglancer"),
    ),
)

TABLES = {schema.name: schema for schema in (SYNAPSES, PARTNERS)}

_PROVENANCE = _columns(
    ("provenance", "str", "", "predicted, confirmed, corrected or added"),
    ("reviewer", "str", "", "who decided last; empty where nobody did"),
)
CORRECTED_SYNAPSES = Schema("synapses", (*SYNAPSES.columns, *_PROVENANCE))
CORRECTED_PARTNERS = Schema("partners", (*PARTNERS.columns, *_PROVENANCE))

_ARROW = {
    "uint64": pa.uint64(),
    "int64": pa.int64(),
    "int32": pa.int32(),
    "uint32": pa.uint32(),
    "float64": pa.float64(),
    "str": pa.string(),
}


def empty_table(schema: Schema) -> pd.DataFrame:
    """A table without rows."""
    return pd.DataFrame({c.name: pd.Series([], dtype=c.dtype) for c in schema.columns})


def filled(table: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The table with all columns of the schema, in order: what is not known yet is empty, or 0."""
    unknown: dict[str, Any] = {"str": "", "float64": np.nan}
    absent = {c.name: unknown.get(c.dtype, 0) for c in schema.columns if c.name not in table}
    return table.assign(**absent)[schema.names]


def validate(table: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The table with the schema's columns in order and of the right dtype.

    Raises
    ------
    TableError
        If columns are missing, unknown, or hold values that do not fit their dtype.
    """
    missing = [name for name in schema.names if name not in table.columns]
    unknown = [str(name) for name in table.columns if name not in schema.names]
    if missing or unknown:
        raise TableError(
            f"table {schema.name}: "
            + "; ".join(
                f"{word} columns {', '.join(names)}"
                for word, names in (("missing", missing), ("unknown", unknown))
                if names
            )
        )
    try:
        return pd.DataFrame({c.name: table[c.name].astype(c.dtype) for c in schema.columns})
    except (ValueError, TypeError, OverflowError) as error:
        raise TableError(f"table {schema.name}: {error}") from error


def flag_names(flags: int) -> str:
    """``5`` as ``no_presynaptic_cell|nothing_hit``."""
    return "|".join(f.name.lower() for f in SynapseFlag if f.name and flags & f)


def parse_flags(text: str) -> int:
    """The bit field of names joined by ``|``.

    Raises
    ------
    TableError
        For a name that is no flag.
    """
    known = {f.name.lower(): int(f) for f in SynapseFlag if f.name}
    names = [name for name in text.split("|") if name]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise TableError(f"unknown flag {unknown[0]!r}: the flags are {', '.join(known)}")
    return sum(known[name] for name in set(names))


def parquet_bytes(
    table: pd.DataFrame, schema: Schema, metadata: Mapping[str, str] | None = None
) -> bytes:
    """The table as a Parquet file: the same rows give the same bytes.

    Parameters
    ----------
    table, schema
    metadata : mapping of str, optional
        How the table was made, for `read_metadata`.
    """
    table = validate(table, schema)
    fields = [pa.field(c.name, _ARROW[c.dtype], metadata=_field_notes(c)) for c in schema.columns]
    arrow = pa.Table.from_arrays(
        [pa.array(table[c.name].to_numpy(), type=_ARROW[c.dtype]) for c in schema.columns],
        schema=pa.schema(fields, metadata={"cnapse_table": schema.name, **(metadata or {})}),
    )
    buffer = io.BytesIO()
    pq.write_table(arrow, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def csv_bytes(table: pd.DataFrame, schema: Schema | None = None, *, header: bool = True) -> bytes:
    """The table as CSV, flags by name, floats to 15 digits."""
    out = validate(table, schema) if schema is not None else table.copy()
    if "flags" in out.columns:
        out["flags"] = [flag_names(int(value)) for value in out["flags"]]
    # 15 digits: 402.5, not 402.49999999999994; Parquet keeps every bit.
    text: str = out.to_csv(index=False, header=header, lineterminator="\n", float_format="%.15g")
    return text.encode()


def write_table(
    table: pd.DataFrame,
    path: str | Path,
    schema: Schema | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a table as Parquet or CSV, by the name's ending; whole or not at all.

    Parameters
    ----------
    table : DataFrame
    path : str or Path
        On disk or in a bucket.
    schema : Schema, optional
        What the columns must be; flags are written by name in a CSV.
    metadata : mapping of str to str, optional
        Kept in a Parquet file; a CSV has no room for it.

    Raises
    ------
    TableError
        If the ending is neither ``.csv`` nor ``.parquet``, or the columns are wrong.
    """
    folder, _, name = cloud_path(path).rpartition("/")
    if name.endswith(".parquet") and schema is not None:
        data = parquet_bytes(table, schema, metadata)
    elif name.endswith(".csv"):
        data = csv_bytes(table, schema)
    else:
        raise TableError(f"{path}: a table is written as .csv or .parquet")
    Store(folder).put(name, data)


def read_table(
    path: str | Path, *, columns: Sequence[str] | None = None, allow_missing: bool = False
) -> pd.DataFrame:
    """Read a table that cnapse wrote: a CSV or Parquet file, or a folder of Parquet parts.

    Parameters
    ----------
    path
        File or folder, local or in a bucket.
    columns
        Only these columns.
    allow_missing
        Give columns of `columns` that a CSV does not have as they come: absent.

    Returns
    -------
    DataFrame
        Known columns have the dtypes of :data:`SYNAPSES` and :data:`PARTNERS`; flags are integers.

    Raises
    ------
    LayerNotFoundError, TableError
    """
    location = cloud_path(path)
    folder, _, name = location.rpartition("/")
    if name.endswith((".csv", ".parquet")):
        store, names = Store(folder), [name]
    else:
        store = Store(location)
        names = [n for n in store.names() if n.endswith(".parquet") and "/" not in n]
        if not names:
            raise LayerNotFoundError(
                f"no table at {location}: expected a .csv, a .parquet or parts"
            )
    try:
        if name.endswith(".csv"):
            table = _from_csv(store.read(name))
        else:
            table = pd.concat([read_part(store, n) for n in names], ignore_index=True)
    except DamagedFileError as error:
        raise TableError(f"{error.path} is not a table that can be read: {error.why}") from error
    except ValueError as error:
        raise TableError(f"{location} is not a table that can be read: {error}") from error
    if columns is None:
        return table
    missing = [c for c in columns if c not in table.columns]
    if missing and not allow_missing:
        raise TableError(f"{location} has no column {', '.join(missing)}; it has {list(table)}")
    return table[[c for c in columns if c in table.columns]]


def read_metadata(path: str | Path) -> dict[str, str]:
    """How a Parquet table was made: ``cnapse_assign`` holds the parameters as JSON.

    Parameters
    ----------
    path
        A Parquet file, or a folder of parts.

    Raises
    ------
    LayerNotFoundError, TableError
    """
    location = cloud_path(path)
    if not location.endswith(".parquet"):
        names = [n for n in Store(location).names() if n.endswith(".parquet") and "/" not in n]
        if not names:
            raise LayerNotFoundError(f"no table at {location}: expected a .parquet or parts")
        location = f"{location}/{min(names)}"
    folder, _, name = location.rpartition("/")
    data = io.BytesIO(Store(folder).read(name))
    try:
        found = pq.read_schema(data).metadata or {}
    except (pa.ArrowException, OSError, ValueError) as error:
        said = " ".join(str(error).split())
        raise TableError(f"{location} is not a Parquet table: {said}") from error
    return {key.decode(): value.decode() for key, value in found.items()}


def _field_notes(column: Column) -> dict[str, str]:
    return {"unit": column.unit, "meaning": column.meaning}


def parse_parquet(data: bytes, path: str = "a table") -> pd.DataFrame:
    """The table in the bytes of a Parquet file, its checksums looked at.

    Parameters
    ----------
    data : bytes
    path : str
        The file, for errors.

    Raises
    ------
    DamagedFileError
        If the bytes are not those of a whole table.
    """
    try:
        arrow = pq.read_table(io.BytesIO(data), page_checksum_verification=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedFileError(path, " ".join(str(error).split())) from error
    table: pd.DataFrame = arrow.to_pandas()
    return table


def read_part(store: Store, name: str) -> pd.DataFrame:
    """A Parquet file of a run.

    Raises
    ------
    LayerNotFoundError
        If it is not there.
    DamagedFileError
        If it is damaged.
    """
    return parse_parquet(store.read(name), f"{store.path}/{name}")


_DTYPES = {
    column.name: column.dtype
    for schema in (CORRECTED_SYNAPSES, CORRECTED_PARTNERS)
    for column in schema.columns
}


def _from_csv(data: bytes) -> pd.DataFrame:
    header = pd.read_csv(io.BytesIO(data), nrows=0).columns
    text = [name for name in header if _DTYPES.get(name) == "str" or name == "flags"]
    numbers = {
        name: np.dtype(_DTYPES[name]) for name in header if name in _DTYPES and name not in text
    }
    dtypes: dict[str, Any] = {**numbers, **dict.fromkeys(text, "str")}
    try:
        # Else 1e30 would become some other id, with a warning only.
        with np.errstate(invalid="raise"):
            table = pd.read_csv(io.BytesIO(data), dtype=dtypes)
    except (FloatingPointError, OverflowError) as error:
        raise ValueError("it has a number that is too large for its column") from error
    for name in text:
        table[name] = table[name].fillna("")
    if "flags" in table.columns:
        table["flags"] = np.array([parse_flags(t) for t in table["flags"]], dtype=np.uint32)
    return table
