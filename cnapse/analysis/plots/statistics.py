"""How sizes, shares and numbers of partners of a table are distributed, in bounded memory.

Tables are read through the database of `cnapse.analysis.queries.Synapses`, some rows at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cnapse.analysis.plots.published import SHARES_AT_OR_BELOW

if TYPE_CHECKING:
    from cnapse.analysis.queries import Synapses
    from cnapse.analysis.queries_engine import Engine

__all__ = [
    "QUANTILES",
    "SHARE_EDGES",
    "Histogram",
    "Quantile",
    "TableStatistics",
    "histogram_of",
    "statistics_of",
]

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

QUANTILES = (0.05, 0.5, 0.95)
SHARE_EDGES: Floats = np.arange(41) / 40
_BINS_A_DECADE = 10
# Two-sided 95 % of a normal distribution.
_SIGMAS = 1.96


@dataclass(frozen=True, slots=True)
class Quantile:
    """A quantile, and the range in which chance may have put it (95 %, by order statistics).

    Without an end where there are too few values to have one.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """How values are distributed.

    Attributes
    ----------
    edges : ndarray, shape (n + 1,)
        Of the bins; the last one includes its upper edge.
    counts : ndarray of int64, shape (n,)
    zeros : int
        Values of 0 that no bin of a logarithmic axis can hold.
    quantiles : mapping of float to Quantile
    mean : float
    """

    edges: Floats
    counts: Counts
    zeros: int
    quantiles: Mapping[float, Quantile]
    mean: float

    @property
    def total(self) -> int:
        """How many values there are."""
        return int(self.counts.sum()) + self.zeros


@dataclass(frozen=True, slots=True)
class TableStatistics:
    """A table of partners in figures.

    Attributes
    ----------
    rows : int
        Partners.
    synapses : int
        Those with at least one partner.
    partners : mapping of int to int
        Number of synapses by their number of partners (a cell counts once a synapse).
    volumes : Histogram or None
        Of the synapses, nm3: the sizes of their rows added up. None without sizes.
    shares : Histogram or None
        Of the rows; where the table has none, their part of the size of the synapse.
    at_or_below : mapping of float to float
        Part of the rows with a share of at most so much.
    """

    rows: int
    synapses: int
    partners: Mapping[int, int]
    volumes: Histogram | None
    shares: Histogram | None
    at_or_below: Mapping[float, float] = field(default_factory=dict)

    @property
    def mean_partners(self) -> float:
        """Partners a synapse; NaN without synapses."""
        total = sum(count * number for number, count in self.partners.items())
        return total / self.synapses if self.synapses else math.nan

    @property
    def mean_partners_error(self) -> float:
        """Standard error of `mean_partners`."""
        if self.synapses < 2:
            return math.inf
        mean = self.mean_partners
        squares = sum(count * (number - mean) ** 2 for number, count in self.partners.items())
        return math.sqrt(squares / (self.synapses - 1) / self.synapses)


def statistics_of(synapses: Synapses) -> TableStatistics:
    """Read a table once for each distribution.

    Parameters
    ----------
    synapses : Synapses
        Rows without a synapse's id or a postsynaptic cell are left out.
    """
    engine, number = synapses.engine, synapses.engine.number()
    rows, each = f"plotted_{number}", f"plotted_synapses_{number}"
    _views(synapses, rows, each)
    count, with_size, with_share = engine.row(
        f"SELECT count(*), count(size), count(share) FROM {rows}"  # noqa: S608 - names of ours
    )
    partners = dict(
        engine.rows(f"SELECT partners, count(*) FROM {each} GROUP BY 1 ORDER BY 1")  # noqa: S608
    )
    return TableStatistics(
        rows=count,
        synapses=sum(partners.values()),
        partners=partners,
        volumes=histogram_of(engine, each, "volume") if with_size else None,
        shares=histogram_of(engine, rows, "share", SHARE_EDGES) if with_share else None,
        at_or_below=_at_or_below(engine, rows) if with_share else {},
    )


