"""The map step: what one part of a table has for each shard, as bytes.

A fragment knows its length and carries a checksum and the digest of its plan, so fragments can be
bundled by putting their bytes one after the other, and none can be read that is not whole.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from cnapse.errors import DamagedFileError, RunStateError
from cnapse.viewing.annotations.entries import Columns, encoded, gathered, placed
from cnapse.viewing.annotations.plan import Plan
from cnapse.viewing.annotations.table import AnnotationTable

__all__ = ["Fragment", "map_part", "parse_fragments"]

_MAGIC = b"cnapsean"
_DIGEST_BYTES = 16
# Magic; digests of plan and content; index, shard; entries, words.
_HEADER = struct.Struct(f"<8s{_DIGEST_BYTES}s{_DIGEST_BYTES}sIIQQ")


@dataclass(frozen=True, slots=True)
class Fragment:
    """What one part of a table has for one shard.

    Attributes
    ----------
    index : int
        Place in the plan's indexes.
    shard : int
    content : bytes
    """

    index: int
    shard: int
    content: bytes


def map_part(plan: Plan, table: AnnotationTable) -> Iterator[Fragment]:
    """Divide a part of a table among the shards; only those that get something.

    The same part gives the same bytes.

    Raises
    ------
    TableError
        If its columns are not those of the plan, or a value cannot be stored.
    """
    part = encoded(plan, table)
    for number, index in enumerate(plan.indexes):
        entries = placed(plan, index, part)
        for shard in np.flatnonzero(np.diff(entries.starts)).tolist():
            columns = gathered(index, entries.of_shard(shard, part))
            yield Fragment(number, shard, _packed(plan, number, shard, columns))


def parse_fragments(plan: Plan, index: int, shard: int, content: bytes) -> Iterator[Columns]:
    """The entries in fragments of one shard that lie one after the other.

    Raises
    ------
    DamagedFileError
        If the bytes are not those that were written.
    RunStateError
        If a fragment is of another plan or shard.
    """
    where = f"fragment of {plan.indexes[index].key}, shard {shard}"
    at = 0
    while at < len(content):
        if len(content) - at < _HEADER.size:
            raise DamagedFileError(where, "it ends in a header")
        head = _HEADER.unpack_from(content, at)
        magic, made_by, digest, of_index, of_shard, entries, words = head
        at += _HEADER.size
        size = 20 * entries + 4 * words
        body = memoryview(content)[at : at + size]
        if magic != _MAGIC or len(body) != size or _digest(body) != digest:
            raise DamagedFileError(where, "its checksum does not fit its content")
        if (made_by, of_index, of_shard) != (plan.digest, index, shard):
            raise RunStateError(f"{where}: this one was made for another plan or shard: map again")
        yield _columns(body, entries)
        at += size


def concatenated(columns: Iterable[Columns]) -> Columns:
    """The entries of several fragments as one."""
    parts = list(columns)
    if not parts:
        none = np.empty(0, np.uint64)
        return Columns(none, none, np.empty(0, np.int64), np.empty(0, np.uint32))
    return Columns(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _packed(plan: Plan, index: int, shard: int, columns: Columns) -> bytes:
    body = b"".join(
        (
            columns.keys.astype("<u8").tobytes(),
            columns.ids.astype("<u8").tobytes(),
            columns.sizes.astype("<u4").tobytes(),
            columns.words.astype("<u4").tobytes(),
        )
    )
    sizes = len(columns.keys), len(columns.words)
    return _HEADER.pack(_MAGIC, plan.digest, _digest(body), index, shard, *sizes) + body


def _columns(body: memoryview, n: int) -> Columns:
    return Columns(
        np.frombuffer(body, "<u8", n),
        np.frombuffer(body, "<u8", n, 8 * n),
        np.frombuffer(body, "<u4", n, 16 * n).astype(np.int64),
        np.frombuffer(body, "<u4", -1, 20 * n),
    )


def _digest(body: bytes | memoryview) -> bytes:
    return hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest()
