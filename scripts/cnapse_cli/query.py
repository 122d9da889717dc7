"""`cnapse query`: rows of a table of partners, of any size: of a cell, between two, in a box."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cnapse.errors import ConfigError
from cnapse_cli.connectome import (
    Columns,
    Format,
    Memory,
    NamesFile,
    PlaceUnit,
    Table,
    reading_of,
)

if TYPE_CHECKING:
    from cnapse.analysis.queries import Side, Synapses

__all__ = ["query"]

_SHOWN = 20
_SIDES: dict[str, Side] = {"either": "either", "pre": "pre", "post": "post"}


def query(
    table: Table,
    cell: Annotated[
        str | None,
        typer.Option(help="Rows of a cell, by name or id.", show_default=False),
    ] = None,
    side: Annotated[
        str, typer.Option(help="Of --cell: where it is pre, post, or either.")
    ] = "either",
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="PRE POST", help="Rows from one cell to another."),
    ] = None,
    box: Annotated[
        tuple[float, float, float, float, float, float] | None,
        typer.Option(
            metavar="X0 Y0 Z0 X1 Y1 Z1", help="Rows of synapses in a box, nm; without the end."
        ),
    ] = None,
    min_size: Annotated[float | None, typer.Option(help="Rows of at least this size, nm3.")] = None,
    min_share: Annotated[float | None, typer.Option(help="Rows of at least this share.")] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", help="Write all rows: .csv or .parquet.", show_default=False
        ),
    ] = None,
    edges: Annotated[
        bool, typer.Option("--edges", help="The edges that the rows make, not the rows.")
    ] = False,
    names: NamesFile = "",
    resolution: PlaceUnit = None,
    kind: Format = None,
    columns: Columns = None,
    memory: Memory = 2.0,
) -> None:
    """Ask a table of any size: the synapses of a cell, between two cells, in a box."""
    from cnapse.analysis.queries import Synapses

    if cell is None and side != "either":
        raise ConfigError("--side is of --cell: give a cell")
    if side not in _SIDES:
        raise ConfigError(f"--side {side}: there are {', '.join(_SIDES)}")
    with Synapses.open(
        table, names=names, reading=reading_of(kind, columns, resolution), memory_gb=memory
    ) as opened:
        found = opened
        if cell is not None:
            found = found.of_cell(cell, _SIDES[side])
        if between is not None:
            found = found.between(*between)
        if box is not None:
            found = found.in_box(box[:3], box[3:])
        found = found.at_least(size=min_size, share=min_share)
        _answer(found, output, edges=edges)


def _answer(found: Synapses, output: str | None, *, edges: bool) -> None:
    """Write the rows, or show the first of them."""
    import pyarrow as pa

    from cnapse.analysis.connectome import connectome_of
    from cnapse.analysis.exports.rows import write_rows
    from cnapse.analysis.queries_engine import in_frame

    what = "edges" if edges else "rows"
    batches = connectome_of(found).edge_batches() if edges else found.batches()
    if output is not None:
        written = write_rows(batches, output)
        print(f"{written:,} {what[: -1 if written == 1 else None]} written to {output}")
        return
    first = next(batches).slice(0, _SHOWN)
    count = connectome_of(found).counts().edges if edges else found.count()
    shown = in_frame(pa.Table.from_batches([first]))
    print(shown.drop(columns="link", errors="ignore").to_string(index=False))
    rest = f"; the first {_SHOWN} are shown, all with -o FILE" if count > _SHOWN else ""
    print(f"{count:,} {what[: -1 if count == 1 else None]}{rest}")
