"""What the tables of a run say, read in bounded memory for its report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from cnapse.analysis.plots.statistics import (
    Histogram,
    TableStatistics,
    histogram_of,
    statistics_of,
)
from cnapse.analysis.queries_engine import MEMORY_GB, Engine
from cnapse.errors import LayerNotFoundError, TableError
from cnapse.interchange.files import TableFiles
from cnapse.store import local_path
from cnapse.tables import PARTNERS, SYNAPSES, SynapseFlag

if TYPE_CHECKING:
    from cnapse.analysis.connectome import Connectome, Counts
    from cnapse.analysis.plots.graph import Graph
    from cnapse.analysis.queries import Synapses

__all__ = ["Findings", "findings_of", "open_table"]

SHOWN_CELLS = 60
SHOWN_EDGES = 12
_MOST_SECTIONS = 24
# What is read of the synapses, where the table has it.
_COLUMNS = (
    "syn_id", "pre", "pre_id", "size", "x_pos", "y_pos", "z_pos", "sections", "start_x", "start_y",
    "stop_x", "stop_y", "n_partners", "flags", "doubt", "doubts", "link",
)  # fmt: skip


@dataclass(frozen=True)
class Findings:
    """What a run found.

    Attributes
    ----------
    synapses : int
        Rows of the table of synapses.
    without_cell, without_partner : int
        Synapses on no cell; those on a cell, but without partners.
    flagged : int
        Synapses with any flag.
    flags : mapping of str to int
        Synapses with each flag.
    volumes, sections : Histogram
        Of the synapses.
    single_section : int
        Synapses of one section.
    statistics : TableStatistics
        Of the table of partners.
    counts : Counts or None
        Of cells and edges; None where the table makes no connectome.
    graph : Graph or None
        The best connected cells.
    edges : DataFrame
        The strongest connections: pre, post, synapses, size.
    random, doubtful : DataFrame
        Rows of some synapses to look at.
    partners : DataFrame
        The partners of those.
    problems : tuple of str
        Why something could not be told.
    """

    synapses: int
    without_cell: int
    without_partner: int
    flagged: int
    flags: dict[str, int]
    volumes: Histogram
    sections: Histogram
    single_section: int
    statistics: TableStatistics
    counts: Counts | None
    graph: Graph | None
    edges: pd.DataFrame
    random: pd.DataFrame
    doubtful: pd.DataFrame
    partners: pd.DataFrame
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Connections:
    """The part of the findings that is about cells."""

    counts: Counts | None = None
    graph: Graph | None = None
    edges: pd.DataFrame = field(default_factory=pd.DataFrame)
    problems: tuple[str, ...] = ()


def findings_of(
    output: str, *, names: str = "", shown: int = 12, seed: int = 0, memory_gb: float = MEMORY_GB
) -> Findings:
    """Read the tables of a run.

    Parameters
    ----------
    output : str
        Folder of the run's results.
    names : str
        CSV of segment id and name, perhaps with types.
    shown : int
        Synapses to show of each kind.
    seed : int
        Chooses those at random.
    memory_gb : float

    Raises
    ------
    LayerNotFoundError
        If there are no tables.
    """
    from cnapse.analysis.queries import Synapses

    engine = Engine(memory_gb, f"{output}/tables/synapses")
    try:
        open_table(engine, "synapses", f"{output}/tables/synapses", _COLUMNS)
        with Synapses.open(f"{output}/tables/partners", memory_gb=memory_gb) as rows:
            statistics = statistics_of(rows)
            connections = _connectome(rows, names)
            random, doubtful = _sample(engine, shown, seed), _most_doubtful(engine, shown)
            partners = _partners_of(rows, [*random["syn_id"], *doubtful["syn_id"]])
        total, bare, alone, flagged, single = engine.row(
            "SELECT count(*), count(*) FILTER (pre_id = 0), count(*) FILTER (pre_id > 0 AND "
            "n_partners = 0), count(*) FILTER (flags > 0), count(*) FILTER (sections = 1) "
            "FROM synapses"
        )
        return Findings(
            synapses=total,
            without_cell=bare,
            without_partner=alone,
            flagged=flagged,
            flags=_flags(engine),
            volumes=histogram_of(engine, "synapses", "size"),
            sections=histogram_of(
                engine, "synapses", "sections", np.arange(_MOST_SECTIONS + 1) + 0.5
            ),
            single_section=single,
            statistics=statistics,
            counts=connections.counts,
            graph=connections.graph,
            edges=connections.edges,
            problems=connections.problems,
            random=random,
            doubtful=doubtful,
            partners=partners,
        )
    finally:
        engine.close()


def open_table(engine: Engine, name: str, path: str, columns: tuple[str, ...]) -> None:
    """Make a table of a database from Parquet; local files are read in place.

    Columns that older runs do not have are empty.

    Raises
    ------
    LayerNotFoundError
        If it is not there.
    """
    kinds = {c.name: str(c.dtype) for schema in (PARTNERS, SYNAPSES) for c in schema.columns}
    files = TableFiles(path)
    there = [column for column in columns if column in files.names]
    local = [local_path(f"{files.folder}/{file}") for file in files.files]
    raw = f"{name}_files"
    if all(place is not None for place in local):
        engine.view_parquet(raw, [place for place in local if place is not None])
    else:
        schema = pa.schema(
            [(c, pa.type_for_alias(kinds[c].replace("str", "string"))) for c in there]
        )
        engine.load(raw, schema, _taken(files, schema))
    empty = {"str": "''", "float64": "CAST(NULL AS DOUBLE)"}
    listed = [_as_known(c, kinds[c]) if c in there else empty.get(kinds[c], "0") for c in columns]
    named = ", ".join(f"{text} AS {c}" for text, c in zip(listed, columns, strict=True))
    engine.run(f"CREATE VIEW {name} AS SELECT {named} FROM {raw}")  # noqa: S608 - all of it is ours


def _as_known(column: str, kind: str) -> str:
    """A column in SQL, where NaN would be larger than any number."""
    return f"nullif({column}, 'NaN'::DOUBLE)" if kind == "float64" else column


def _taken(files: TableFiles, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in files.batches(schema.names, dict(zip(schema.names, schema.types, strict=True))):
        yield from pa.Table.from_batches([batch]).cast(schema).to_batches()


def _flags(engine: Engine) -> dict[str, int]:
    flags = [flag for flag in SynapseFlag if flag.name]
    counted = ", ".join(f"count(*) FILTER ((flags & {int(flag)}) <> 0)" for flag in flags)
    found = engine.row(f"SELECT {counted} FROM synapses")  # noqa: S608
    return {str(flag.name).lower(): int(n) for flag, n in zip(flags, found, strict=True)}


def _sample(engine: Engine, count: int, seed: int) -> pd.DataFrame:
    """Some synapses at random, the same for the same seed."""
    return engine.frame(
        f"SELECT * FROM synapses ORDER BY hash(syn_id, {int(seed)}), syn_id LIMIT {int(count)}"  # noqa: S608
    )


def _most_doubtful(engine: Engine, count: int) -> pd.DataFrame:
    """Those with the highest doubt; where there is none, those with the most flags."""
    return engine.frame(
        "SELECT * FROM synapses WHERE flags > 0 OR doubt > 0 "  # noqa: S608
        "ORDER BY coalesce(doubt, 0) DESC, bit_count(flags) DESC, syn_id "
        f"LIMIT {int(count)}"
    )


def _partners_of(rows: Synapses, syn_ids: list[int]) -> pd.DataFrame:
    """The partner rows of some synapses, the largest share first."""
    columns = ["syn_id", "post", "post_id", "share", "post_x", "post_y", "post_z"]
    wanted = sorted({int(i) for i in syn_ids})
    marks = ", ".join("CAST(? AS UBIGINT)" for _ in wanted) or "NULL"
    there = [column for column in columns if column in rows.layout.names or column == "post"]
    found: pd.DataFrame = rows.engine.frame(
        f"SELECT {', '.join(there)} FROM synapse_rows WHERE syn_id IN ({marks}) "  # noqa: S608
        "ORDER BY syn_id, share DESC, post_id",
        wanted,
    )
    return found.reindex(columns=columns)


def _strongest(connectome: Connectome, count: int) -> pd.DataFrame:
    """The strongest edges; of a large connectome not all of them are in memory."""
    columns = ["pre", "post", "synapses", "size"]
    kept = pd.DataFrame(columns=columns)
    for batch in connectome.edge_batches():
        found = batch.select(columns).to_pandas()
        found = pd.concat([kept, found]) if len(kept) else found
        kept = found.sort_values(
            ["synapses", "size", "pre", "post"], ascending=[False, False, True, True]
        ).head(count)
    return kept.reset_index(drop=True)


def _connectome(rows: Synapses, names: str) -> _Connections:
    """Cells and connections; what hinders them is told, since the rest of a report needs none."""
    from cnapse.analysis.connectome import connectome_of
    from cnapse.analysis.plots.graph import cell_types, graph_of
    from cnapse.analysis.plots.ordering import Ordering, order_of

    try:
        connectome = connectome_of(rows)
    except TableError as error:
        return _Connections(problems=(f"connections are left out: {error}",))
    counts, edges = connectome.counts(), _strongest(connectome, SHOWN_EDGES)
    if not counts.edges:
        return _Connections(counts, None, edges)
    types: dict[str, str] = {}
    problems: tuple[str, ...] = ()
    try:
        types = cell_types(connectome.cells(), names=names)
    except (TableError, LayerNotFoundError) as error:
        problems = (f"types of cells are left out: {error}",)
    graph = graph_of(connectome, "synapses", types).without_strays().strongest(SHOWN_CELLS)
    ordering = Ordering.type if any(graph.types) else Ordering.cluster
    return _Connections(counts, graph.reordered(order_of(graph, ordering)), edges, problems)
