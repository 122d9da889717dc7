"""The writer in one process: survey, plan, every shard of every index, then the ``info``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cnapse.errors import LayerExistsError
from cnapse.store import Store
from cnapse.viewing.annotations.entries import Encoded, Placed, columns_of, encoded, placed
from cnapse.viewing.annotations.plan import Plan, WriteOptions, layer_info, plan_layer
from cnapse.viewing.annotations.schema import AnnotationSchema
from cnapse.viewing.annotations.shards import ShardOutput, assembled
from cnapse.viewing.annotations.survey import survey_part
from cnapse.viewing.annotations.table import AnnotationTable

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
    plan = plan_layer(schema, survey_part(schema, table), options)
    part = encoded(plan, table)
    store = prepare_folder(path, plan, overwrite=overwrite)
    largest: dict[int, int] = {}
    files = size = 0
    with ThreadPoolExecutor(plan.options.threads) as threads:
        for number, index in enumerate(plan.indexes):
            write = partial(_write_shard, store, plan, number, part, placed(plan, index, part))
            for output in threads.map(write, range(index.shards)):
                largest[number] = max(largest.get(number, 0), output[2])
                files += output[0]
                size += output[1]
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


def _write_shard(
    store: Store, plan: Plan, number: int, part: Encoded, entries: Placed, shard: int
) -> tuple[int, int, int]:
    """Write one shard: how many files, how many bytes, the longest list."""
    rows = slice(entries.starts[shard], entries.starts[shard + 1])
    columns = columns_of(plan.indexes[number], part, entries.rows[rows], entries.keys[rows])
    output: ShardOutput = assembled(plan, number, shard, columns)
    store.put_all(output.files, content_type="application/octet-stream")
    return len(output.files), sum(len(content) for _, content in output.files), output.largest
