"""Both tables as one CSV each, for people and spreadsheets.

A table of more rows than a spreadsheet takes becomes several files, ``csv/synapses-00000.csv`` and
so on, each with its header.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnapse.tables import PARTNERS, SYNAPSES, Schema, csv_bytes, read_part
from cnapse_tasks.run import Run
from cnapse_tasks.stages import Cost
from cnapse_tasks.tabulate import part_name, parts_of

_SCHEMAS = (SYNAPSES, PARTNERS)
_ROWS_PER_FILE = 1_000_000


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
    run.output.delete([f"{schema.name}.csv" for schema in _SCHEMAS])
    run.output.delete_folder("csv")


def execute(run: Run, index: int) -> Mapping[str, object]:  # noqa: ARG001 - there is one task
    """Join the parts of each table, in the order of their ids."""
    return {schema.name: _export(run, schema) for schema in _SCHEMAS}


def _export(run: Run, schema: Schema) -> int:
    """Write one table; its number of rows. Never more than one file's rows are in memory."""
    total = rows = files = 0
    pieces: list[bytes] = []
    for part in parts_of(run):
        table = read_part(run.output, f"tables/{schema.name}/{part_name(part)}")
        if pieces and rows + len(table) > _ROWS_PER_FILE:
            run.output.put(_numbered(schema, files), b"".join(pieces))
            files += 1
            rows, pieces = 0, []
        pieces.append(csv_bytes(table, schema, header=not pieces))
        rows += len(table)
        total += len(table)
    name = _numbered(schema, files) if files else f"{schema.name}.csv"
    run.output.put(name, b"".join(pieces))
    return total


def _numbered(schema: Schema, number: int) -> str:
    return f"csv/{schema.name}-{number:05d}.csv"
