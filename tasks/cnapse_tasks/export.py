"""Both tables as one CSV each, for people and spreadsheets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnapse.tables import PARTNERS, SYNAPSES, csv_bytes, parse_parquet
from cnapse_tasks.run import Run
from cnapse_tasks.stages import Cost
from cnapse_tasks.tabulate import part_name, parts_of


def components(run: Run) -> Mapping[str, object]:  # noqa: ARG001 - all of it lies upstream
    """Nothing but what the stages before depend on."""
    return {}


def indices(run: Run) -> Sequence[int]:  # noqa: ARG001 - the same for every run
    """One task."""
    return range(1)


def cost(run: Run) -> Cost:  # noqa: ARG001 - depends on the synapses
    """Only tables."""
    return Cost(1, 0, 0, 0)


def prepare(run: Run) -> None:
    """Nothing to create."""


def forget(run: Run) -> None:
    """Take away the tables."""
    run.output.delete(["synapses.csv", "partners.csv"])


def execute(run: Run, index: int) -> Mapping[str, object]:  # noqa: ARG001 - there is one task
    """Join the parts of each table, in the order of their ids."""
    rows: dict[str, int] = {}
    for schema in (SYNAPSES, PARTNERS):
        pieces, rows[schema.name] = [], 0
        for number, part in enumerate(parts_of(run)):
            table = parse_parquet(run.output.read(f"tables/{schema.name}/{part_name(part)}"))
            rows[schema.name] += len(table)
            pieces.append(csv_bytes(table, schema, header=number == 0))
        run.output.put(f"{schema.name}.csv", b"".join(pieces))
    return rows
