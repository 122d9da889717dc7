"""Segment properties of cells and synapses, so that the viewer can search and sort them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cnapse.names import load_names, load_types
from cnapse.tables import PARTNERS, SYNAPSES, read_part
from cnapse.viewing.additions import Segmented, addition_name
from cnapse.viewing.segment_properties import MOST_SEGMENTS, CellTotals, synapse_properties
from cnapse_tasks.run import Run
from cnapse_tasks.stages import STAGES, Cost
from cnapse_tasks.tabulate import part_name, parts_of

_LEFT_OUT = "cells_left_out"


def components(run: Run) -> Mapping[str, object]:  # noqa: ARG001 - all of it lies upstream
    """Nothing but what the tables depend on; types come from the file of names."""
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
    """Take the properties away."""
    run.output.delete_folder("properties")


def execute(run: Run, index: int) -> Mapping[str, object]:  # noqa: ARG001 - there is one task
    """Add up the parts of both tables, and write what the viewer reads."""
    totals = CellTotals()
    few: list[tuple[pd.DataFrame, pd.DataFrame]] = []
    count = 0
    for part in parts_of(run):
        synapses, partners = (
            read_part(run.output, f"tables/{schema.name}/{part_name(part)}")
            for schema in (SYNAPSES, PARTNERS)
        )
        totals.add(synapses, partners)
        count += len(synapses)
        if count > MOST_SEGMENTS:
            few.clear()
        else:
            few.append((synapses, partners))
    cells, left_out = totals.properties(load_names(run.config.names), load_types(run.config.names))
    _put(run, "cells", cells)
    if few:
        both = zip(*few, strict=True)
        _put(run, "synapses", synapse_properties(*(pd.concat(p, ignore_index=True) for p in both)))
    return {"cells": len(cells["inline"]["ids"]), _LEFT_OUT: left_out, "synapses": count}


def notes(run: Run) -> list[str]:
    """A line for each layer of which not all segments have properties."""
    facts: Any = STAGES["properties"].ledger(run).record_of(0) or {}
    found = []
    if facts.get(_LEFT_OUT):
        found.append(
            f"note: {facts[_LEFT_OUT]} cells with the fewest synapses have no properties in the "
            f"viewer: it takes {MOST_SEGMENTS}"
        )
    if facts.get("synapses", 0) > MOST_SEGMENTS:
        found.append(
            f"note: the viewer takes properties of {MOST_SEGMENTS} synapses, and there are "
            f"{facts['synapses']}: search them in the tables or the annotation layer"
        )
    return found


def _put(run: Run, layer: Segmented, info: Mapping[str, object]) -> None:
    data = json.dumps(info, separators=(",", ":"), ensure_ascii=False).encode()
    name = f"{addition_name('properties', layer)}/info"
    run.output.put_all([(name, data)], compress=True, content_type="application/json")
