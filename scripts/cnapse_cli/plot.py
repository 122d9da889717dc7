"""`cnapse plot`: figures of a table of partners or of a run, as SVG, PNG or PDF."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnapse.analysis.plots.connectomes import PREFIX
from cnapse.errors import ConfigError, TableError
from cnapse_cli.connectome import Columns, Format, PlaceUnit, Table, reading_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from cnapse.analysis.connectome import Connectome
    from cnapse.analysis.plots.checks import Check
    from cnapse.analysis.plots.graph import Graph
    from cnapse.analysis.plots.statistics import TableStatistics
    from cnapse.analysis.queries import Synapses
    from cnapse.analysis.queries_layout import Reading

__all__ = ["app"]

app = typer.Typer(
    help="Draw a table of partners, or that of a run, as .svg, .png or .pdf.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class Weight(StrEnum):
    """What a connection weighs."""

    synapses = "synapses"
    size = "size"


class Order(StrEnum):
    """The order of cells."""

    type = "type"
    cluster = "cluster"
    name = "name"
    strength = "strength"


Compared = Annotated[
    str,
    typer.Argument(
        help="The same; or cect:NAME, a published connectome (cnapse[connectomes]).",
        show_default=False,
    ),
]
Output = Annotated[
    Path,
    typer.Option("--output", "-o", help="File to write: .svg, .png or .pdf.", show_default=False),
]
NamesFile = Annotated[
    str, typer.Option("--names", help="CSV of segment id and name, perhaps with a column `type`.")
]
TypesFile = Annotated[
    str, typer.Option("--types", help="CSV with the columns cell (name or id) and type.")
]
WeightOption = Annotated[Weight, typer.Option(help="What a connection weighs.")]
Title = Annotated[str, typer.Option(help="Another title.", show_default=False)]
Most = Annotated[int, typer.Option(help="Only the best connected cells.", min=2)]
MinSynapses = Annotated[int, typer.Option(help="Leave out connections of fewer synapses.", min=1)]
NamedOnly = Annotated[bool, typer.Option("--named-only", help="Leave out cells without a name.")]
OrderOption = Annotated[
    Order | None,
    typer.Option(help="Order of the cells. Default: type if there are types, else cluster."),
]


@dataclass(frozen=True, slots=True)
class _Choice:
    """Options that figures of connections share."""

    names: str
    types: str
    weight: Weight
    order: Order | None
    most: int
    min_synapses: int
    named_only: bool


@app.command()
def matrix(
    table: Table,
    output: Output,
    names: NamesFile = "",
    types: TypesFile = "",
    weight: WeightOption = Weight.synapses,
    order: OrderOption = None,
    most: Most = 2000,
    min_synapses: MinSynapses = 1,
    named_only: NamedOnly = False,
    title: Title = "",
    kind: Format = None,
    columns: Columns = None,
    resolution: PlaceUnit = None,
) -> None:
    """Draw the adjacency matrix, ordered by type or by clustering."""
    from cnapse.analysis.plots.matrix import draw_matrix

    choice = _Choice(names, types, weight, order, most, min_synapses, named_only)
    reading = reading_of(kind, columns, resolution)
    graph = _graph(table, output, choice, reading)
    _finish(draw_matrix(graph, title=title or "Adjacency matrix"), output, graph.said)


@app.command()
def circle(
    table: Table,
    output: Output,
    names: NamesFile = "",
    types: TypesFile = "",
    weight: WeightOption = Weight.synapses,
    order: OrderOption = None,
    most: Most = 80,
    min_synapses: MinSynapses = 1,
    named_only: NamedOnly = False,
    title: Title = "",
    kind: Format = None,
    columns: Columns = None,
    resolution: PlaceUnit = None,
) -> None:
    """Draw cells on a circle and their connections."""
    from cnapse.analysis.plots.circle import draw_circle

    choice = _Choice(names, types, weight, order, most, min_synapses, named_only)
    reading = reading_of(kind, columns, resolution)
    graph = _graph(table, output, choice, reading)
    _finish(draw_circle(graph, title=title or "Connections"), output, graph.said)


@app.command()
def layers(
    table: Table,
    output: Output,
    names: NamesFile = "",
    types: TypesFile = "",
    weight: WeightOption = Weight.synapses,
    most: Most = 80,
    min_synapses: MinSynapses = 1,
    named_only: NamedOnly = False,
    title: Title = "",
    kind: Format = None,
    columns: Columns = None,
    resolution: PlaceUnit = None,
) -> None:
    """Draw layers from sense to muscle; without such types, along the flow of signals."""
    from cnapse.analysis.plots.layers import draw_layers

    choice = _Choice(names, types, weight, Order.name, most, min_synapses, named_only)
    reading = reading_of(kind, columns, resolution)
    graph = _graph(table, output, choice, reading)
    _finish(draw_layers(graph, title=title or "Layers"), output, graph.said)


@app.command()
def sizes(
    table: Table,
    output: Output,
    kind: Format = None,
    columns: Columns = None,
    resolution: PlaceUnit = None,
) -> None:
    """Draw how large synapses are, beside published percentiles."""
    from cnapse.analysis.plots.checks import volume_checks
    from cnapse.analysis.plots.distributions import draw_sizes

    found = _statistics(table, output, reading_of(kind, columns, resolution))
    checks = volume_checks(found.volumes) if found.volumes else []
    _finish(draw_sizes(found.volumes), output, *_said(checks))


@app.command()
def shares(
    table: Table,
    output: Output,
    kind: Format = None,
    columns: Columns = None,
    resolution: PlaceUnit = None,
) -> None:
    """Draw the shares of partners."""
    from cnapse.analysis.plots.distributions import draw_shares

    found = _statistics(table, output, reading_of(kind, columns, resolution))
    _finish(draw_shares(found), output, f"{found.rows:,} partner{'s' * (found.rows != 1)}")


@app.command()
def partners(
    table: Table,
    output: Output,
    kind: Format = None,
    columns: Columns = None,
    resolution: PlaceUnit = None,
) -> None:
    """Draw how many partners synapses have, beside published ranges."""
    from cnapse.analysis.plots.checks import partner_checks
    from cnapse.analysis.plots.distributions import draw_partners

    found = _statistics(table, output, reading_of(kind, columns, resolution))
    _finish(draw_partners(found), output, *_said(partner_checks(found)))


@app.command()
def cell(
    table: Table,
    name: Annotated[str, typer.Argument(help="Name or id of a cell.", show_default=False)],
    output: Output,
    names: NamesFile = "",
    kind: Format = None,
    columns: Columns = None,
    resolution: PlaceUnit = None,
) -> None:
    """Draw a cell's inputs, outputs, sizes and places."""
    from cnapse.analysis.plots.cell_sheet import cell_sheet, draw_cell

    _check(output)
    with _opened(table, names, reading_of(kind, columns, resolution)) as synapses:
        sheet = cell_sheet(synapses, name)
    made, received = sheet.made.synapses, sheet.received.synapses
    _finish(draw_cell(sheet), output, f"{name}: makes {made}, receives {received} connections")


