"""A workbook for Excel and LibreOffice: names and ids are text, no formulas or rounded numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cnapse.analysis.exports.export import Export, check_xml
from cnapse.analysis.exports.plain import cells_as_text
from cnapse.errors import TableError

__all__ = ["MOST_CELLS", "write_excel"]

MOST_CELLS = 4096
"""Larger matrices are no use in a spreadsheet, and take minutes to write."""

_MOST_ROWS = (1 << 20) - 1
_LONGEST = 32_767
_IDS = ("pre_id", "post_id", "cell_id", "syn_id", "ids")


def write_excel(export: Export, folder: Path) -> None:
    """``connectome.xlsx``: sheets of edges, cells, matrices, autapses, and what is left out.

    Raises
    ------
    TableError
        If it does not fit a spreadsheet: too many edges or cells, a name that is too long or holds
        a control character.
    """
    from openpyxl import Workbook  # type: ignore[import-untyped]

    connectome = export.connectome
    _check(export)
    book = Workbook(write_only=True)
    edges = (batch for batch in connectome.edge_batches())
    first = next(edges)
    names = first.schema.names
    _fill(book, "edges", names, _rows(first, edges), names)
    cells = cells_as_text(export)
    _fill_frame(book, "cells", cells)
    for name, matrix in export.matrices():
        labels = matrix.columns.tolist()
        rows = ([a, *row] for a, row in zip(labels, matrix.to_numpy().tolist(), strict=True))
        _fill(book, name.replace("_", " "), ["pre \\ post", *labels], rows, ["pre"])
    _fill_frame(book, "autapses", connectome.autapses())
    _fill_frame(book, "left out", connectome.left_out())
    book.save(folder / "connectome.xlsx")


def _check(export: Export) -> None:
    connectome = export.connectome
    counts = connectome.counts()
    labels = connectome.labels()
    check_xml(export.path, labels, "excel")
    too_long = next((label for label in labels if len(label) > _LONGEST), None)
    if too_long is not None:
        raise TableError(
            f"{export.path}: the cell name {too_long[:20]!r}... has {len(too_long):,} letters, and "
            f"Excel takes {_LONGEST:,}: shorten it, or leave --export excel out"
        )
    for count, most, what in (
        (counts.edges, _MOST_ROWS, "edges"),
        (len(labels), MOST_CELLS, "cells"),
    ):
        if count > most:
            raise TableError(
                f"{export.path}: {count:,} {what} are too many for a spreadsheet ({most:,}): take "
                "--export parquet or sparse, or leave weak edges out with --min-synapses"
            )


def _rows(first: Any, others: Iterable[Any]) -> Iterator[Sequence[Any]]:
    for batch in (first, *others):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _fill_frame(book: Any, title: str, frame: Any) -> None:
    names = list(frame.columns)
    rows = (row for row in frame.astype(object).itertuples(index=False, name=None))
    _fill(book, title, names, rows, names)


def _fill(
    book: Any, title: str, header: Sequence[str], rows: Iterable[Sequence[Any]], ids: Sequence[str]
) -> None:
    """One sheet. `ids` are names of the first columns: those of ids are written as text."""
    sheet = book.create_sheet(title)
    sheet.freeze_panes = "B2"
    as_text = [name in _IDS for name in ids] + [False] * (len(header) - len(ids))
    sheet.append([_cell(sheet, name) for name in header])
    for row in rows:
        sheet.append(
            [
                _cell(sheet, str(value) if text and _known(value) else value)
                for value, text in zip(row, as_text, strict=True)
            ]
        )


def _known(value: Any) -> bool:
    """Whether a value is there: neither None, nor pandas' NA, nor NaN."""
    return (
        value is not None
        and not (isinstance(value, float) and math.isnan(value))
        and (str(value) != "<NA>")
    )


def _cell(sheet: Any, value: Any) -> Any:
    from openpyxl.cell import WriteOnlyCell  # type: ignore[import-untyped]

    if not isinstance(value, str):
        return value if _known(value) else None
    cell = WriteOnlyCell(sheet, value=value)
    # What begins with = would be a formula, #N/A an error.
    cell.data_type = "s"
    # So it stays when someone edits the cell.
    cell.quotePrefix = True
    return cell
