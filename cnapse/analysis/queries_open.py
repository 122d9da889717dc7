"""A table of partners, wherever and whatever it is, as two views of a database.

``synapse_rows`` has the table's rows under our names. ``keyed_rows`` adds what tells cells apart:
for each end ``pre_key`` (its id, 0 if it has none) and ``pre_name`` (the name that the table gives
it, empty if it has none or the id stands in its place); ``post_key`` and ``post_name`` likewise.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from cnapse.analysis.queries_engine import Engine
from cnapse.analysis.queries_layout import Layout, Reading, layout_of
from cnapse.config import load_config
from cnapse.errors import DamagedFileError, LayerNotFoundError, TableError
from cnapse.interchange.files import ENDINGS, TableFiles
from cnapse.names import Names
from cnapse.store import Store, local_path

__all__ = ["open_table", "partners_path"]

_PARQUET = (".parquet", ".pq")
_TEXT = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
_HDF5 = (".h5", ".hdf", ".hdf5")
# Where the partners of a folder are, in this order.
_PLACES = ("tables/partners", "partners.parquet", "partners.csv", "partners")
_DIGITS = "'[1-9][0-9]{0,19}'"


def partners_path(path: str | Path) -> str:
    """The table of partners of a ``cnapse.toml``, a run's folder, a folder of tables, or itself.

    Parameters
    ----------
    path
        Local path or in a bucket.

    Raises
    ------
    LayerNotFoundError
        If there is none.
    TableError
        For a CREMI file, which names no cells.
    """
    place = str(path).rstrip("/")
    if place.endswith(".toml"):
        place = load_config(place).output
    if place.endswith(_HDF5):
        raise TableError(
            f"{place}: a CREMI file names places, not cells: no connectome can be made of it; give "
            "a table of partners"
        )
    if place.endswith(ENDINGS) or _is_file(place) or _holds_parts(place):
        return place
    for name in _PLACES:
        folder, _, last = f"{place}/{name}".rpartition("/")
        if Path(name).suffix:
            if Store(folder).exists(last):
                return f"{folder}/{last}"
        elif _holds_parts(f"{place}/{name}"):
            return f"{place}/{name}"
    raise LayerNotFoundError(
        f"no table of partners at {place}: give a cnapse.toml, a run's folder, or a table as "
        "Parquet, Feather or CSV, a file or a folder of parts"
    )


def open_table(
    engine: Engine, path: str, reading: Reading, names: Names, *, verify: bool
) -> Layout:
    """Make the views of a table.

    Local Parquet is read in place whenever it is asked for; anything else is copied to the
    database's own folder once, some rows at a time.

    Parameters
    ----------
    engine : Engine
    path : str
    reading : Reading
    names : Names
        Where there are any, they alone name the ids.
    verify : bool
        Read Parquet once from end to end to check its checksums.

    Raises
    ------
    LayerNotFoundError, TableError, ConfigError
    """
    files = TableFiles(path)
    kinds = _types(files)
    shown = files.path.removeprefix("file://")
    layout = layout_of(shown, kinds, reading, text=files.files[0].endswith(_TEXT))
    local = _local_parquet(files)
    if local and layout.in_place(kinds) and len({n.lower() for n in kinds}) == len(kinds):
        if verify:
            _verify(local, [*layout.columns.values()])
        engine.view_parquet("files", local)
        engine.run(f"CREATE VIEW synapse_rows AS SELECT {layout.selection()} FROM files")  # noqa: S608
    else:
        engine.load("synapse_rows", layout.schema, _converted(files, layout))
    _load_names(engine, names)
    engine.run(f"CREATE VIEW keyed_rows AS SELECT *, {_keys(layout, names)} FROM synapse_rows")  # noqa: S608
    return layout


def _is_file(place: str) -> bool:
    local = local_path(place)
    return local is not None and local.is_file()


def _holds_parts(place: str) -> bool:
    """Whether a folder holds files of a table itself, not those of several tables."""
    found = Store(place).names()
    parts = [
        n for n in found if "/" not in n and n.endswith((*_PARQUET, ".feather", ".arrow", *_TEXT))
    ]
    return bool(parts) and not {"partners.parquet", "partners.csv"} & {*parts}


def _local_parquet(files: TableFiles) -> list[Path]:
    """Its files, if all are Parquet on this machine."""
    places = [local_path(f"{files.folder}/{name}") for name in files.files]
    local = [place for place in places if place is not None and place.name.endswith(_PARQUET)]
    return local if len(local) == len(places) else []


def _types(files: TableFiles) -> dict[str, pa.DataType]:
    """Types of the columns; of text files, text."""
    if files.files[0].endswith(_TEXT):
        return dict.fromkeys(files.names, pa.string())
    for batch in files.batches(files.names, {}, files.files[:1]):
        return {field.name: field.type for field in batch.schema}
    place = local_path(f"{files.folder}/{files.files[0]}")
    if place is not None and place.name.endswith(_PARQUET):
        return {field.name: field.type for field in pq.read_schema(place)}
    return dict.fromkeys(files.names, pa.null())


def _converted(files: TableFiles, layout: Layout) -> Iterator[pa.RecordBatch]:
    theirs = list(dict.fromkeys(layout.columns.values()))
    for batch in files.batches(theirs, layout.csv_types()):
        yield layout.convert(batch, files.path.removeprefix("file://"))


def _verify(files: list[Path], columns: list[str]) -> None:
    for file in files:
        try:
            with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
                for _ in parquet.iter_batches(columns=columns):
                    pass
        except (pa.ArrowException, OSError, ValueError) as error:
            why = " ".join(str(error).split())
            raise DamagedFileError(str(file), why) from error


def _load_names(engine: Engine, names: Names) -> None:
    ids = [i for i in names.ids if names.of([i])[0].strip()]
    batch = pa.record_batch(
        {"id": pa.array(ids, pa.uint64()), "name": pa.array(names.of(ids), pa.string())}
    )
    engine.load("names", batch.schema, iter([batch]))


def _keys(layout: Layout, names: Names) -> str:
    """What tells the cells at both ends apart, in SQL."""
    return ", ".join(_key(layout, end, listed=len(names) > 0) for end in ("pre", "post"))


def _key(layout: Layout, end: str, *, listed: bool) -> str:
    there = layout.names
    text = f"trim(coalesce({end}, ''))" if end in there else "''"
    digits = (
        f"CASE WHEN regexp_full_match({text}, {_DIGITS}) "
        f"THEN coalesce(try_cast({text} AS UBIGINT), 0) ELSE 0 END"
        if end in there
        else "CAST(0 AS UBIGINT)"
    )
    key = f"{end}_id" if f"{end}_id" in there else None
    known = f"coalesce(nullif({key}, 0), {digits})" if key else digits
    known = f"CAST({known} AS UBIGINT)"
    name = f"CASE WHEN {text} = '0' OR {text} = CAST({known} AS VARCHAR) THEN '' ELSE {text} END"
    if listed:
        name = f"CASE WHEN {known} > 0 THEN '' ELSE {name} END"
    return f"{known} AS {end}_key, {name} AS {end}_name"
