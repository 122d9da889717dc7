"""Chunks that were not there and were read as 0, as the records of the tasks tell."""

from __future__ import annotations

from collections import Counter

from cnapse.config import LayersSection
from cnapse_tasks.run import LayerName, Run
from cnapse_tasks.stages import stages_of

__all__ = ["KEY", "missing_counts", "missing_notes"]

KEY = "missing_chunks"
"""Under this name a task's record keeps what `RunData.taken_missing` gave, if anything."""


def missing_counts(run: Run) -> dict[LayerName, int]:
    """How often a chunk was not there, by layer; one that several tasks read counts for each.

    Records are read only if a layer of the run has ``fill_missing``.
    """
    layers = (getattr(run.config.layers, name) for name in LayersSection.model_fields)
    if not any(layer is not None and layer.fill_missing for layer in layers):
        return {}
    counts: Counter[LayerName] = Counter()
    for stage in stages_of(run):
        ledger = stage.ledger(run)
        for index in ledger.done():
            told = (ledger.record_of(index) or {}).get(KEY)
            if isinstance(told, dict):
                counts.update(told)
    return dict(counts)


def missing_notes(run: Run) -> list[str]:
    """A line for each layer of which chunks were missing."""
    return [
        f"note: {name} ({run.layer_path(name)}): {count} times a chunk was not there and counted "
        "as 0, since it has fill_missing"
        for name, count in sorted(missing_counts(run).items())
    ]
