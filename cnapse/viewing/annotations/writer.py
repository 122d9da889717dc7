"""The writer in one process: survey, plan, every shard of every index, then the ``info``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

from cnapse.errors import LayerExistsError
from cnapse.store import Store, local_path
from cnapse.viewing.annotations.entries import Encoded, TableRows, encoded, placed
from cnapse.viewing.annotations.plan import Plan, WriteOptions, layer_info, plan_layer
from cnapse.viewing.annotations.schema import AnnotationSchema
from cnapse.viewing.annotations.shards import assembled
from cnapse.viewing.annotations.survey import survey_part
from cnapse.viewing.annotations.table import AnnotationTable
from cnapse.viewing.annotations.turns import in_turn

__all__ = ["Written", "prepare_folder", "write_annotations"]


@dataclass(frozen=True, slots=True)
class Written:
    """What `write_annotations` wrote.

    Attributes
    ----------
    annotations : int
    levels : int
        Of the spatial index.
    files : int
        The ``info`` not counted.
    stored_bytes : int
    """

    annotations: int
    levels: int
    files: int
    stored_bytes: int


def write_annotations(
    path: str | Path,
    schema: AnnotationSchema,
    table: AnnotationTable,
    options: WriteOptions | None = None,
    *,
    overwrite: bool = False,
) -> Written:
    """Write a precomputed annotation layer.

    It takes memory for the encoded table, one number of an index and few shards. The ``info`` is
    written last: without it there is no layer.

    Parameters
    ----------
    path
        Folder on disk or in a bucket.
    schema
    table
    options
    overwrite : bool
        Whether a layer that is there is replaced.

    Raises
    ------
    LayerExistsError
        If there is one, and it must not be replaced.
    TableError
        If the table's columns are not those of the schema, a value cannot be stored, a position is
        no number, or an id is there twice.
    StorageError
        If it cannot be written there.
    """
    threads = (options or WriteOptions()).threads
    with ThreadPoolExecutor(threads) as pool:
        plan = plan_layer(schema, survey_part(schema, table, pool), options)
        part = encoded(plan, table, pool)
        store = prepare_folder(path, plan, overwrite=overwrite)
        largest: dict[int, int] = {}
        files = size = 0
        for output in in_turn(pool, _jobs(store, plan, part), 2 * threads):
            largest[output.number] = max(largest.get(output.number, 0), output.largest)
            files += output.files
            size += output.stored_bytes
    store.put_json("info", layer_info(plan, largest))
    return Written(len(table), len(plan.levels), files, size)


def prepare_folder(path: str | Path, plan: Plan, *, overwrite: bool = False) -> Store:
    """Make place for a layer: delete what is there of one, the ``info`` first.

    Raises
    ------
    LayerExistsError
        If there is a layer, and it must not be replaced.
    """
    store = Store(path)
    if (info := store.get_json("info")) is not None:
        if not overwrite:
            raise LayerExistsError(
                f"{store.path} holds a layer already: choose another path, or say to overwrite it"
            )
        if info.get("@type") != "neuroglancer_annotations_v1":
            raise LayerExistsError(
                f"{store.path} holds a layer that is not of annotations: choose another path"
            )
        store.delete(["info"])
    old = [info["by_id"], *info["relationships"], *info["spatial"]] if info else []
    for key in {index.key for index in plan.indexes} | {str(place["key"]) for place in old}:
        # A layer of others may have its indexes elsewhere: those are not ours to delete.
        if "/" not in key and key != "..":
            store.delete_folder(key)
    return store


class _Shard(NamedTuple):
    """What was written of one shard."""

    number: int
    files: int
    stored_bytes: int
    largest: int


def _jobs(store: Store, plan: Plan, part: Encoded) -> Iterator[Callable[[], _Shard]]:
    """The shards of all indexes; the coarse levels, which hold little, last."""
    spatial = [i for i, index in enumerate(plan.indexes) if index.role == "spatial"]
    others = [i for i, index in enumerate(plan.indexes) if index.role != "spatial"]
    for number in (*others, *reversed(spatial)):
        entries = placed(plan, plan.indexes[number], part)
        for shard in range(plan.indexes[number].shards):
            rows = entries.of_shard(shard, part)
            yield partial(_write_shard, store, plan, number, shard, rows)


def _write_shard(store: Store, plan: Plan, number: int, shard: int, rows: TableRows) -> _Shard:
    made = assembled(plan, number, shard, rows)
    files = made.files
    if local_path(store.path) is None:
        files = [(name, bytes(content)) for name, content in files]
    # On disk any bytes are written as they lie in memory.
    store.put_all(cast(list[tuple[str, bytes]], files), content_type="application/octet-stream")
    return _Shard(number, len(files), sum(len(content) for _, content in files), made.largest)
