"""Where the lines of partners lie, so that `annotate` can choose cells and shards for all of them.

One task a bundle of parts of the tables, about a million lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import pandas as pd

from cnapse.tables import PARTNERS, SYNAPSES, read_part
from cnapse.viewing.annotations import (
    AnnotationTable,
    Plan,
    Survey,
    WriteOptions,
    merge_surveys,
    plan_layer,
    survey_part,
)
from cnapse.viewing.partner_lines import partner_lines, schema
from cnapse_tasks.run import PART_BITS, Run
from cnapse_tasks.stages import Cost
from cnapse_tasks.tabulate import part_name, parts_of

__all__ = ["BUNDLE_PARTS", "bundles_of", "layer_plan", "lines_of"]

_BUNDLE_BITS = 5
BUNDLE_PARTS = 1 << _BUNDLE_BITS
"""Parts of the tables in a bundle: some 30,000 synapses each, so some million lines."""

# Not among the data: no task makes it, and `finish` writes it again.
_PLAN = "survey/plan.json"


def components(run: Run) -> Mapping[str, object]:
    """How the layer is stored."""
    return {"options": asdict(WriteOptions()), "resolution": list(run.config.resolution)}


def bundles_of(run: Run) -> list[int]:
    """The bundles in which there are parts."""
    return sorted({part >> _BUNDLE_BITS for part in parts_of(run)})


def indices(run: Run) -> Sequence[int]:
    """One task a bundle."""
    return bundles_of(run)


def cost(run: Run) -> Cost:
    """Only tables."""
    count = run.part_count()
    return Cost(None if count is None else ((count - 1) >> _BUNDLE_BITS) + 1, 0, 0, 0)


def prepare(run: Run) -> None:
    """Nothing to create."""


def execute(run: Run, index: int) -> Mapping[str, object]:
    """Survey one bundle."""
    lines = lines_of(run, index)
    found = survey_part(schema(run.config.resolution), lines)
    run.data("survey").put_arrays(f"{index:08d}.st", found.to_arrays())
    return {"lines": len(lines)}


def finish(run: Run) -> None:
    """Keep what was chosen for the whole layer, so that not every task reads all surveys."""
    run.store.put_json(_PLAN, _chosen(run).to_json())


def layer_plan(run: Run) -> Plan:
    """Cells and shards of the whole layer."""
    kept = run.store.get_json(_PLAN)
    return _chosen(run) if kept is None else Plan.from_json(kept)


def _chosen(run: Run) -> Plan:
    surveys = merge_surveys(_surveys(run))
    return plan_layer(schema(run.config.resolution), surveys, WriteOptions())


def lines_of(run: Run, bundle: int) -> AnnotationTable:
    """The lines of a bundle's synapses."""
    first = bundle << _BUNDLE_BITS
    # The tables are listed, not `parts_of`: those are as many as blocks.
    there = set(run.output.names(f"tables/{SYNAPSES.name}"))
    parts = [n for n in range(first, first + BUNDLE_PARTS) if part_name(n) in there]
    synapses, partners = (
        pd.concat(
            [read_part(run.output, f"tables/{table.name}/{part_name(part)}") for part in parts],
            ignore_index=True,
        )
        for table in (SYNAPSES, PARTNERS)
    )
    # Imported ids may be anything; a part never has 2^35 lines.
    counted = None if run.part_count() is not None else first << PART_BITS
    return partner_lines(synapses, partners, first_id=counted)


def _surveys(run: Run) -> Iterator[Survey]:
    store = run.data("survey")
    for name in store.names():
        arrays = store.get_arrays(name)
        if arrays is not None:
            yield Survey.from_arrays(arrays)
