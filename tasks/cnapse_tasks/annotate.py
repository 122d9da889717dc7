"""Lines of partners, sorted to the shards of the annotation layer; one task a bundle of parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from cnapse.viewing.annotations import map_part
from cnapse_tasks.run import Run
from cnapse_tasks.survey import bundles_of, cost, layer_plan, lines_of, prepare

# The tasks are those of `survey`: one a bundle.
__all__ = ["components", "contents_of", "cost", "execute", "indices", "prepare"]

_CONTENT = "content"


def components(run: Run) -> Mapping[str, object]:  # noqa: ARG001 - all of it lies upstream
    """Nothing but what the survey depends on."""
    return {}


def indices(run: Run) -> Sequence[int]:
    """One task a bundle."""
    return bundles_of(run)


def folder_of(index: int, shard: int) -> str:
    """Where the fragments of a shard are, of one of the layer's indexes."""
    return f"{index:02d}-{shard:07d}"


def contents_of(run: Run, index: int, shard: int) -> Iterator[bytes]:
    """The fragments of a shard, in the order of the bundles."""
    store = run.data("annotate")
    folder = folder_of(index, shard)
    for name in sorted(store.names(folder)):
        arrays = store.get_arrays(f"{folder}/{name}")
        if arrays is not None:
            yield arrays[_CONTENT].tobytes()


def execute(run: Run, index: int) -> Mapping[str, object]:
    """Sort the lines of one bundle."""
    store = run.data("annotate")
    count = 0
    for fragment in map_part(layer_plan(run), lines_of(run, index)):
        name = f"{folder_of(fragment.index, fragment.shard)}/{index:08d}.st"
        store.put_arrays(name, {_CONTENT: np.frombuffer(fragment.content, np.uint8)})
        count += 1
    return {"fragments": count}
