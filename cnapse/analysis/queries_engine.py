"""A DuckDB database of its own on this disk: bounded memory, errors as one line.

Values reach it as bound parameters, files through its readers' arguments. What stands in the text
of a query is ours.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnapse.errors import ConfigError, StorageError, TableError

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

__all__ = ["MEMORY_GB", "Engine", "in_frame"]

MEMORY_GB = 2.0
"""What DuckDB may hold in memory unless said otherwise; the rest goes to the disk (``TMPDIR``)."""

_LEAST_GB = 0.1
_BATCH_ROWS = 1 << 16


class Engine:
    """A database in a temporary folder, deleted when it is closed or forgotten.

    Parameters
    ----------
    memory_gb : float
        The most that DuckDB holds in memory.
    name : str
        What errors call the table that is read.

    Raises
    ------
    ConfigError
        If the memory is too little to work with.
    """

    def __init__(self, memory_gb: float = MEMORY_GB, name: str = "the table") -> None:
        import duckdb

        if not memory_gb >= _LEAST_GB:
            raise ConfigError(f"memory of {memory_gb:g} GB: give at least {_LEAST_GB:g}")
        self.memory_gb, self.name = memory_gb, name
        self._numbers = itertools.count()
        folder = tempfile.mkdtemp(prefix="cnapse-tables-")
        self._connection = duckdb.connect(
            str(Path(folder) / "rows.duckdb"),
            config={
                "memory_limit": f"{memory_gb * 1000:.0f}MB",
                "temp_directory": str(Path(folder) / "spill"),
                # Nothing is to be fetched from the network behind the user's back.
                "autoinstall_known_extensions": "false",
            },
        )
        self._closing = weakref.finalize(self, _close, self._connection, folder)

    def close(self) -> None:
        """Delete the database; results that were fetched stay."""
        self._closing()

    def number(self) -> int:
        """A number that names a new set of tables."""
        return next(self._numbers)

    def run(self, query: str, parameters: Sequence[object] = ()) -> None:
        """Run a statement without a result."""
        with self.errors():
            self._connection.execute(query, list(parameters))

    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """The result as tuples."""
        with self.errors():
            return self._connection.execute(query, list(parameters)).fetchall()

    def row(self, query: str, parameters: Sequence[object] = ()) -> tuple[Any, ...]:
        """The one row of a result."""
        return self.rows(query, parameters)[0]

    def batches(self, query: str, parameters: Sequence[object] = ()) -> Iterator[pa.RecordBatch]:
        """The result, some rows at a time; at least one batch, which may have none."""
        with self.errors():
            cursor = self._connection.cursor()
        try:
            with self.errors():
                reader = cursor.sql(query, params=list(parameters)).to_arrow_reader(_BATCH_ROWS)
            empty = True
            while True:
                with self.errors():
                    batch = next(reader, None)
                if batch is None:
                    break
                empty = False
                yield batch
            if empty:
                yield _empty(reader.schema)
        finally:
            cursor.close()

    def table(self, query: str, parameters: Sequence[object] = ()) -> pa.Table:
        """The result as an Arrow table."""
        import pyarrow as pa

        return pa.Table.from_batches(list(self.batches(query, parameters)))

    def frame(self, query: str, parameters: Sequence[object] = ()) -> pd.DataFrame:
        """The result as a DataFrame; see `in_frame`."""
        return in_frame(self.table(query, parameters))

    def view_parquet(self, name: str, files: Sequence[Path]) -> None:
        """A view of Parquet files that are read when it is."""
        with self.errors():
            self._connection.read_parquet([_literal(file) for file in files]).create_view(name)

    def load(self, name: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        """A table of batches, copied to this database.

        Raises
        ------
        Exception
            Whatever the batches raise.
        """
        import pyarrow as pa

        failed: list[Exception] = []

        def guarded() -> Iterator[pa.RecordBatch]:
            try:
                yield from batches
            except Exception as error:
                failed.append(error)
                raise

        incoming = f"incoming_{self.number()}"
        reader = pa.RecordBatchReader.from_batches(schema, guarded())
        with self.errors():
            self._connection.register(incoming, reader)
        try:
            self.run(f"CREATE TABLE {name} AS SELECT * FROM {incoming}")  # noqa: S608 - ours
        except Exception:
            # DuckDB wraps it in an error of its own.
            if failed:
                raise failed[0] from None
            raise
        finally:
            with self.errors():
                self._connection.unregister(incoming)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """What DuckDB says, as one line: `StorageError` for want of room, else `TableError`."""
        import duckdb

        try:
            yield
        except duckdb.OutOfMemoryException as error:
            raise StorageError(
                f"{self.name}: needs more than {self.memory_gb:g} GB of memory, or the disk for "
                f"temporary files is full ({tempfile.gettempdir()}): give more with --memory, or "
                "another disk with the environment variable TMPDIR"
            ) from error
        except duckdb.Error as error:
            said = " ".join(str(error).splitlines()[0].split())
            raise TableError(f"{self.name} cannot be read: {said}") from error


def in_frame(table: pa.Table) -> pd.DataFrame:
    """An Arrow table as a DataFrame that keeps ids: integers with gaps are ``UInt64``, not floats.

    Parameters
    ----------
    table : Table
    """
    import pandas as pd
    import pyarrow as pa

    frame: pd.DataFrame = table.to_pandas()
    for field, column in zip(table.schema, table.columns, strict=True):
        if pa.types.is_unsigned_integer(field.type) and column.null_count:
            kept = np.asarray(column.fill_null(0).to_numpy())
            values = pd.arrays.IntegerArray(kept, np.asarray(column.is_null().to_numpy()))
            frame[field.name] = values
    return frame


def _literal(file: Path) -> str:
    """A path in which nothing is a pattern."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in str(file))


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _close(connection: duckdb.DuckDBPyConnection, folder: str) -> None:
    connection.close()
    shutil.rmtree(folder, ignore_errors=True)
