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
from cnapse.viewing.annotations.entries import Entries, places_of
from cnapse.viewing.annotations.fragments import concatenated, parse_fragments
from cnapse.viewing.annotations.hashing import lots
from cnapse.viewing.annotations.ordering import sorted_by
from cnapse.viewing.annotations.plan import Index, Plan
from cnapse.viewing.annotations.spatial import cell_of

__all__ = ["Assembled", "ShardOutput", "assembled", "reduce_shard"]

Ids = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]
Orders = npt.NDArray[np.uint32]
Words = npt.NDArray[np.uint32]

# Another than those that choose levels and the sample.
_SEED = 3
_WORD = 4
_TABLE_ENTRY_BYTES = 24
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


class Assembled(NamedTuple):
    """The same with files as they lie in memory, which are not copied once more."""

    files: list[tuple[str, bytes | memoryview]]
    entries: int
    annotations: int
    largest: int


class _Lists(NamedTuple):
    """The lists of a shard, in the order of minishard and key.

    `words` are encoded, one list after the other, each up to the next of `bounds`. Minishard i has
    the lists from ``firsts[i]`` up to ``firsts[i + 1]``.
    """

    keys: Ids
    firsts: Int64s
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
    made = assembled(plan, index, shard, concatenated(chain.from_iterable(parts)))
    files = [(name, bytes(content)) for name, content in made.files]
    return ShardOutput(files, made.entries, made.annotations, made.largest)


def assembled(plan: Plan, index: int, shard: int, entries: Entries) -> Assembled:
    """Make the files of one shard from its entries.

    Raises
    ------
    TableError
        If two annotations have one id.
    """
    of = plan.indexes[index]
    n = len(entries.keys)
    if n == 0:
        return Assembled([], 0, 0, 0)
    order, firsts = _order(of, entries)
    keys = entries.keys[order]
    begins = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    lengths = np.diff(np.append(begins, n))
    largest = int(lengths.max())
    if of.role == "by_id" and largest > 1:
        raise TableError(
            f"id {keys[begins[np.argmax(lengths)]]} is there {largest} times: give each "
            "annotation an id of its own"
        )
    bounds = _bounds(of, entries, order, lengths)
    # The room before and behind the lists is that of the tables of a file that is stored so.
    room = (4 << of.minishard_bits, 6 * len(begins)) if _is_whole(plan, of) else (0, 0)
    file = np.empty(room[0] + int(bounds[-1]) + room[1], "<u4")
    words = file[room[0] : room[0] + int(bounds[-1])]
    _put_lists(of, entries, order, begins, bounds, words)
    lists = _Lists(keys[begins], np.searchsorted(begins, firsts), words, bounds)
    return Assembled(_files(plan, of, shard, lists, file), len(begins), n, largest)


