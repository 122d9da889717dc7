"""From a table of partners to a connectome: cells, edges and matrices.

A row of the table is one synapse and one of its postsynaptic cells. An edge is all rows from one
cell to another: how many synapses, and their summed size. What is left out is listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from cnapse.analysis.connectome_tables import REASONS, Tables, Thresholds, build_tables
from cnapse.analysis.queries import Synapses
from cnapse.errors import TableError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from scipy import sparse

__all__ = [
    "DENSE_GB",
    "Connectome",
    "Counts",
    "Thresholds",
    "Weight",
    "connectome_of",
    "dense_refused",
]

Weight = Literal["synapses", "size"]

_PLACES = ("x_pos", "y_pos", "z_pos", "post_x", "post_y", "post_z")

DENSE_GB = 1.0
"""The largest matrix that is made with a number for every pair of cells."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How much of a table became edges.

    Attributes
    ----------
    rows : int
        Of the table.
    left_out : mapping of int
        Rows by the reason why they are left out (`cnapse.analysis.connectome_tables.REASONS`);
        only reasons that occur.
    kept : int
        Rows that make the edges.
    cells, unnamed_cells : int
        Cells, and those of them without a name.
    edges : int
    synapses : int
        Sum over the edges: a synapse counts once for each of its postsynaptic cells.
    size : float
        Sum over the edges, nm3; NaN for tables without sizes.
    autapse_edges, autapse_rows : int
        Cells that have connections to themselves, and rows of these, whether left out or not.
    merged_cells : int
        Cells that are made of several ids of one name.
    """

    rows: int
    left_out: Mapping[str, int]
    kept: int
    cells: int
    unnamed_cells: int
    edges: int
    synapses: int
    size: float
    autapse_edges: int
    autapse_rows: int
    merged_cells: int


class Connectome:
    """Cells and edges of a table of partners; made by `connectome_of`.

    It lives in the database of the `Synapses` it was made of, as long as that is open.

    Parameters
    ----------
    synapses : Synapses
    thresholds : Thresholds
    tables : Tables
    """

    def __init__(self, synapses: Synapses, thresholds: Thresholds, tables: Tables) -> None:
        self.synapses, self.thresholds, self.tables = synapses, thresholds, tables
        self._engine = synapses.engine
        # Cells that rows have, except those that are left out on purpose.
        self._shown = "TRUE" if thresholds.unnamed else "named"

    @property
    def has_sizes(self) -> bool:
        """Whether the table has sizes."""
        return self.tables.has_sizes

    def counts(self) -> Counts:
        """How much of the table became edges."""
        t = self.tables
        reasons = dict(self._left_out())
        of_edges = (
            "SELECT count(*) FILTER (reason = ''), "  # noqa: S608 - names of tables are ours
            "coalesce(sum(synapses) FILTER (reason = ''), 0), "
            f"CAST(sum(units) FILTER (reason = '') AS DOUBLE), coalesce(sum(rows) FILTER "
            f"(reason = ''), 0), count(*) FILTER (pre_cell = post_cell), "
            f"coalesce(sum(rows) FILTER (pre_cell = post_cell), 0) FROM {t.edges}"
        )
        edges, synapses, units, kept, autapses, autapse_rows = self._engine.row(of_edges)
        cells, unnamed, merged = self._engine.row(
            f"SELECT count(*), count(*) FILTER (NOT named), count(*) FILTER (len(ids) > 1) "  # noqa: S608
            f"FROM {t.cells} WHERE {self._shown}"
        )
        empty = 0.0 if self.has_sizes else float("nan")
        return Counts(
            rows=int(kept) + sum(reasons.values()),
            left_out=reasons,
            kept=int(kept),
            cells=cells,
            unnamed_cells=unnamed,
            edges=edges,
            synapses=int(synapses),
            size=empty if units is None else units / t.scale,
            autapse_edges=autapses,
            autapse_rows=int(autapse_rows),
            merged_cells=merged,
        )

    def cells(self) -> pd.DataFrame:
        """All cells of the table, in the order of the rows and columns of matrices.

        Returns
        -------
        DataFrame
            cell (name, or id as text), ids (list of int; empty in tables of names), named, then of
            the edges that are kept: targets, sources (cells), synapses_out, synapses_in, and
            size_out, size_in (nm3; NaN in tables without sizes).
        """
        return self._engine.frame(self._cells_query())

    def edges(self) -> pd.DataFrame:
        """The edge list, in the order of the cells.

        Returns
        -------
        DataFrame
            pre, pre_id, post, post_id: cells by name (or id), and by id: the least of a cell with
            several, ``<NA>`` in tables of names alone. synapses; size, mean_size (nm3; per synapse;
            NaN in tables without sizes). output_fraction, input_fraction: the edge's share of all
            synapses that the presynaptic cell makes and that the postsynaptic cell receives;
            output_fraction_size, input_fraction_size: the same by size. They refer to all rows with
            both cells that pass the thresholds on size and share, so that leaving out weak edges,
            autapses or unnamed cells does not change them.
        """
        return self._engine.frame(self._edges_query())

    def edge_batches(self) -> Iterator[pa.RecordBatch]:
        """The rows of `edges`, some at a time, as Arrow."""
        return self._engine.batches(self._edges_query())

    def matrix(self, of: Weight = "synapses", *, largest_gb: float = DENSE_GB) -> pd.DataFrame:
        """A matrix with a row for each presynaptic and a column for each postsynaptic cell.

        Parameters
        ----------
        of
            Number of synapses (int64), or summed size (float64, nm3).
        largest_gb : float
            Refuse what is larger.

        Returns
        -------
        DataFrame, shape (n, n)
            Index and columns are the cells in the order of `cells`; 0 where there is no edge.

        Raises
        ------
        TableError
            If it is too large; if the table has no sizes.
        """
        import pandas as pd

        labels = self.labels()
        dense_refused(len(labels), largest_gb)
        pre, post, values = self._entries(of)
        matrix = np.zeros((len(labels), len(labels)), values.dtype)
        matrix[pre, post] = values
        return pd.DataFrame(matrix, index=labels, columns=labels)

    def sparse(self, of: Weight = "synapses") -> sparse.coo_array:
        """The same as `matrix`, with the edges alone.

        Raises
        ------
        TableError
            If the table has no sizes.
        """
        from scipy import sparse

        pre, post, values = self._entries(of)
        n = len(self.labels())
        return sparse.coo_array((values, (pre, post)), shape=(n, n))

    def labels(self) -> list[str]:
        """The cells by name, or by id if they have none, in order."""
        query = f"SELECT label FROM {self.tables.cells} WHERE {self._shown} ORDER BY cell"  # noqa: S608
        return [label for (label,) in self._engine.rows(query)]

    def left_out(self) -> pd.DataFrame:
        """Why rows are left out, and how many: reason, meaning, rows."""
        import pandas as pd

        rows = [(name, REASONS[name].meaning, count) for name, count in self._left_out()]
        return pd.DataFrame(rows, columns=["reason", "meaning", "rows"])

    def left_out_batches(self) -> Iterator[pa.RecordBatch]:
        """Every row left out, in order: reason, syn_id, pre, pre_id, post, post_id, size, share."""
        return self._engine.batches(self._rows_query(kept=False))

    def kept_batches(self) -> Iterator[pa.RecordBatch]:
        """Every row that makes an edge, by synapse and cells: also what places and size it has."""
        return self._engine.batches(self._rows_query(kept=True))

    def segment_batches(self) -> Iterator[pa.RecordBatch]:
        """Segments of the rows that are kept: bodyId, instance, pre, post, as neuPrint counts.

        ``pre`` is the number of synapses that it makes, ``post`` that of sites where it receives.
        """
        t = self.tables
        ends = (
            "SELECT pre_key AS id, syn_id, pre_cell AS cell, TRUE AS out FROM kept UNION ALL "
            "SELECT post_key, NULL, post_cell, FALSE FROM kept"
        )
        return self._engine.batches(
            f"WITH kept AS ({self._kept()}), ends AS ({ends}) "  # noqa: S608
            "SELECT e.id AS \"bodyId\", CASE WHEN c.named THEN c.label ELSE '' END AS instance, "
            "count(DISTINCT syn_id) FILTER (out) + count(*) FILTER (out AND syn_id IS NULL) "
            "AS pre, "
            f"count(*) FILTER (NOT out) AS post FROM ends AS e JOIN {t.cells} AS c USING (cell) "
            "WHERE e.id > 0 GROUP BY e.id, c.label, c.named ORDER BY e.id"
        )

    def segment_edge_batches(self) -> Iterator[pa.RecordBatch]:
        """Connections of segments: bodyId_pre, bodyId_post, weight (rows), as neuPrint has them."""
        return self._engine.batches(
            f"WITH kept AS ({self._kept()}) "  # noqa: S608
            'SELECT pre_key AS "bodyId_pre", post_key AS "bodyId_post", count(*) AS weight '
            "FROM kept WHERE pre_key > 0 AND post_key > 0 GROUP BY 1, 2 ORDER BY 1, 2"
        )

    def autapses(self) -> pd.DataFrame:
        """Connections of cells with themselves, left out or not: cell, cell_id, synapses, size."""
        t = self.tables
        return self._engine.frame(
            "SELECT c.label AS cell, c.ids[1] AS cell_id, e.synapses, "  # noqa: S608
            f"{self._size('e.units')} AS size "
            f"FROM {t.edges} AS e JOIN {t.cells} AS c ON c.cell = e.pre_cell "
            "WHERE e.pre_cell = e.post_cell ORDER BY e.pre_cell"
        )

    def unnamed(self) -> pd.DataFrame:
        """Cells without a name, left out or not: cell_id, synapses_out, synapses_in."""
        t = self.tables
        return self._engine.frame(
            "SELECT c.key AS cell_id, "  # noqa: S608
            f"coalesce((SELECT sum(synapses) FROM {t.edges} WHERE pre_cell = c.cell), 0)::BIGINT "
            "AS synapses_out, "
            f"coalesce((SELECT sum(synapses) FROM {t.edges} WHERE post_cell = c.cell), 0)::BIGINT "
            f"AS synapses_in FROM {t.cells} AS c WHERE NOT c.named ORDER BY c.cell"
        )

    def _kept(self) -> str:
        """Rows that make an edge, in SQL."""
        t = self.tables
        return (
            "SELECT r.pre_key, r.post_key, r.syn_id, r.pre_cell, r.post_cell "  # noqa: S608
            f"FROM {t.rows} AS r JOIN {t.edges} AS e ON e.pre_cell = r.pre_cell "
            "AND e.post_cell = r.post_cell WHERE r.reason = '' AND e.reason = ''"
        )

    def _left_out(self) -> list[tuple[str, int]]:
        t = self.tables
        found = self._engine.rows(
            f"SELECT reason, count(*) FROM {t.rows} WHERE reason <> '' GROUP BY reason "  # noqa: S608
            f"UNION ALL SELECT reason, CAST(sum(rows) AS BIGINT) FROM {t.edges} "
            "WHERE reason <> '' GROUP BY reason"
        )
        order = list(REASONS)
        return sorted(found, key=lambda item: order.index(item[0]))

    def _size(self, units: str) -> str:
        """A sum of sizes in nm3, in SQL."""
        if not self.has_sizes:
            return "CAST('NaN' AS DOUBLE)"
        # Both steps are powers of two, thus exact.
        return f"(CAST(coalesce({units}, 0) AS DOUBLE) / CAST({self.tables.scale!r} AS DOUBLE))"

    def _entries(self, of: Weight) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row, column and value of each edge."""
        if of not in ("synapses", "size"):
            raise TableError(f"matrix of {of!r}: there are synapses and size")
        if of == "size" and not self.has_sizes:
            raise TableError(f"{self.synapses.path} has no sizes: no matrix of sizes can be made")
        t = self.tables
        value = "e.synapses" if of == "synapses" else self._size("e.units")
        # Without unnamed cells, which come last, the numbers of the others have no gaps.
        table = self._engine.table(
            f"SELECT e.pre_cell, e.post_cell, {value} AS value FROM {t.edges} AS e "  # noqa: S608
            "WHERE e.reason = '' ORDER BY e.pre_cell, e.post_cell"
        )
        pre, post, values = (table.column(name).to_numpy() for name in table.column_names)
        return pre, post, values

    def _cells_query(self) -> str:
        t = self.tables
        sides = []
        for side, end, other in (("out", "pre", "targets"), ("in", "post", "sources")):
            sides.append(
                f"{side}s AS (SELECT {end}_cell AS cell, count(*) AS {other}, "  # noqa: S608
                f"CAST(sum(synapses) AS BIGINT) AS synapses_{side}, sum(units) AS units_{side} "
                f"FROM {t.edges} WHERE reason = '' GROUP BY 1)"
            )
        return (
            f"WITH {', '.join(sides)} SELECT c.label AS cell, c.ids, c.named, "  # noqa: S608
            "coalesce(targets, 0) AS targets, coalesce(sources, 0) AS sources, "
            "coalesce(synapses_out, 0) AS synapses_out, coalesce(synapses_in, 0) AS synapses_in, "
            f"{self._size('units_out')} AS size_out, {self._size('units_in')} AS size_in "
            f"FROM {t.cells} AS c LEFT JOIN outs USING (cell) LEFT JOIN ins USING (cell) "
            f"WHERE {self._shown} ORDER BY c.cell"
        )

    def _edges_query(self) -> str:
        t = self.tables
        size = self._size("e.units")
        fractions = []
        for name, end in (("output", "pre"), ("input", "post")):
            whole = f"sum(CAST(e.synapses AS HUGEINT)) OVER (PARTITION BY e.{end}_cell)"
            units = f"sum(e.units) OVER (PARTITION BY e.{end}_cell)"
            by_size = (
                f"CAST(coalesce(e.units, 0) AS DOUBLE) / nullif(CAST({units} AS DOUBLE), 0)"
                if self.has_sizes
                else "CAST('NaN' AS DOUBLE)"
            )
            fractions.append((f"{name}_fraction", f"CAST(e.synapses AS DOUBLE) / {whole}"))
            fractions.append((f"{name}_fraction_size", f"coalesce({by_size}, 'NaN'::DOUBLE)"))
        fractions.sort(key=lambda item: item[0].endswith("size"))
        shares = ", ".join(f"{text} AS {name}" for name, text in fractions)
        return (
            f"SELECT a.label AS pre, a.ids[1] AS pre_id, b.label AS post, b.ids[1] AS post_id, "  # noqa: S608
            f"w.* EXCLUDE (pre_cell, post_cell, reason) FROM ("
            f"SELECT e.pre_cell, e.post_cell, e.reason, e.synapses, {size} AS size, "
            f"{size} / e.synapses AS mean_size, {shares} FROM {t.edges} AS e) AS w "
            f"JOIN {t.cells} AS a ON a.cell = w.pre_cell "
            f"JOIN {t.cells} AS b ON b.cell = w.post_cell "
            "WHERE w.reason = '' ORDER BY w.pre_cell, w.post_cell"
        )

    def _rows_query(self, *, kept: bool) -> str:
        t = self.tables
        there = self.synapses.layout.names
        why = "coalesce(nullif(r.reason, ''), e.reason)"
        columns = ["r.syn_id"] if kept else [f"{why} AS reason", "r.syn_id"]
        for end, cell in (("pre", "a"), ("post", "b")):
            columns.append(f"coalesce({cell}.label, '') AS {end}")
            columns.append(f"nullif(r.{end}_key, 0) AS {end}_id")
        more = [*_PLACES, "size", "share"] if kept else ["size", "share"]
        columns += [f"r.{name}" for name in more if name in there]
        return (
            f"SELECT {', '.join(columns)} FROM {t.rows} AS r "  # noqa: S608
            f"LEFT JOIN {t.edges} AS e ON r.reason = '' AND e.pre_cell = r.pre_cell "
            "AND e.post_cell = r.post_cell "
            f"LEFT JOIN {t.cells} AS a ON a.cell = r.pre_cell "
            f"LEFT JOIN {t.cells} AS b ON b.cell = r.post_cell "
            # A join on several processors leaves the rows in any order.
            f"WHERE {why} {'=' if kept else '<>'} '' ORDER BY ALL"
        )


def connectome_of(synapses: Synapses, thresholds: Thresholds | None = None) -> Connectome:
    """Make a connectome of the rows of a table.

    Parameters
    ----------
    synapses : Synapses
        A table, or what a query leaves of it; fractions then refer to these rows.
    thresholds : Thresholds, optional

    Raises
    ------
    TableError
        If a size is negative or infinite; if an id has two names, or a cell without a name the id
        that another has for a name; if a threshold is on a column that the table has not.
    """
    wanted = thresholds or Thresholds()
    return Connectome(synapses, wanted, build_tables(synapses, wanted))


def dense_refused(cells: int, largest_gb: float = DENSE_GB) -> None:
    """Refuse a matrix that would be too large.

    Raises
    ------
    TableError
        If n x n numbers of 8 bytes are more than `largest_gb`.
    """
    gigabytes = 8 * cells**2 / 1e9
    if gigabytes > largest_gb:
        raise TableError(
            f"a matrix of {cells:,} x {cells:,} cells would need {gigabytes:,.1f} GB: take "
            "--export sparse (scipy) or the edge list, or leave cells out with --named-only"
        )
