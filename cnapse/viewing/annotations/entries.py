"""From a table to the entries of its indexes: which keys an annotation has, and its bytes."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit

from cnapse.viewing.annotations.hashing import murmur
from cnapse.viewing.annotations.levels import level_of
from cnapse.viewing.annotations.ordering import grouped
from cnapse.viewing.annotations.plan import Index, Plan
from cnapse.viewing.annotations.spatial import cells_of
from cnapse.viewing.annotations.table import (
    AnnotationTable,
    Related,
    as_related,
    check_table,
    encode_records,
    unique_related,
)

__all__ = [
    "Columns",
    "Encoded",
    "Entries",
    "Placed",
    "TableRows",
    "encoded",
    "gathered",
    "placed",
    "places_of",
]

Ids = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]
Orders = npt.NDArray[np.uint32]
Words = npt.NDArray[np.uint32]

_Value = TypeVar("_Value", bound=np.generic)

# Rows that are encoded at a time: what is made of them on the way stays in the processor's cache.
_ROWS = 1 << 16


class Entries(Protocol):
    """Entries of one shard of one index, in any order: where the bytes of its lists come from.

    Attributes
    ----------
    keys : ndarray of uint64, shape (n,)
        Id of the annotation, segment, or code of the cell.
    ids : ndarray of uint64, shape (n,)
        Id of the annotation.
    """

    @property
    def keys(self) -> Ids:
        """Key of each entry."""

    @property
    def ids(self) -> Ids:
        """Annotation of each entry."""

    @property
    def width(self) -> int:
        """Words of a record without its segments."""

    def records(self, order: Orders) -> Words:
        """Records without their segments in an order, shape (n, width)."""

    def lengths(self) -> Int64s:
        """Words of each entry with its segments."""

    def put(self, words: Words, order: Orders, starts: Int64s) -> None:
        """Write entries with their segments in an order, each where it is said to start."""


class Columns(NamedTuple):
    """Entries of one shard with their bytes, as fragments carry them.

    Attributes
    ----------
    keys, ids : ndarray of uint64, shape (n,)
    sizes : ndarray of int64, shape (n,)
        Words of each entry.
    words : ndarray of uint32
        The entries one after the other.
    """

    keys: Ids
    ids: Ids
    sizes: Int64s
    words: Words

    @property
    def width(self) -> int:
        """As `Entries` has it."""
        return len(self.words) // len(self.keys)

    def records(self, order: Orders) -> Words:
        """As `Entries` has it."""
        return _taken(self.words.reshape(len(self.keys), -1), order)

    def lengths(self) -> Int64s:
        """As `Entries` has it."""
        return self.sizes

    def put(self, words: Words, order: Orders, starts: Int64s) -> None:
        """As `Entries` has it."""
        begins = np.cumsum(self.sizes) - self.sizes
        _put_words(words, starts, self.words, begins[order], self.sizes[order])


class TableRows(NamedTuple):
    """Entries of one shard as rows of a table in memory.

    Attributes
    ----------
    keys : ndarray of uint64, shape (n,)
    rows : ndarray of int64, shape (n,)
    table : Encoded
    """

    keys: Ids
    rows: Int64s
    table: Encoded

    @property
    def ids(self) -> Ids:
        """As `Entries` has it."""
        ids: Ids = self.table.ids[self.rows]
        return ids

    @property
    def width(self) -> int:
        """As `Entries` has it."""
        return int(self.table.records.shape[1])

    def records(self, order: Orders) -> Words:
        """As `Entries` has it."""
        return _taken(self.table.records, self.rows[order])

    def lengths(self) -> Int64s:
        """As `Entries` has it."""
        related = self.table.related
        alone = self.width + len(related)
        counts = (_counts(one, self.rows) for one in related)
        return 2 * sum(counts, np.zeros(len(self.rows), np.int64)) + alone

    def put(self, words: Words, order: Orders, starts: Int64s) -> None:
        """As `Entries` has it."""
        rows, cursor = self.rows[order], starts.copy()
        _put_records(words, cursor, _taken(self.table.records, rows))
        for one in self.table.related:
            if one.offsets is None:
                _put_segment(words, cursor, _taken(one.values, rows))
            else:
                _put_segments(words, cursor, rows, one.offsets, one.values)


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A table with its records encoded, the level of each, and what each is related to."""

    ids: Ids
    records: Words
    level: npt.NDArray[np.uint8]
    related: tuple[Related, ...]

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

    def of_shard(self, shard: int, table: Encoded) -> TableRows:
        """The entries of a shard."""
        some = slice(self.starts[shard], self.starts[shard + 1])
        return TableRows(self.keys[some], self.rows[some], table)


