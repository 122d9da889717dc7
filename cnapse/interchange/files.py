"""Tables in files, streamed: Parquet, Feather and CSV, a file or a folder of parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet as pq

from cnapse.errors import CnapseError, LayerNotFoundError, TableError
from cnapse.store import Store, cloud_path, local_path

__all__ = ["ENDINGS", "TableFiles"]

_PARQUET = (".parquet", ".pq")
_FEATHER = (".feather", ".arrow")
_TEXT = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t"}
ENDINGS = (*_PARQUET, *_FEATHER, *_TEXT)
"""What the name of a table may end with."""

_BATCH_ROWS = 1 << 18
_BLOCK_BYTES = 1 << 24


class TableFiles:
    """A table: one file, or a folder of files of one kind.

    A local one is never in memory as a whole; of one in a bucket, a file is.

    Parameters
    ----------
    path
        File or folder.

    Attributes
    ----------
    path : str
        With its protocol.
    folder, files : str, list of str
        Where its files are, and their names.
    names : list of str
        Columns.

    Raises
    ------
    LayerNotFoundError
        If it is not there.
    TableError
        If its name ends with none of `ENDINGS`, or it cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = cloud_path(path)
        self.folder = self.path
        self.files: list[str] = self._found()
        self.names = self._names(self.files[0])

    def batches(
        self,
        columns: Sequence[str],
        types: Mapping[str, pa.DataType],
        files: Sequence[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The rows, some at a time.

        Parameters
        ----------
        columns : sequence of str
            Those to read.
        types : mapping of str
            Types of columns of CSV files; other files know theirs.
        files : sequence of str, optional
            Only of these of its files.

        Raises
        ------
        TableError
            If a file is damaged, or a column is missing from one of the parts.
        """
        wanted = list(columns)
        for name in self.files if files is None else files:
            with self._readable(name) as source:
                if name.endswith(_PARQUET):
                    table = pq.ParquetFile(source)
                    # It would leave out what is not there.
                    self._check(name, table.schema_arrow.names, wanted)
                    yield from table.iter_batches(_BATCH_ROWS, columns=wanted)
                elif name.endswith(_FEATHER):
                    reader = pa.ipc.open_file(source)
                    self._check(name, reader.schema.names, wanted)
                    for number in range(reader.num_record_batches):
                        yield reader.get_batch(number).select(wanted)
                else:
                    yield from _csv(source, name, wanted, types)

    def _check(self, name: str, there: Sequence[str], wanted: Sequence[str]) -> None:
        missing = [column for column in wanted if column not in there]
        if missing:
            raise TableError(
                f"{self.folder}/{name} has no column {', '.join(missing)}, and {self.files[0]} "
                "has: parts of a table have the same columns"
            )

    def _found(self) -> list[str]:
        folder, _, name = self.path.rpartition("/")
        if name.endswith(ENDINGS):
            if not Store(folder).exists(name):
                raise LayerNotFoundError(f"no table at {self.path}: check the path")
            self.folder = folder
            return [name]
        if Store(folder).exists(name):
            raise TableError(
                f"{self.path} is no table by its name: expected one that ends with one of "
                f"{', '.join(ENDINGS)}, or .h5 (CREMI)"
            )
        names = [n for n in Store(self.path).names() if "/" not in n and n.endswith(ENDINGS)]
        kinds = {Path(n).suffix for n in names}
        if len(kinds) != 1:
            found = f"found {', '.join(sorted(kinds))} files in it" if kinds else "found none"
            raise LayerNotFoundError(
                f"no table at {self.path}: expected a file, or a folder of files, that end with "
                f"one of {', '.join(ENDINGS)}; {found}"
            )
        return sorted(names)

    def _names(self, name: str) -> list[str]:
        with self._readable(name) as source:
            if name.endswith(_PARQUET):
                return list(pq.read_schema(source).names)
            if name.endswith(_FEATHER):
                return list(pa.ipc.open_file(source).schema.names)
            with pa.csv.open_csv(source, **_csv_options(name, None, {})) as reader:
                return list(reader.schema.names)

    @contextmanager
    def _readable(self, name: str) -> Iterator[Any]:
        """A file as pyarrow reads it; what it says about bad ones, as one line."""
        where = f"{self.folder}/{name}"
        local = local_path(where)
        try:
            if local is not None:
                # What is compressed is known by its name.
                with (
                    pa.input_stream(str(local))
                    if name.endswith(".gz")
                    else pa.OSFile(str(local)) as source
                ):
                    yield source
            else:
                content = pa.BufferReader(Store(self.folder).read(name))
                yield pa.CompressedInputStream(content, "gzip") if name.endswith(".gz") else content
        except CnapseError:
            raise
        except (pa.ArrowException, KeyError, OSError, UnicodeDecodeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the system; pyarrow's own for damaged files have no number
            said = " ".join(str(error).split())
            raise TableError(f"{where} cannot be read as a table: {said}") from error


def _csv(
    source: Any, name: str, columns: list[str], types: Mapping[str, pa.DataType]
) -> Iterator[pa.RecordBatch]:
    with pa.csv.open_csv(source, **_csv_options(name, columns, types)) as reader:
        yield from reader


def _csv_options(
    name: str, columns: list[str] | None, types: Mapping[str, pa.DataType]
) -> dict[str, Any]:
    ending = next(end for end in _TEXT if name.endswith(end))
    # With types given for all columns that are read, none is guessed from the first block.
    return {
        "read_options": pa.csv.ReadOptions(block_size=_BLOCK_BYTES),
        "parse_options": pa.csv.ParseOptions(delimiter=_TEXT[ending]),
        "convert_options": pa.csv.ConvertOptions(
            include_columns=columns or [], column_types=dict(types), strings_can_be_null=True
        ),
    }