def _views(synapses: Synapses, rows: str, each: str) -> None:
    """The rows with size and share, and the synapses with volume and number of partners."""
    engine, there = synapses.engine, synapses.layout.names
    text, values = synapses.where
    syn = "syn_id" if "syn_id" in there else "CAST(NULL AS UBIGINT)"
    size = "nullif(size, 'NaN'::DOUBLE)" if "size" in there else "CAST(NULL AS DOUBLE)"
    share = f"{size} / nullif(sum({size}) OVER (PARTITION BY syn_id), 0)"
    if "share" in there:
        share = "nullif(share, 'NaN'::DOUBLE)"
    elif "syn_id" not in there:
        share = "CAST(NULL AS DOUBLE)"
    # A table, since a view cannot have parameters; it lies on the disk where it is large.
    engine.run(
        f"CREATE TABLE {rows} AS SELECT {syn} AS syn_id, {size} AS size, {share} AS share, "  # noqa: S608
        f"post_key, post_name FROM keyed_rows WHERE ({text}) AND coalesce({syn}, 0) > 0 "
        "AND (post_key > 0 OR post_name <> '')",
        values,
    )
    engine.run(
        f"CREATE TABLE {each} AS SELECT syn_id, sum(size) AS volume, "  # noqa: S608
        f"count(DISTINCT (post_key, post_name)) AS partners FROM {rows} GROUP BY syn_id"
    )


def histogram_of(
    engine: Engine, table: str, column: str, edges: npt.ArrayLike | None = None
) -> Histogram:
    """Count the values of a column; those that are missing are left out.

    Parameters
    ----------
    engine : Engine
    table, column : str
        Names of ours, not of a user.
    edges : array of float, optional
        Of the bins; values beyond count in the outermost. Default: logarithmic, ten a decade, over
        all values above 0.

    Returns
    -------
    Histogram
    """
    least, largest, mean, zeros = engine.row(
        f"SELECT min({column}) FILTER ({column} > 0), max({column}), avg({column}), "  # noqa: S608
        f"count(*) FILTER ({column} <= 0) FROM {table}"
    )
    logarithmic = edges is None
    if edges is None:
        edges = _decades(least, largest)
    bins = np.asarray(edges, dtype=np.float64)
    counts = np.zeros(len(bins) - 1, dtype=np.int64)
    condition = f"{column} > 0" if logarithmic else f"{column} IS NOT NULL"
    query = f"SELECT CAST({column} AS DOUBLE) AS v FROM {table} WHERE {condition}"  # noqa: S608
    for batch in engine.batches(query):
        values = np.clip(batch.column(0).to_numpy(zero_copy_only=False), bins[0], bins[-1])
        counts += np.histogram(values, bins)[0]
    return Histogram(
        edges=bins,
        counts=counts,
        zeros=int(zeros) if logarithmic else 0,
        quantiles=_quantiles(engine, table, column),
        mean=math.nan if mean is None else float(mean),
    )


def _decades(least: float | None, largest: float | None) -> Floats:
    """Edges of bins from below the least value to above the largest, at round exponents."""
    if least is None or largest is None:
        return np.array([1.0, 10.0])
    first = math.floor(math.log10(least) * _BINS_A_DECADE)
    last = max(math.ceil(math.log10(largest) * _BINS_A_DECADE), first + 1)
    return np.asarray(10.0 ** (np.arange(first, last + 1) / _BINS_A_DECADE), dtype=np.float64)


def _quantiles(engine: Engine, table: str, column: str) -> dict[float, Quantile]:
    (n,) = engine.row(f"SELECT count({column}) FROM {table}")  # noqa: S608
    if not n:
        return {}
    wanted: list[float] = []
    for p in QUANTILES:
        reach = _SIGMAS * math.sqrt(p * (1 - p) / n)
        wanted += [p, max(0.0, p - reach), min(1.0, p + reach)]
    listed = ", ".join(repr(p) for p in wanted)
    (found,) = engine.row(f"SELECT quantile_cont({column}, [{listed}]) FROM {table}")  # noqa: S608
    values = [float(value) for value in found]
    quantiles = {}
    for number, p in enumerate(QUANTILES):
        value, low, high = values[3 * number : 3 * number + 3]
        # Of few values, the outermost is no limit of what chance may have left out.
        _, first, last = wanted[3 * number : 3 * number + 3]
        low, high = -math.inf if first <= 0 else low, math.inf if last >= 1 else high
        quantiles[p] = Quantile(value, low, high)
    return quantiles


def _at_or_below(engine: Engine, rows: str) -> dict[float, float]:
    limits = list(SHARES_AT_OR_BELOW)
    parts = ", ".join(f"avg(CAST(share <= {limit!r} AS INTEGER))" for limit in limits)
    found = engine.row(f"SELECT {parts} FROM {rows} WHERE share IS NOT NULL")  # noqa: S608
    return {limit: float(value) for limit, value in zip(limits, found, strict=True)}