def encoded(plan: Plan, table: AnnotationTable, threads: Executor | None = None) -> Encoded:
    """Encode a table or a part of it.

    Raises
    ------
    TableError
        If its columns are not those of the plan, or a value cannot be stored.
    """
    schema = plan.schema
    check_table(schema, table)
    n = len(table)
    ids = np.ascontiguousarray(table.ids, np.uint64)
    records = np.empty((n, schema.record_bytes // 4), np.uint32)
    level = np.empty(n, np.uint8)

    def encode(start: int) -> None:
        some = slice(start, start + _ROWS)
        records[some] = encode_records(schema, table.rows(start, min(start + _ROWS, n)))
        level[some] = level_of(plan.levels, ids[some])

    # Gone through, so that what a thread raises is raised here.
    for _ in (threads.map if threads else map)(encode, range(0, n, _ROWS)):
        pass
    related = [unique_related(as_related(table.relationships[r])) for r in schema.relationships]
    return Encoded(ids, records, level, tuple(related))


def placed(plan: Plan, index: Index, table: Encoded) -> Placed:
    """The entries of an index by shard."""
    rows, keys = _keys(plan, index, table)
    if index.shard_bits == 0:
        return Placed(rows, keys, np.array([0, len(rows)]))
    shards, _ = places_of(index, keys)
    order, starts = grouped(shards, index.shards)
    return Placed(rows[order], keys[order], starts)


def places_of(index: Index, keys: Ids) -> tuple[Orders, Orders]:
    """Shard and minishard of each key ("Sharding specification")."""
    hashes = keys if index.role == "spatial" else murmur(keys)
    return _places(hashes, index.preshift_bits, index.minishard_bits, index.shard_bits)


def gathered(index: Index, entries: TableRows) -> Columns:
    """Entries with their bytes, in the order they have."""
    n = len(entries.keys)
    if index.role == "by_id":
        lengths = entries.lengths()
        ends = np.cumsum(lengths)
        words = np.empty(int(ends[-1]) if n else 0, np.uint32)
        entries.put(words, np.arange(n, dtype=np.uint32), ends - lengths)
    else:
        lengths = np.full(n, entries.width)
        words = _taken(entries.table.records, entries.rows).ravel()
    return Columns(entries.keys, entries.ids, lengths, words)


def _taken(values: npt.NDArray[_Value], rows: npt.NDArray[np.integer[Any]]) -> npt.NDArray[_Value]:
    """Some rows; all are there. Of rows of several words this is faster than an index."""
    return np.take(values, rows, axis=0, mode="clip")


def _counts(related: Related, rows: Int64s) -> Int64s:
    """How many segments rows have."""
    if related.offsets is None:
        return np.asarray(related.values[rows] != 0, np.int64)
    counts: Int64s = related.offsets[rows + 1] - related.offsets[rows]
    return counts


def _keys(plan: Plan, index: Index, table: Encoded) -> tuple[Int64s, Ids]:
    """Row and key of each entry of an index."""
    if index.role == "by_id":
        return np.arange(len(table)), table.ids
    if index.role == "relationship":
        related = table.related[index.number]
        if related.offsets is not None:
            return np.repeat(np.arange(len(table)), np.diff(related.offsets)), related.values
        rows = np.flatnonzero(related.values)
        return rows, related.values if len(rows) == len(table) else related.values[rows]
    rows = np.flatnonzero(table.level == index.number)
    geometry = table.records.view(np.float32)[:, : 3 * plan.schema.ends]
    inside, codes = cells_of(plan.grid(index.number), geometry[rows])
    return rows[inside], codes


@njit(nogil=True, cache=True)
def _places(hashes: Ids, preshift: int, minishard: int, shard: int) -> tuple[Orders, Orders]:
    shards, minishards = np.empty(len(hashes), np.uint32), np.empty(len(hashes), np.uint32)
    for i in range(len(hashes)):
        value = hashes[i] >> np.uint64(preshift)
        minishards[i] = value & np.uint64((1 << minishard) - 1)
        shards[i] = (value >> np.uint64(minishard)) & np.uint64((1 << shard) - 1)
    return shards, minishards


@njit(nogil=True, cache=True)
def _put_words(
    words: Words, starts: Int64s, source: Words, begins: Int64s, lengths: Int64s
) -> None:
    for i in range(len(begins)):
        target, begin = starts[i], begins[i]
        for j in range(lengths[i]):
            words[target + j] = source[begin + j]


@njit(nogil=True, cache=True)
def _put_records(words: Words, cursor: Int64s, records: Words) -> None:
    width = records.shape[1]
    for i in range(len(records)):
        record, target = records[i], words[cursor[i] : cursor[i] + width]
        for j in range(width):
            target[j] = record[j]
        cursor[i] += width


@njit(nogil=True, cache=True)
def _put_segment(words: Words, cursor: Int64s, values: Ids) -> None:
    """Append the number of segments, 1 or 0, and the segment ("Single annotation encoding")."""
    for i in range(len(values)):
        value, at = values[i], cursor[i]
        if value == 0:
            words[at] = 0
            cursor[i] = at + 1
        else:
            words[at] = 1
            words[at + 1] = np.uint32(value & np.uint64(0xFFFFFFFF))
            words[at + 2] = np.uint32(value >> np.uint64(32))
            cursor[i] = at + 3


@njit(nogil=True, cache=True)
def _put_segments(words: Words, cursor: Int64s, rows: Int64s, offsets: Int64s, values: Ids) -> None:
    """The same where a row may have several."""
    for i in range(len(rows)):
        first, stop, at = offsets[rows[i]], offsets[rows[i] + 1], cursor[i]
        words[at] = stop - first
        for j in range(first, stop):
            place = at + 1 + 2 * (j - first)
            words[place] = np.uint32(values[j] & np.uint64(0xFFFFFFFF))
            words[place + 1] = np.uint32(values[j] >> np.uint64(32))
        cursor[i] = at + 1 + 2 * (stop - first)
