"""Edge list, cells and matrices as CSV and Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnapse.analysis.exports.export import Export
from cnapse.analysis.exports.rows import csv_of, parquet_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["cells_as_text", "write_csv", "write_parquet"]


def write_csv(export: Export, folder: Path) -> None:
    """``edges.csv``, ``cells.csv``, and ``matrix_*.csv``: first row and column are the cells."""
    csv_of(export.connectome.edge_batches(), folder / "edges.csv")
    cells_as_text(export).to_csv(folder / "cells.csv", index=False, lineterminator="\n")
    for name, matrix in export.matrices():
        matrix.to_csv(folder / f"matrix_{name}.csv", lineterminator="\n")


def write_parquet(export: Export, folder: Path) -> None:
    """``edges.parquet``, ``cells.parquet``, and ``matrix_*.parquet``: pandas restores the index."""
    parquet_of(export.connectome.edge_batches(), folder / "edges.parquet")
    cells_as_text(export).to_parquet(folder / "cells.parquet", index=False)
    for name, matrix in export.matrices():
        matrix.to_parquet(folder / f"matrix_{name}.parquet")


def cells_as_text(export: Export) -> pd.DataFrame:
    """The cells, the ids of each joined by spaces; ``index`` is their row in every matrix."""
    cells = export.connectome.cells()
    cells["ids"] = [" ".join(map(str, ids)) for ids in cells["ids"]]
    cells.insert(0, "index", range(len(cells)))
    return cells
