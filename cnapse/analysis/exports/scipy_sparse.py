"""Matrices for numpy and scipy."""

from __future__ import annotations

from pathlib import Path

from cnapse.analysis.exports.export import Export
from cnapse.analysis.exports.plain import cells_as_text
from cnapse.analysis.exports.rows import csv_of

__all__ = ["write_sparse"]


def write_sparse(export: Export, folder: Path) -> None:
    """``sparse_*.npz`` for `scipy.sparse.load_npz` (COO), and ``cells.csv``: who row 0 is."""
    from scipy import sparse

    for name, matrix in export.sparse_matrices():
        sparse.save_npz(folder / f"sparse_{name}.npz", matrix)
    cells_as_text(export).to_csv(folder / "cells.csv", index=False, lineterminator="\n")
    csv_of(export.connectome.edge_batches(), folder / "edges.csv")
