"""The reduce step: the entries of one shard, sorted, grouped and put into its file.

The file is that of neuroglancer's ``sharded.md``: the shard index, the lists in the order of
minishard and key, then the minishard indexes. What is in it follows from the entries alone: the
lists of a segment are in the order of ids, those of a cell in one drawn by lot.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from cnapse.errors import TableError
from cnapse.viewing.annotations.entries import Columns, grouped, places_of
from cnapse.viewing.annotations.fragments import concatenated, parse_fragments
from cnapse.viewing.annotations.hashing import lots
from cnapse.viewing.annotations.plan import Index, Plan
from cnapse.viewing.annotations.spatial import cell_of

__all__ = ["ShardOutput", "assembled", "reduce_shard"]

Ids = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint32]

# Another than those that choose levels and the sample.
_SEED = 3
_WORD = 4
_RANGE_BYTES = 16
_GZIP_LEVEL = 6


class ShardOutput(NamedTuple):
    """The files of one shard.

    Attributes
    ----------
    files : list of (str, bytes)
        Names inside the layer's folder. One, or none for an empty shard; without sharding one for
        each key.
    entries : int
        Keys.
    annotations : int
        Annotations in their lists.
    largest : int
        The most annotations of one key.
    """

    files: list[tuple[str, bytes]]
    entries: int
    annotations: int
    largest: int


class _Lists(NamedTuple):
    """Encoded lists one after the other, in the order of minishard and key."""

    keys: Ids
    minishards: Int64s
    words: Words
    bounds: Int64s


def reduce_shard(plan: Plan, index: int, shard: int, contents: Iterable[bytes]) -> ShardOutput:
    """Make the files of one shard.

    Parameters
    ----------
    plan
    index : int
        Place in the plan's indexes.
    shard : int
    contents : iterable of bytes
        Its fragments from all parts, in any order, each as it is or several together.

    Raises
    ------
    TableError
        If an id is there twice.
    DamagedFileError, RunStateError
        If a fragment is not whole, or of another plan.
    """
    parts = (parse_fragments(plan, index, shard, content) for content in contents)
    return assembled(plan, index, shard, concatenated(chain.from_iterable(parts)))


def assembled(plan: Plan, index: int, shard: int, columns: Columns) -> ShardOutput:
    """Make the files of one shard from its entries."""
    of = plan.indexes[index]
    n = len(columns.keys)
    if n == 0:
        return ShardOutput([], 0, 0, 0)
    lists, largest = _lists(of, columns)
    if plan.options.sharded:
        digits = -(-of.shard_bits // 4)
        number = f"{shard:x}".zfill(digits) if digits else "0"
        files = [(f"{of.key}/{number}.shard", _shard_file(plan, of, lists))]
    else:
        files = list(_single_files(plan, of, lists))
    return ShardOutput(files, len(lists.keys), n, largest)


def _lists(index: Index, columns: Columns) -> tuple[_Lists, int]:
    """Entries as lists by key, and the longest of them."""
    _, minishards = places_of(index, columns.keys)
    order = _order(index, columns, minishards)
    keys = columns.keys[order]
    firsts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    bounds = np.append(firsts, len(keys))
    begins = np.cumsum(columns.lengths) - columns.lengths
    counts = np.diff(bounds)
    if index.role == "by_id":
        if len(firsts) < len(keys):
            raise TableError(
                f"id {keys[firsts[np.argmax(counts)]]} is there {counts.max()} times: give each "
                "annotation an id of its own"
            )
        ends = np.append(0, np.cumsum(columns.lengths[order]))
        words = _singles(columns.words, begins, columns.lengths, order, ends)
    else:
        width = int(columns.lengths[0])
        ends = np.append(0, np.cumsum(2 + counts * (width + 2)))
        words = _multiples(columns.words, columns.ids, width, order, bounds, ends)
    return _Lists(keys[firsts], minishards[order[firsts]], words, ends), int(counts.max())


def _order(index: Index, columns: Columns, minishards: Int64s) -> Int64s:
    """Entries by minishard and key; in a list by id, or in a cell by lot."""
    minishard_count = 1 << index.minishard_bits
    if index.role == "by_id":
        order, starts = grouped(minishards, minishard_count)
    else:
        ties = lots(columns.ids, _SEED) if index.role == "spatial" else columns.ids
        if (ties[1:] >= ties[:-1]).all():
            order, starts = grouped(minishards, minishard_count)
        else:
            by_tie = np.argsort(ties)
            order, starts = grouped(minishards[by_tie], minishard_count)
            order = by_tie[order]
    return _sorted_within(columns.keys, order, starts)


def _shard_file(plan: Plan, index: Index, lists: _Lists) -> bytes:
    """The bytes of a shard ("Shard index format", "Minishard index format")."""
    minishard_count = 1 << index.minishard_bits
    if plan.encoding(index) == "gzip":
        content = [_zipped(chunk) for chunk in _chunks(lists)]
        ends = np.append(0, np.cumsum([len(chunk) for chunk in content]))
    else:
        content = [lists.words.astype("<u4", copy=False).tobytes()]
        ends = lists.bounds * _WORD
    firsts = np.searchsorted(lists.minishards, np.arange(minishard_count + 1))
    ranges = np.zeros((minishard_count, 2), "<u8")
    at = int(ends[-1])
    for i, (first, stop) in enumerate(pairwise(firsts.tolist())):
        table = _minishard_index(lists.keys, ends, first, stop) if stop > first else b""
        if table and plan.options.compression == "gzip":
            table = _zipped(table)
        ranges[i] = at, at + len(table)
        content.append(table)
        at += len(table)
    return b"".join([ranges.tobytes(), *content])


def _minishard_index(keys: Ids, ends: Int64s, first: int, stop: int) -> bytes:
    """Keys and places of the lists of a minishard; they lie behind one another."""
    table = np.zeros((3, stop - first), "<u8")
    table[0, 0] = keys[first]
    table[0, 1:] = np.diff(keys[first:stop])
    table[1, 0] = ends[first]
    table[2] = np.diff(ends[first : stop + 1])
    return table.tobytes()


def _single_files(plan: Plan, index: Index, lists: _Lists) -> Iterator[tuple[str, bytes]]:
    """One file for each key."""
    for key, chunk in zip(lists.keys.tolist(), _chunks(lists), strict=True):
        name = str(key)
        if index.role == "spatial":
            name = "_".join(map(str, cell_of(key, plan.levels[index.number].shape)))
        yield f"{index.key}/{name}", chunk


def _chunks(lists: _Lists) -> Iterator[bytes]:
    words = lists.words.astype("<u4", copy=False)
    for start, stop in pairwise(lists.bounds.tolist()):
        yield words[start:stop].tobytes()


def _zipped(content: bytes) -> bytes:
    # No time in it: the same content gives the same bytes.
    return gzip.compress(content, _GZIP_LEVEL, mtime=0)


@njit(nogil=True, cache=True)
def _sorted_within(keys: Ids, order: Int64s, starts: Int64s) -> Int64s:
    """Each minishard's entries by key; those of one key stay as they are."""
    result = np.empty_like(order)
    for i in range(len(starts) - 1):
        inside = order[starts[i] : starts[i + 1]]
        result[starts[i] : starts[i + 1]] = inside[np.argsort(keys[inside], kind="mergesort")]
    return result


