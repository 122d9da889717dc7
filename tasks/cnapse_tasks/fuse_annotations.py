"""The annotation layer of partners, one task a shard; its ``info`` comes last."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from cnapse.viewing.additions import ANNOTATIONS
from cnapse.viewing.annotations import layer_info, reduce_shard
from cnapse_tasks.annotate import contents_of
from cnapse_tasks.run import Run
from cnapse_tasks.stages import STAGES, Cost
from cnapse_tasks.survey import layer_plan


def components(run: Run) -> Mapping[str, object]:  # noqa: ARG001 - all of it lies upstream
    """Nothing but what the survey depends on."""
    return {}


def indices(run: Run) -> Sequence[int]:
    """One task a shard of each index: by id, by related segment, by place."""
    return range(sum(index.shards for index in layer_plan(run).indexes))


def cost(run: Run) -> Cost:  # noqa: ARG001 - depends on the lines
    """Only lines."""
    return Cost(None, 0, 0, 0)


def prepare(run: Run) -> None:
    """Nothing to create."""


def forget(run: Run) -> None:
    """Take the layer away."""
    run.output.delete_folder(ANNOTATIONS)


def execute(run: Run, index: int) -> Mapping[str, object]:
    """Write one shard."""
    plan = layer_plan(run)
    firsts = list(itertools.accumulate((own.shards for own in plan.indexes), initial=0))
    number = next(n for n, last in enumerate(firsts[1:]) if index < last)
    shard = index - firsts[number]
    made = reduce_shard(plan, number, shard, contents_of(run, number, shard))
    run.output.put_all((f"{ANNOTATIONS}/{name}", content) for name, content in made.files)
    return {"index": number, "annotations": made.annotations, "largest": made.largest}


def finish(run: Run) -> None:
    """Write the ``info``: without it, the viewer shows nothing."""
    ledger = STAGES["fuse_annotations"].ledger(run)
    largest: dict[int, int] = defaultdict(int)
    for index in ledger.done():
        facts: Any = ledger.record_of(index) or {}
        if "index" in facts:
            number = int(facts["index"])
            largest[number] = max(largest[number], int(facts["largest"]))
    run.output.put_json(f"{ANNOTATIONS}/info", layer_info(layer_plan(run), largest))
