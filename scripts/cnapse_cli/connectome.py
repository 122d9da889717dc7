"""`cnapse connectome`: from a table of partners to edges, matrices and the forms of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from cnapse.analysis.connectome import Connectome
    from cnapse.analysis.exports import Export
    from cnapse.analysis.queries_layout import Reading

__all__ = [
    "Columns",
    "Format",
    "Memory",
    "NamesFile",
    "PlaceUnit",
    "Table",
    "connectome",
    "reading_of",
]

Table = Annotated[
    str,
    typer.Argument(
        help="A run's cnapse.toml or folder; or a table of partners as Parquet, Feather or CSV, a "
        "folder of such parts: of cnapse, with columns syn_id, pre, post, size (Yim et al. 2024), "
        "or of CAVE, neuPrint, FlyWire or Synaptor.",
        show_default=False,
    ),
]
NamesFile = Annotated[
    str,
    typer.Option(
        "--names",
        help="CSV of segment id and name; ids of one name are one cell. It replaces the names "
        "that stand in the table.",
    ),
]
PlaceUnit = Annotated[
    tuple[float, float, float] | None,
    typer.Option(
        "--resolution",
        metavar="X Y Z",
        help="Nanometres of a unit of the table's places, where they are in voxels.",
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help="What the table is: cnapse, cave, neuprint, flywire, synaptor or other. Default: what "
        "the columns tell.",
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ROLE=COLUMN",
        help="What a column is, where it has another name; as often as needed. Roles: pre_cell, "
        "post_cell (ids or names), synapse, size, share, centre_x, pre_x, post_x, ...",
    ),
]
Memory = Annotated[
    float,
    typer.Option("--memory", metavar="GB", help="Memory to use; the rest goes to TMPDIR."),
]


def connectome(
    table: Table,
    output: Annotated[
        str, typer.Option("--output", "-o", help="Folder to make.", show_default=False)
    ],
    names: NamesFile = "",
    exports: Annotated[
        list[str] | None,
        typer.Option(
            "--export",
            "-e",
            metavar="FORM",
            help="csv (the default), excel, parquet, graphml, sparse, cave, neuprint, synaptor, "
            "cremi, or all; as often as needed.",
        ),
    ] = None,
    contacts: Annotated[
        str | None,
        typer.Option(
            help="Table of contacts (pre_id, post_id, area_nm2): makes a matrix of contact area.",
            show_default=False,
        ),
    ] = None,
    min_size: Annotated[
        float, typer.Option(help="Leave rows of a smaller size (nm3) out.", min=0)
    ] = 0.0,
    min_share: Annotated[
        float, typer.Option(help="Leave partners of a smaller share out.", min=0, max=1)
    ] = 0.0,
    min_synapses: Annotated[
        int, typer.Option(help="Leave edges of fewer synapses out.", min=1)
    ] = 1,
    autapses: Annotated[
        bool,
        typer.Option("--autapses/--no-autapses", help="Whether a cell may connect to itself."),
    ] = True,
    named_only: Annotated[
        bool, typer.Option("--named-only", help="Leave cells without a name out.")
    ] = False,
    resolution: PlaceUnit = None,
    export_unit: Annotated[
        tuple[float, float, float] | None,
        typer.Option(
            metavar="X Y Z",
            help="Nanometres of the unit of places in cave, neuprint and synaptor: the voxel size. "
            "Default: 8 8 8 for neuprint, else 1 1 1.",
        ),
    ] = None,
    kind: Format = None,
    columns: Columns = None,
    memory: Memory = 2.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what was made in the folder.")
    ] = False,
) -> None:
    """Who talks to whom: edge list, matrices and graph of a table of partners.

    What is left out is counted here and listed in OUT/left_out.csv; cells without a name and
    connections of cells with themselves are listed whether they are left out or not.
    """
    from cnapse.analysis.connectome import Thresholds, connectome_of
    from cnapse.analysis.connectome_contacts import read_contacts
    from cnapse.analysis.exports import Export, write_connectome
    from cnapse.analysis.exports.folder import check_folder
    from cnapse.analysis.exports.write import chosen_exports
    from cnapse.analysis.queries import Synapses

    wanted = exports or ["csv"]
    chosen_exports(wanted)
    thresholds = Thresholds(min_size, min_share, min_synapses, autapses, not named_only)
    check_folder(output, overwrite=overwrite)
    reading = reading_of(kind, columns, resolution)
    with Synapses.open(
        table, names=names, reading=reading, memory_gb=memory, verify=True
    ) as synapses:
        print(f"{table}: read as {synapses.layout.format}")
        made = connectome_of(synapses, thresholds)
        areas = None if contacts is None else read_contacts(contacts, made)
        export = Export(made, areas, export_unit)
        files = write_connectome(export, output, wanted, overwrite=overwrite)
        _report(made)
        if areas is not None and areas.unknown:
            said = _many(areas.unknown, "row of {} names", "rows of {} name").format(contacts)
            print(f"{said} a cell that the table has not")
        if "all" in wanted:
            _lacking(export, table)
        _files(output, files)


def reading_of(
    kind: str | None,
    columns: list[str] | None,
    resolution: tuple[float, float, float] | None,
) -> Reading:
    """What the options say about the table."""
    from cnapse.analysis.queries_layout import Reading
    from cnapse.interchange.formats import parse_mapping

    return Reading(kind, parse_mapping(columns or ()), resolution)


def _report(made: Connectome) -> None:
    """What became of the rows."""
    counts = made.counts()
    size = f", {counts.size:,.0f} nm3" if made.has_sizes else ", without sizes"
    print(
        f"{_many(counts.rows, 'row', 'rows')}: {counts.kept:,} of them "
        f"{'makes' if counts.kept == 1 else 'make'} {_many(counts.edges, 'edge', 'edges')} between "
        f"{_many(counts.cells, 'cell', 'cells')}; summed over the edges "
        f"{_many(counts.synapses, 'synapse', 'synapses')}{size}"
    )
    left = made.left_out()
    for meaning, rows in zip(left["meaning"], left["rows"], strict=True):
        print(f"left out: {_many(rows, 'row', 'rows')}: {meaning}")
    if counts.merged_cells:
        print(f"{_many(counts.merged_cells, 'cell is', 'cells are')} made of several ids")
    if counts.unnamed_cells:
        print(f"{_many(counts.unnamed_cells, 'cell has', 'cells have')} no name: unnamed.csv")
    if counts.autapse_edges:
        whether = "counted" if made.thresholds.autapses else "left out"
        cells = _many(
            counts.autapse_edges, "cell connects to itself", "cells connect to themselves"
        )
        print(f"{cells} ({_many(counts.autapse_rows, 'row', 'rows')}, {whether}): autapses.csv")


def _lacking(export: Export, table: str) -> None:
    """Which forms were not made."""
    from cnapse.analysis.exports.write import EXPORTS

    lacking: dict[str, list[str]] = {}
    for form in EXPORTS:
        if what := export.lacks(form):
            lacking.setdefault(what, []).append(form)
    for what, forms in lacking.items():
        print(f"not made: {', '.join(forms)}: {table} has no {what}")


def _many(count: int, one: str, more: str) -> str:
    """A number and what is counted."""
    return f"{count:,} {one if count == 1 else more}"


def _files(output: str, files: list[Path]) -> None:
    print(f"written to {output}: {', '.join(path.name for path in files)}")
