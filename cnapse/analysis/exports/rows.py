"""Rows of any number as one CSV or Parquet file."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cnapse.analysis.queries_engine import in_frame
from cnapse.errors import TableError, storage_error
from cnapse.store import local_path
from cnapse.tables import csv_bytes

__all__ = ["csv_of", "parquet_of", "write_rows"]


def write_rows(batches: Iterable[pa.RecordBatch], path: str | Path) -> int:
    """Write batches as CSV or Parquet, by the name's ending; whole or not at all.

    Parameters
    ----------
    batches : iterable of RecordBatch
        At least one; it may have no rows.
    path
        On this machine. In CSV, flags are names, and floats have 15 digits.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    TableError
        For another ending, or a place in a bucket.
    StorageError
        If the file cannot be written.
    """
    target = local_path(path)
    if target is None:
        raise TableError(f"{path}: rows are written to this machine: copy the file there after")
    if target.suffix not in (".csv", ".parquet"):
        raise TableError(f"{path}: rows are written as .csv or .parquet")
    with _whole(target) as part:
        if target.suffix == ".csv":
            return _write_csv(batches, part)
        return parquet_of(batches, part)


def csv_of(batches: Iterable[pa.RecordBatch], path: Path) -> int:
    """Write batches as CSV, every bit of the floats; the number of rows."""
    rows = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        for number, batch in enumerate(batches):
            frame = in_frame(pa.Table.from_batches([batch]))
            frame.to_csv(file, index=False, header=number == 0, lineterminator="\n")
            rows += batch.num_rows
    return rows


def parquet_of(
    batches: Iterable[pa.RecordBatch], path: Path, metadata: dict[str, str] | None = None
) -> int:
    """Write batches as Parquet; the number of rows."""
    rows = 0
    writer: pq.ParquetWriter | None = None
    try:
        for batch in batches:
            if writer is None:
                schema = batch.schema.with_metadata(metadata)
                writer = pq.ParquetWriter(
                    path, schema, compression="zstd", write_page_checksum=True
                )
            writer.write_batch(batch.replace_schema_metadata(metadata))
            rows += batch.num_rows
    finally:
        if writer is not None:
            writer.close()
    return rows


def _write_csv(batches: Iterable[pa.RecordBatch], path: Path) -> int:
    rows = 0
    with path.open("wb") as file:
        for number, batch in enumerate(batches):
            frame = in_frame(pa.Table.from_batches([batch]))
            file.write(csv_bytes(frame, header=number == 0))
            rows += batch.num_rows
    return rows


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A name to write to, which becomes the file's when all went well."""
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        yield part
        part.replace(target)
    except OSError as error:
        raise storage_error(error, target) from error
    finally:
        part.unlink(missing_ok=True)