@app.command()
def compare(
    first: Compared,
    second: Compared,
    output: Output,
    names: NamesFile = "",
    weight: WeightOption = Weight.synapses,
    list_file: Annotated[
        Path | None,
        typer.Option("--list", help="Also write all connections of both, CSV.", show_default=False),
    ] = None,
    kind: Format = None,
    columns: Columns = None,
    resolution: PlaceUnit = None,
) -> None:
    """Draw two connectomes against each other: what they share, what is new, what is gone."""
    from cnapse.analysis.plots.comparison import compare_edges
    from cnapse.analysis.plots.comparison_figure import draw_comparison

    _check(output)
    reading = reading_of(kind, columns, resolution)
    a, unit_a = _weighed(first, names, weight, reading)
    b, unit_b = _weighed(second, names, weight, reading)
    comparison = compare_edges(a, b, "weight")
    if not comparison.cells_common and not (a.empty or b.empty):
        raise TableError(
            f"{first} and {second} have no cell in common: such as {a['pre'].iloc[0]} and "
            f"{b['pre'].iloc[0]}: give --names"
        )
    called = (_called(first), _called(second))
    same = not any(source.startswith(PREFIX) for source in (first, second))
    figure = draw_comparison(comparison, called, (unit_a, unit_b), same=same)
    if list_file is not None:
        _write_list(comparison.edges, list_file)
    _finish(
        figure,
        output,
        f"{len(comparison.shared):,} connections in both, {len(comparison.gone):,} gone, "
        f"{len(comparison.new):,} new",
    )