def _files(
    plan: Plan, index: Index, shard: int, lists: _Lists, file: Words
) -> list[tuple[str, bytes | memoryview]]:
    """The lists as they are stored; `file` has them, and room for the tables of a shard."""
    if not plan.options.sharded:
        return list(_single_files(plan, index, lists))
    digits = -(-index.shard_bits // 4)
    name = f"{index.key}/{f'{shard:x}'.zfill(digits) if digits else '0'}.shard"
    if not _is_whole(plan, index):
        return [(name, _zipped_file(plan, index, lists))]
    _put_tables(file, lists.keys, lists.bounds, lists.firsts)
    return [(name, file.view(np.uint8).data)]


def _is_whole(plan: Plan, index: Index) -> bool:
    """Whether a shard is stored as its lists lie in memory."""
    options = plan.options
    return options.sharded and options.compression == "raw" and plan.encoding(index) == "raw"


def _order(index: Index, entries: Entries) -> tuple[Orders, Int64s]:
    """Entries by minishard and key, in a list by id, or in a cell by lot; minishards' firsts."""
    _, minishards = places_of(index, entries.keys)
    ranks = minishards.astype(np.uint64)
    match index.role:
        case "by_id":
            order = sorted_by(entries.keys, ranks)
        case "relationship":
            order = sorted_by(entries.ids, entries.keys, ranks)
        case "spatial":
            order = sorted_by(lots(entries.ids, _SEED), entries.keys, ranks)
    counts = np.bincount(minishards, minlength=1 << index.minishard_bits)
    return order, np.append(0, np.cumsum(counts))


def _bounds(index: Index, entries: Entries, order: Orders, lengths: Int64s) -> Int64s:
    """Where each list begins, in words, and the last one ends."""
    lists = 2 + lengths * (entries.width + 2)
    words = entries.lengths()[order] if index.role == "by_id" else lists
    return np.append(0, np.cumsum(words))


def _put_lists(
    index: Index, entries: Entries, order: Orders, begins: Int64s, bounds: Int64s, words: Words
) -> None:
    if index.role == "by_id":
        entries.put(words, order, bounds[:-1])
        return
    _put_multiple(words, entries.records(order), entries.ids[order], begins, bounds)


def _zipped_file(plan: Plan, index: Index, lists: _Lists) -> bytes:
    """The bytes of a shard of which parts are compressed."""
    content = list(_chunks(lists))
    if plan.encoding(index) == "gzip":
        content = [_zipped(chunk) for chunk in content]
    ends = np.append(0, np.cumsum([len(chunk) for chunk in content]))
    ranges = np.zeros((len(lists.firsts) - 1, 2), "<u8")
    at = int(ends[-1])
    for i, (first, stop) in enumerate(pairwise(lists.firsts.tolist())):
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
    for start, stop in pairwise(lists.bounds.tolist()):
        yield lists.words[start:stop].tobytes()


def _zipped(content: bytes) -> bytes:
    # No time in it: the same content gives the same bytes.
    return gzip.compress(content, _GZIP_LEVEL, mtime=0)


@njit(nogil=True, cache=True)
def _put_multiple(words: Words, records: Words, ids: Ids, begins: Int64s, bounds: Int64s) -> None:
    """Lists of annotations: their number, records, ids ("Multiple annotation encoding")."""
    width = records.shape[1]
    for i in range(len(begins)):
        first, stop = begins[i], begins[i + 1] if i + 1 < len(begins) else len(ids)
        at = bounds[i]
        _put_word(words, at, np.uint64(stop - first))
        at += 2
        for k in range(first, stop):
            record, target = records[k], words[at : at + width]
            for j in range(width):
                target[j] = record[j]
            at += width
        for k in range(first, stop):
            _put_word(words, at, ids[k])
            at += 2


@njit(nogil=True, cache=True)
def _put_tables(file: Words, keys: Ids, bounds: Int64s, firsts: Int64s) -> None:
    """The shard index and the minishard indexes, before and behind the lists."""
    at = 4 * (len(firsts) - 1) + bounds[-1]
    end = np.uint64(_WORD * bounds[-1])
    for i in range(len(firsts) - 1):
        first, stop = firsts[i], firsts[i + 1]
        count = stop - first
        _put_word(file, 4 * i, end)
        end += np.uint64(_TABLE_ENTRY_BYTES * count)
        _put_word(file, 4 * i + 2, end)
        for k in range(count):
            list_number = first + k
            before = keys[list_number - 1] if k else np.uint64(0)
            offset = np.uint64(0) if k else np.uint64(_WORD * bounds[first])
            size = np.uint64(_WORD * (bounds[list_number + 1] - bounds[list_number]))
            _put_word(file, at + 2 * k, keys[list_number] - before)
            _put_word(file, at + 2 * (count + k), offset)
            _put_word(file, at + 2 * (2 * count + k), size)
        at += 6 * count


@njit(nogil=True, cache=True, inline="always")
def _put_word(words: Words, at: int, value: np.uint64) -> None:
    """A number of 64 bits, which need not lie at a multiple of eight bytes."""
    words[at] = np.uint32(value & np.uint64(0xFFFFFFFF))
    words[at + 1] = np.uint32(value >> np.uint64(32))
