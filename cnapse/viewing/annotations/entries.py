"""From a table to the entries of its indexes: which keys an annotation has, and its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from cnapse.viewing.annotations.hashing import murmur
from cnapse.viewing.annotations.levels import level_of
from cnapse.viewing.annotations.plan import Index, Plan
from cnapse.viewing.annotations.spatial import cells_of
from cnapse.viewing.annotations.table import (
    AnnotationTable,
    as_related,
    check_table,
    encode_records,
    related_pairs,
)

__all__ = ["Columns", "Encoded", "Placed", "columns_of", "encoded", "placed", "places_of"]

Ids = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint32]


class Columns(NamedTuple):
    """Entries of one shard of one index, in any order.

    Attributes
    ----------
    keys : ndarray of uint64, shape (n,)
        Id of the annotation, segment, or code of the cell.
    ids : ndarray of uint64, shape (n,)
        Id of the annotation.
    lengths : ndarray of int64, shape (n,)
        Words of each entry.
    words : ndarray of uint32
        The entries one after the other.
    """

    keys: Ids
    ids: Ids
    lengths: Int64s
    words: Words


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A table with its records encoded, and what each annotation is related to."""

    ids: Ids
    records: Words
    level: Int64s
    pairs: tuple[tuple[Int64s, Ids], ...]
    offsets: tuple[Int64s, ...]

    def __len__(self) -> int:
        return len(self.ids)


class Placed(NamedTuple):
    """Entries of one index, grouped by shard.

    Attributes
    ----------
    rows : ndarray of int64
        Row of the table of each entry.
    keys : ndarray of uint64
    starts : ndarray of int64, shape (shards + 1,)
        Shard i has the entries from ``starts[i]`` up to ``starts[i + 1]``.
    """

    rows: Int64s
    keys: Ids
    starts: Int64s


def encoded(plan: Plan, table: AnnotationTable) -> Encoded:
    """Encode a table or a part of it.

    Raises
    ------
    TableError
        If its columns are not those of the plan, or a value cannot be stored.
    """
    schema = plan.schema
    check_table(schema, table)
    ids = np.ascontiguousarray(table.ids, np.uint64)
    n = len(ids)
    related = [as_related(table.relationships[name]) for name in schema.relationships]
    pairs = tuple(related_pairs(one, n) for one in related)
    return Encoded(
        ids,
        encode_records(schema, table),
        level_of(plan.levels, ids),
        pairs,
        tuple(np.searchsorted(rows, np.arange(n + 1)) for rows, _ in pairs),
    )


def placed(plan: Plan, index: Index, table: Encoded) -> Placed:
    """The entries of an index by shard."""
    rows, keys = _keys(plan, index, table)
    if index.shard_bits == 0:
        return Placed(rows, keys, np.array([0, len(rows)]))
    shards, _ = places_of(index, keys)
    order, starts = grouped(shards, index.shards)
    return Placed(rows[order], keys[order], starts)


def places_of(index: Index, keys: Ids) -> tuple[Int64s, Int64s]:
    """Shard and minishard of each key ("Sharding specification")."""
    hashes = keys if index.role == "spatial" else murmur(keys)
    value = hashes >> np.uint64(index.preshift_bits)
    minishards = value & np.uint64((1 << index.minishard_bits) - 1)
    shards = (value >> np.uint64(index.minishard_bits)) & np.uint64(index.shards - 1)
    return shards.astype(np.int64), minishards.astype(np.int64)


def columns_of(index: Index, table: Encoded, rows: Int64s, keys: Ids) -> Columns:
    """The entries of some rows of a table, with their bytes."""
    ids = table.ids[rows]
    width = table.records.shape[1]
    if index.role != "by_id":
        return Columns(keys, ids, np.full(len(rows), width), table.records[rows].ravel())
    counts = [np.diff(offsets)[rows] for offsets in table.offsets]
    lengths = np.full(len(rows), width + len(counts)) + 2 * sum(
        counts, np.zeros(len(rows), np.int64)
    )
    words = np.empty(int(lengths.sum()), np.uint32)
    cursor = np.cumsum(lengths) - lengths
    _put_records(words, cursor, table.records, rows)
    for (_, values), offsets in zip(table.pairs, table.offsets, strict=True):
        _put_related(words, cursor, rows, offsets, values)
    return Columns(keys, ids, lengths, words)


@njit(nogil=True, cache=True)
def grouped(groups: Int64s, count: int) -> tuple[Int64s, Int64s]:
    """The order that puts numbered groups one after the other, stable, and where each starts."""
    starts = np.zeros(count + 1, np.int64)
    for i in range(len(groups)):
        starts[groups[i] + 1] += 1
    starts = np.cumsum(starts)
    order, cursor = np.empty(len(groups), np.int64), starts[:-1].copy()
    for i in range(len(groups)):
        order[cursor[groups[i]]] = i
        cursor[groups[i]] += 1
    return order, starts


def _keys(plan: Plan, index: Index, table: Encoded) -> tuple[Int64s, Ids]:
    """Row and key of each entry of an index."""
    if index.role == "by_id":
        return np.arange(len(table)), table.ids
    if index.role == "relationship":
        return table.pairs[index.number]
    rows = np.flatnonzero(table.level == index.number)
    geometry = table.records.view(np.float32)[:, : 3 * plan.schema.ends]
    inside, codes = cells_of(plan.grid(index.number), geometry[rows])
    return rows[inside], codes


@njit(nogil=True, cache=True)
def _put_records(words: Words, cursor: Int64s, records: Words, rows: Int64s) -> None:
    width = records.shape[1]
    for i in range(len(rows)):
        for j in range(width):
            words[cursor[i] + j] = records[rows[i], j]
        cursor[i] += width


@njit(nogil=True, cache=True)
def _put_related(words: Words, cursor: Int64s, rows: Int64s, offsets: Int64s, values: Ids) -> None:
    """Append the number of segments and the segments of each row ("Single annotation encoding")."""
    for i in range(len(rows)):
        first, stop, at = offsets[rows[i]], offsets[rows[i] + 1], cursor[i]
        words[at] = stop - first
        for j in range(first, stop):
            place = at + 1 + 2 * (j - first)
            words[place] = np.uint32(values[j] & np.uint64(0xFFFFFFFF))
            words[place + 1] = np.uint32(values[j] >> np.uint64(32))
        cursor[i] = at + 1 + 2 * (stop - first)
