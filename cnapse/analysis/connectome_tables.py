"""Cells and edges of a table of partners, made inside the database: any size in bounded memory.

1. *Cells*: the distinct (id, name) of all ends. Ids of one name are one cell; an id without a name
   is a cell of its own. Cells are numbered, those with a name first, in the order of their names,
   then the others in the order of their ids.
2. *Rows*: each gets the numbers of its cells, or the reason why it is left out.
3. *Edges*: rows are added up per synapse and pair of cells, then per pair of cells.

Sizes are added up as integers, so that a sum depends neither on the order of the rows nor on the
number of threads. They are counted in a power of two below the last digit of any size that is
more than 1e-10 of the largest one (for 10^7 rows; smaller ones are rounded to that unit).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cnapse.analysis.queries import Synapses
from cnapse.analysis.queries_engine import Engine
from cnapse.errors import ConfigError, TableError

__all__ = ["REASONS", "Reason", "Tables", "Thresholds", "build_tables"]

# A sum of n numbers of b bits has at most b + log2(n) bits; a HUGEINT has 127.
_SUM_BITS = 125
_LARGEST_POWER = 1000


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a row is left out."""

    name: str
    meaning: str


REASONS = {
    reason.name: reason
    for reason in (
        Reason("no_pre", "no presynaptic cell"),
        Reason("no_post", "no postsynaptic cell"),
        Reason("min_size", "size below --min-size, or unknown"),
        Reason("min_share", "share below --min-share, or unknown"),
        Reason("unnamed", "a cell without a name (--named-only)"),
        Reason("autapse", "from a cell to itself (--no-autapses)"),
        Reason("min_synapses", "an edge of fewer synapses than --min-synapses"),
    )
}
"""Reasons by name; a row has the first that holds."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What counts as a connection.

    Attributes
    ----------
    min_size : float
        Least size of a row (share x volume of the synapse), nm3; smaller rows are left out.
    min_share : float
        Least share of a row among the partners of its synapse.
    min_synapses : int
        Least number of synapses of an edge.
    autapses : bool
        Whether connections of a cell with itself count.
    unnamed : bool
        Whether cells without a name count.
    """

    min_size: float = 0.0
    min_share: float = 0.0
    min_synapses: int = 1
    autapses: bool = True
    unnamed: bool = True

    def __post_init__(self) -> None:
        for name in ("min_size", "min_share", "min_synapses"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ConfigError(f"--{name.replace('_', '-')} {value}: must be 0 or more")
        if self.min_share > 1:
            raise ConfigError(f"--min-share {self.min_share:g}: a share is at most 1")


@dataclass(frozen=True, slots=True)
class Tables:
    """Names of the tables of one connectome in its database.

    Attributes
    ----------
    cells : str
        cell (number), label, id (the least; 0 for none), ids (list), named.
    rows : str
        A view: the rows, with pre_cell, post_cell and reason (empty for those that count).
    edges : str
        All pairs of cells of rows without a reason of their own: pre_cell, post_cell, rows,
        synapses, units (sum of sizes), reason.
    scale : float
        Units of a nm3.
    has_sizes : bool
        Whether any row has a size.
    """

    cells: str
    rows: str
    edges: str
    scale: float
    has_sizes: bool


def build_tables(synapses: Synapses, thresholds: Thresholds) -> Tables:
    """Make cells, rows and edges of some rows of a table.

    Raises
    ------
    TableError
        If a size is negative or infinite; if an id has two names, or a cell without a name the id
        that another has for a name; if a threshold is on a column that the table has not.
    """
    engine, number = synapses.engine, synapses.engine.number()
    there = synapses.layout.names
    for name, least in (("size", thresholds.min_size), ("share", thresholds.min_share)):
        if least > 0 and name not in there:
            raise TableError(f"{synapses.path} has no column {name}: leave --min-{name} out")
    base = f"base_{number}"
    _base_view(synapses, base)
    scale, has_sizes = _scale(synapses, base)
    cells = f"cells_{number}"
    by_id = _cells(synapses, base, cells)
    rows = f"rows_{number}"
    _rows_view(engine, base, rows, _joins(cells, by_id=by_id), thresholds)
    edges = f"edges_{number}"
    _edges(engine, rows, edges, cells, thresholds, scale)
    return Tables(cells, rows, edges, scale, has_sizes)


def _base_view(synapses: Synapses, base: str) -> None:
    """The rows that were asked for, with sizes and shares where they are known."""
    there = synapses.layout.names
    text, values = synapses.where
    columns = [
        f"nullif({name}, 'NaN'::DOUBLE) AS {name}"
        if name in there
        else f"CAST(NULL AS DOUBLE) AS {name}"
        for name in ("size", "share")
    ]
    syn = "nullif(syn_id, 0)" if "syn_id" in there else "CAST(NULL AS UBIGINT)"
    others = [name for name in there if name not in ("syn_id", "size", "share", "pre", "post")]
    others = [name for name in others if name not in ("pre_id", "post_id")]
    keys = "pre_key, pre_name, post_key, post_name"
    select = ", ".join([f"{syn} AS syn_id", keys, *columns, *others])
    query = f"SELECT {select} FROM keyed_rows WHERE {text}"  # noqa: S608 - values are bound
    if values:
        # A view cannot have parameters.
        synapses.engine.run(f"CREATE TABLE {base} AS {query}", values)
    else:
        synapses.engine.run(f"CREATE VIEW {base} AS {query}")


def _scale(synapses: Synapses, base: str) -> tuple[float, bool]:
    """The power of two by which sizes become integers, and whether there are sizes."""
    count, sizes, least, largest = synapses.engine.row(
        f"SELECT count(*), count(size), min(size), max(size) FROM {base}"  # noqa: S608
    )
    if not sizes:
        return 1.0, False
    if least < 0 or math.isinf(largest):
        wrong = least if least < 0 else largest
        raise TableError(
            f"{synapses.path}: a size is {wrong:g}: sizes are volumes in nm3, 0 or more"
        )
    bits = math.frexp(largest)[1]
    power = _SUM_BITS - bits - count.bit_length()
    return math.ldexp(1.0, min(power, _LARGEST_POWER)), True


def _cells(synapses: Synapses, base: str, cells: str) -> bool:
    """Number the cells; whether all ends are told apart by their ids alone."""
    engine, ends = synapses.engine, f"ends_of_{cells}"
    engine.run(
        f"CREATE TABLE {ends} AS WITH found AS ("  # noqa: S608 - all of this is ours
        f"SELECT DISTINCT pre_key AS id, pre_name AS own FROM {base} UNION "
        f"SELECT DISTINCT post_key, post_name FROM {base}) "
        "SELECT found.id, found.own, CASE WHEN found.id > 0 THEN "
        "coalesce(names.name, max(found.own) OVER (PARTITION BY found.id)) ELSE found.own END "
        "AS name FROM found LEFT JOIN names USING (id) WHERE found.id > 0 OR found.own <> ''"
    )
    _check_names(synapses, ends)
    engine.run(
        f"CREATE TABLE {cells} AS WITH grouped AS ("  # noqa: S608
        "SELECT name, CASE WHEN name = '' THEN id ELSE 0 END AS key, "
        "list_sort(list(DISTINCT id) FILTER (id > 0)) AS ids "
        f"FROM {ends} GROUP BY 1, 2) "
        "SELECT CAST(row_number() OVER (ORDER BY name = '', name, key) - 1 AS INTEGER) AS cell, "
        "CASE WHEN name = '' THEN CAST(key AS VARCHAR) ELSE name END AS label, name, key, "
        "coalesce(ids, []) AS ids, name <> '' AS named FROM grouped"
    )
    (named_alone,) = engine.row(f"SELECT count(*) FROM {ends} WHERE id = 0")  # noqa: S608
    # Text is slow to compare, row by row.
    own = "''" if named_alone == 0 else "e.own"
    engine.run(
        f"CREATE TABLE cell_of_{cells} AS SELECT DISTINCT e.id, {own} AS own, c.cell "  # noqa: S608
        f"FROM {ends} AS e JOIN {cells} AS c ON c.name = e.name "
        "AND c.key = CASE WHEN e.name = '' THEN e.id ELSE 0 END"
    )
    engine.run(f"DROP TABLE {ends}")
    return bool(named_alone == 0)


def _joins(cells: str, *, by_id: bool) -> str:
    """What gives a row its cells, in SQL."""
    joins = []
    for cell, end in (("a", "pre"), ("b", "post")):
        own = "" if by_id else f" AND {cell}.own = r.{end}_name"
        joins.append(f"LEFT JOIN cell_of_{cells} AS {cell} ON {cell}.id = r.{end}_key{own}")
    return " ".join(joins)


def _check_names(synapses: Synapses, ends: str) -> None:
    twice = synapses.engine.rows(
        f"SELECT id, min(own), max(own) FROM {ends} WHERE id > 0 AND own <> '' "  # noqa: S608
        "GROUP BY id HAVING count(DISTINCT own) > 1 ORDER BY id LIMIT 1"
    )
    if twice:
        cell, one, other = twice[0]
        raise TableError(
            f"{synapses.path}: cell {cell} is called both {one!r} and {other!r}: mend the table, "
            "or give --names with one name an id"
        )
    taken = synapses.engine.rows(
        f"SELECT a.name FROM {ends} AS a JOIN {ends} AS b ON b.name = '' "  # noqa: S608
        "AND a.name = CAST(b.id AS VARCHAR) ORDER BY 1 LIMIT 1"
    )
    if taken:
        raise TableError(
            f"{synapses.path}: a cell is called {taken[0][0]!r}, which is the id of another cell "
            "without a name: give either another name"
        )


def _rows_view(engine: Engine, base: str, rows: str, joins: str, thresholds: Thresholds) -> None:
    """Thresholds are numbers of ours by now: a view cannot have parameters."""
    reasons = ["WHEN a.cell IS NULL THEN 'no_pre'", "WHEN b.cell IS NULL THEN 'no_post'"]
    for name, least in (("size", thresholds.min_size), ("share", thresholds.min_share)):
        if least > 0:
            limit = f"CAST({float(least)!r} AS DOUBLE)"
            reasons.append(f"WHEN coalesce(r.{name} < {limit}, TRUE) THEN 'min_{name}'")
    engine.run(
        f"CREATE VIEW {rows} AS SELECT r.*, a.cell AS pre_cell, b.cell AS post_cell, "  # noqa: S608
        f"CASE {' '.join(reasons)} ELSE '' END AS reason FROM {base} AS r {joins}"
    )


def _edges(
    engine: Engine, rows: str, edges: str, cells: str, thresholds: Thresholds, scale: float
) -> None:
    reasons = []
    if not thresholds.unnamed:
        reasons.append("WHEN NOT (a.named AND b.named) THEN 'unnamed'")
    if not thresholds.autapses:
        reasons.append("WHEN e.pre_cell = e.post_cell THEN 'autapse'")
    reasons.append(f"WHEN e.synapses < {int(thresholds.min_synapses)} THEN 'min_synapses'")
    engine.run(
        f"CREATE TABLE {edges} AS WITH per_synapse AS ("  # noqa: S608
        "SELECT pre_cell, post_cell, syn_id, count(*) AS rows, "
        "sum(CAST(size * CAST(? AS DOUBLE) AS HUGEINT)) AS units "
        f"FROM {rows} WHERE reason = '' GROUP BY pre_cell, post_cell, syn_id), "
        "per_edge AS (SELECT pre_cell, post_cell, CAST(sum(rows) AS BIGINT) AS rows, "
        # A row without a synapse's id is a synapse.
        "CAST(sum(CASE WHEN syn_id IS NULL THEN rows ELSE 1 END) AS BIGINT) AS synapses, "
        "sum(units) AS units FROM per_synapse GROUP BY pre_cell, post_cell) "
        f"SELECT e.*, CASE {' '.join(reasons)} ELSE '' END AS reason FROM per_edge AS e "
        f"JOIN {cells} AS a ON a.cell = e.pre_cell JOIN {cells} AS b ON b.cell = e.post_cell "
        "ORDER BY e.pre_cell, e.post_cell",
        (scale,),
    )
