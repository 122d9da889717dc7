"""A layer of a source of any size: in memory where it fits, else through files on this disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from cnapse.errors import LayerExistsError, TableError
from cnapse.interchange.source import Source
from cnapse.store import Store
from cnapse.viewing.annotations import (
    AnnotationTable,
    Fragment,
    Plan,
    ShardOutput,
    WriteOptions,
    Written,
    layer_info,
    map_part,
    merge_surveys,
    plan_layer,
    prepare_folder,
    reduce_shard,
    survey_part,
    write_annotations,
)
from cnapse.viewing.annotations.table import as_related
from cnapse.viewing.annotations.turns import in_turn

__all__ = ["SHARDED_FROM", "write_source"]

SHARDED_FROM = 10_000
"""Annotations from which a layer is sharded unless said otherwise; else each is a file."""

_ROWS_IN_MEMORY = 2_000_000


def write_source(
    path: str | Path,
    source: Source,
    *,
    sharded: bool | None = None,
    overwrite: bool = False,
    rows_in_memory: int = _ROWS_IN_MEMORY,
    workers: int = 2,
) -> Written:
    """Write a precomputed annotation layer of a synapse table.

    The source is gone through once to check it, and, where it is larger than `rows_in_memory`,
    once more to write it; it then takes disk for a copy of the layer (``TMPDIR``). The bytes
    are the same either way.

    Parameters
    ----------
    path
        Folder on disk or in a bucket.
    source : Source
    sharded : bool, optional
        Default: from `SHARDED_FROM` annotations on.
    overwrite : bool
        Whether a layer that is there is replaced.
    rows_in_memory : int
        The most annotations to hold.
    workers : int
        Threads. Of a larger table each holds a part of about a million rows, or a shard.

    Raises
    ------
    LayerExistsError
        If there is a layer, and it must not be replaced; nothing is read then.
    TableError
        If the table is not one that can be stored. A fault that every row can show is found before
        anything is written or deleted; ids that are there twice too, in tables held in memory.
    StorageError
    """
    if not overwrite and Store(path).exists("info"):
        raise LayerExistsError(
            f"{Store(path).path} holds a layer already: choose another path, or replace it "
            "with --overwrite"
        )
    held: list[AnnotationTable] | None = []
    surveys, rows = [], 0
    for part in source.parts():
        surveys.append(survey_part(source.schema, part))
        rows += len(part)
        if held is not None:
            held = [*held, part] if rows <= rows_in_memory else None
    chosen = rows >= SHARDED_FROM if sharded is None else sharded
    options = WriteOptions(sharded=chosen, threads=workers)
    if held is not None:
        table = _joined(held)
        _check_ids(table)
        return write_annotations(path, source.schema, table, options, overwrite=overwrite)
    plan = plan_layer(source.schema, merge_surveys(surveys), options)
    with (
        tempfile.TemporaryDirectory(prefix="cnapse-annotate-") as scratch,
        ThreadPoolExecutor(workers) as pool,
    ):
        _map(plan, source, Path(scratch), pool)
        store = prepare_folder(path, plan, overwrite=overwrite)
        return _reduce(plan, Path(scratch), store, pool)


def _map(plan: Plan, source: Source, scratch: Path, pool: Executor) -> None:
    """Sort all rows to files, one a shard."""
    jobs = (partial(_mapped, plan, part) for part in source.parts())
    for fragments in in_turn(pool, jobs, plan.options.threads):
        for fragment in fragments:
            with _fragments(scratch, fragment.index, fragment.shard).open("ab") as file:
                file.write(fragment.content)


def _mapped(plan: Plan, part: AnnotationTable) -> list[Fragment]:
    return list(map_part(plan, part))


def _reduce(plan: Plan, scratch: Path, store: Store, pool: Executor) -> Written:
    """Make every shard, and the ``info`` last."""
    largest: dict[int, int] = {}
    files = stored = annotations = 0
    shards = [
        (number, shard)
        for number, index in enumerate(plan.indexes)
        for shard in range(index.shards)
    ]
    jobs = (partial(_shard, plan, scratch, store, number, shard) for number, shard in shards)
    done = in_turn(pool, jobs, plan.options.threads)
    for (number, _), (count, size, made) in zip(shards, done, strict=True):
        largest[number] = max(largest.get(number, 0), made.largest)
        files += count
        stored += size
        annotations += made.annotations if plan.indexes[number].role == "by_id" else 0
    store.put_json("info", layer_info(plan, largest))
    return Written(annotations, len(plan.levels), files, stored)


def _shard(
    plan: Plan, scratch: Path, store: Store, number: int, shard: int
) -> tuple[int, int, ShardOutput]:
    """Make one shard: how many files, how many bytes, and the rest without the files."""
    made = reduce_shard(plan, number, shard, _contents(scratch, number, shard))
    store.put_all(made.files, content_type="application/octet-stream")
    size = sum(len(content) for _, content in made.files)
    return len(made.files), size, made._replace(files=[])


def _fragments(scratch: Path, index: int, shard: int) -> Path:
    return scratch / f"{index:02d}-{shard:07d}"


def _contents(scratch: Path, index: int, shard: int) -> Iterator[bytes]:
    file = _fragments(scratch, index, shard)
    if file.exists():
        yield file.read_bytes()
        # The disk is needed once, not twice.
        file.unlink()


def _joined(parts: list[AnnotationTable]) -> AnnotationTable:
    """The rows of all parts; relationships of sources have one segment a row."""
    first = parts[0]
    if len(parts) == 1:
        return first
    return AnnotationTable(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.points for part in parts]),
        {name: np.concatenate([p.properties[name] for p in parts]) for name in first.properties},
        {
            name: np.concatenate([as_related(p.relationships[name]).values for p in parts])
            for name in first.relationships
        },
    )


def _check_ids(table: AnnotationTable) -> None:
    """See that no id is there twice, before anything is deleted."""
    ordered = np.sort(table.ids)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        raise TableError(
            f"id {twice[0]} is there {np.count_nonzero(ordered == twice[0])} times, and "
            f"{len(np.unique(twice))} ids are there more than once: give --columns id=COLUMN, or "
            "--columns id= to count the rows instead"
        )