@njit(nogil=True, cache=True)
def _singles(words: Words, begins: Int64s, lengths: Int64s, order: Int64s, ends: Int64s) -> Words:
    """Entries in a new order."""
    result = np.empty(ends[-1], np.uint32)
    for i in range(len(order)):
        source, target = begins[order[i]], ends[i]
        for j in range(lengths[order[i]]):
            result[target + j] = words[source + j]
    return result


@njit(nogil=True, cache=True)
def _multiples(
    words: Words, ids: Ids, width: int, order: Int64s, bounds: Int64s, ends: Int64s
) -> Words:
    """Lists of annotations: their number, records, ids ("Multiple annotation encoding")."""
    result = np.empty(ends[-1], np.uint32)
    for i in range(len(bounds) - 1):
        count, at = bounds[i + 1] - bounds[i], ends[i]
        result[at], result[at + 1] = count & 0xFFFFFFFF, count >> 32
        at += 2
        for k in range(bounds[i], bounds[i + 1]):
            source = order[k] * width
            for j in range(width):
                result[at + j] = words[source + j]
            at += width
        for k in range(bounds[i], bounds[i + 1]):
            value = ids[order[k]]
            result[at] = np.uint32(value & np.uint64(0xFFFFFFFF))
            result[at + 1] = np.uint32(value >> np.uint64(32))
            at += 2
    return result