@contextmanager
def _opened(table: str, names: str, reading: Reading) -> Iterator[Synapses]:
    from cnapse.analysis.queries import Synapses

    with Synapses.open(table, names=names, reading=reading) as synapses:
        yield synapses


def _statistics(table: str, output: Path, reading: Reading) -> TableStatistics:
    from cnapse.analysis.plots.statistics import statistics_of

    _check(output)
    with _opened(table, "", reading) as synapses:
        return statistics_of(synapses)


def _graph(table: str, output: Path, choice: _Choice, reading: Reading) -> Graph:
    from cnapse.analysis.plots.graph import cell_types, graph_of
    from cnapse.analysis.plots.ordering import Ordering, order_of

    _check(output)
    with _opened(table, choice.names, reading) as synapses:
        connectome = _connectome(synapses, choice.min_synapses, named_only=choice.named_only)
        types = cell_types(connectome.cells(), names=choice.names, types=choice.types)
        graph = graph_of(connectome, choice.weight.value, types)
    graph = graph.without_strays().strongest(choice.most)
    default = Order.type if any(graph.types) else Order.cluster
    return graph.reordered(order_of(graph, Ordering((choice.order or default).value)))


def _connectome(synapses: Synapses, min_synapses: int, *, named_only: bool) -> Connectome:
    from cnapse.analysis.connectome import Thresholds, connectome_of

    return connectome_of(synapses, Thresholds(min_synapses=min_synapses, unnamed=not named_only))


def _weighed(source: str, names: str, weight: Weight, reading: Reading) -> tuple[pd.DataFrame, str]:
    """An edge list with a column ``weight``, and the unit of it."""
    from cnapse.analysis.plots.connectomes import published_edges

    if source.startswith(PREFIX):
        return published_edges(source), "weight, as published"
    with _opened(source, names, reading) as synapses:
        connectome = _connectome(synapses, 1, named_only=False)
        if weight is Weight.size and not connectome.has_sizes:
            raise TableError(f"{source} has no sizes: compare by --weight synapses")
        edges = connectome.edges()
    unit = "synapses" if weight is Weight.synapses else "summed size, nm³"
    return edges.rename(columns={weight.value: "weight"}), unit


def _called(source: str) -> str:
    """What a figure calls a table: the end of its path that tells it apart."""
    if source.startswith(PREFIX):
        return source.removeprefix(PREFIX)
    path = Path(source)
    if path.suffix == ".toml":
        return path.resolve().parent.name
    return path.stem


def _write_list(edges: pd.DataFrame, path: Path) -> None:
    from cnapse.store import Store, cloud_path
    from cnapse.tables import csv_bytes

    folder, _, name = cloud_path(path).rpartition("/")
    Store(folder).put(name, csv_bytes(edges))


def _check(output: Path) -> None:
    """Refuse a file that cannot be written before anything is computed."""
    from cnapse.analysis.plots.style import kind_of

    kind_of(output)
    if not output.parent.is_dir():
        raise ConfigError(f"--output {output}: there is no folder {output.parent}: make it first")


def _said(checks: list[Check]) -> list[str]:
    return [check.text + ("" if check.fits else "   <- outside") for check in checks]


def _finish(figure: Figure, output: Path, *lines: str) -> None:
    from cnapse.analysis.plots.style import save_figure

    save_figure(figure, output)
    for line in lines:
        typer.echo(line)
    typer.echo(f"figure: {output}")
