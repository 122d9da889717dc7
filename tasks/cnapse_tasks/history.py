"""What the records of a run tell of it: counts and times per stage, for its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cnapse.analysis.report.history import RunHistory, StageHistory, flat
from cnapse.errors import CnapseError
from cnapse_tasks.ledger import Ledger
from cnapse_tasks.run import Run
from cnapse_tasks.stages import STAGES, Stage

__all__ = ["run_history"]

_MOST_RECORDS = 2000
"""That are read of a stage; of more, some over its whole length."""

_COUNTED = (
    "voxels", "labels", "objects", "rows", "synapses", "partners", "cells", "lines", "annotations",
)  # fmt: skip
"""What tasks note that can be added up."""


def run_history(run: Run) -> RunHistory:
    """Read the records of a run.

    Parameters
    ----------
    run : Run

    Returns
    -------
    RunHistory
        Its stages as far as they have begun. Of a stage with very many tasks a sample of the
        records is read, and its times and counts are estimates.
    """
    # Not those of `stages_of`, which needs the layers: they may be gone long before the records.
    begun = [stage for stage in STAGES.values() if stage.ledger(run).plan()]
    return RunHistory(tuple(_stage(run, stage) for stage in begun))


def _stage(run: Run, stage: Stage) -> StageHistory:
    ledger = stage.ledger(run)
    plan: Mapping[str, Any] = ledger.plan() or {}
    done = sorted(ledger.done())
    records = _sample(ledger, done)
    factor = len(done) / len(records) if records else 1.0
    ended = [float(r["ended"]) for r in records if "ended" in r]
    began = [float(r["ended"]) - float(r.get("seconds", 0.0)) for r in records if "ended" in r]
    components = plan.get("components", {})
    return StageHistory(
        name=stage.name,
        done=len(done),
        total=_total(run, stage),
        set_aside=tuple(f"task {one.index}: {one.reason}" for one in ledger.aside()),
        task_seconds=factor * sum(float(r.get("seconds", 0.0)) for r in records),
        began=min(began, default=None),
        ended=max(ended, default=None),
        hosts=tuple(sorted({str(r["host"]) for r in records if "host" in r})),
        counts={name: round(factor * n) for name, n in _counts(records).items()},
        sampled=len(records),
        version=int(components.get("version", 0)),
        key=str(plan.get("key", "")),
        parameters=flat(components),
    )


def _total(run: Run, stage: Stage) -> int | None:
    """How many tasks it has; None where that cannot be told any more."""
    try:
        return len(stage.module.indices(run))
    except CnapseError:
        return None


def _sample(ledger: Ledger, done: Sequence[int]) -> list[dict[str, Any]]:
    chosen = done[:: -(-len(done) // _MOST_RECORDS) or 1]
    return [record for index in chosen if (record := ledger.record_of(index)) is not None]


def _counts(records: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Whole numbers that tasks noted, added up."""
    found: dict[str, int] = {}
    for record in records:
        for name in _COUNTED:
            if isinstance(value := record.get(name), int):
                found[name] = found.get(name, 0) + value
    return found
