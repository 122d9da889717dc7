"""What must be known of all annotations before the first is written; parts are surveyed apart.

How dense they lie is told by a sample: those with the smallest hashes of their ids. So is the
number of segments (Bar-Yossef et al. 2002, by the k-th smallest value). Both are the same whatever
parts they were collected from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from cnapse.viewing.annotations.hashing import lots
from cnapse.viewing.annotations.schema import RANK, AnnotationSchema
from cnapse.viewing.annotations.table import (
    AnnotationTable,
    Related,
    as_related,
    check_table,
    geometry,
    unique_related,
)

__all__ = ["Survey", "merge_surveys", "survey_part"]

Ids = npt.NDArray[np.uint64]
Bounds = npt.NDArray[np.float64]

_SAMPLE = 1 << 16
_SEGMENTS = 1 << 10
# Another than the one that says which level an annotation is in.
_SEED = 1
_ALL = 2.0**64


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """Size, bounds and density of annotations.

    Attributes
    ----------
    rows : int
        How many there are.
    lower, upper : ndarray of float64, shape (3,)
        Least and highest position of any end, in stored units; infinite without rows.
    lot : ndarray of uint64, shape (k,)
        Hashes of the ids of the sample, rising.
    sample : ndarray of float32, shape (k, 3) or (k, 6)
        Its positions.
    pairs : tuple of int
        For each relationship, pairs of annotation and segment.
    segment_lots : tuple of ndarray of uint64
        For each relationship, the smallest hashes of its segments, rising.
    """

    rows: int
    lower: npt.NDArray[np.float64]
    upper: npt.NDArray[np.float64]
    lot: Ids
    sample: npt.NDArray[np.float32]
    pairs: tuple[int, ...]
    segment_lots: tuple[Ids, ...]

    def segments(self, relationship: int) -> float:
        """About how many segments a relationship has; exact for few."""
        smallest = self.segment_lots[relationship]
        if len(smallest) < _SEGMENTS:
            return float(len(smallest))
        return (_SEGMENTS - 1) * _ALL / float(smallest[-1])

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """As `Store.put_arrays` takes it."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "rows": np.array([self.rows]),
            "bounds": np.stack([self.lower, self.upper]),
            "lot": self.lot,
            "sample": self.sample,
            "pairs": np.array(self.pairs, np.int64),
        }
        return arrays | {f"segments{i}": values for i, values in enumerate(self.segment_lots)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Survey:
        """The survey that gave these `arrays`, by `to_arrays`."""
        pairs = tuple(arrays["pairs"].tolist())
        lower, upper = arrays["bounds"]
        return cls(
            int(arrays["rows"][0]),
            lower,
            upper,
            arrays["lot"],
            arrays["sample"],
            pairs,
            tuple(arrays[f"segments{i}"] for i in range(len(pairs))),
        )


def survey_part(
    schema: AnnotationSchema, table: AnnotationTable, threads: Executor | None = None
) -> Survey:
    """Survey a part of a table, or all of it.

    Raises
    ------
    TableError
        If a column is missing or of a wrong shape; if a position is no number.
    """
    check_table(schema, table)
    run = threads.map if threads else map
    related = run(_surveyed_segments, [table.relationships[r] for r in schema.relationships])
    ids = np.asarray(table.ids, np.uint64)
    points = geometry(schema, table)
    lot = lots(ids, _SEED)
    chosen = _smallest(lot, _SAMPLE)
    lower, upper = _bounds(points.reshape(-1, RANK))
    segments = list(related)
    return Survey(
        len(ids),
        lower,
        upper,
        lot[chosen],
        points[chosen],
        tuple(pairs for pairs, _ in segments),
        tuple(smallest for _, smallest in segments),
    )


def merge_surveys(surveys: Iterable[Survey]) -> Survey:
    """The survey of several parts, in any order and grouping; at least one."""
    parts = list(surveys)
    lot = np.concatenate([part.lot for part in parts])
    sample = np.concatenate([part.sample for part in parts])
    chosen = _smallest(lot, _SAMPLE)
    relationships = range(len(parts[0].pairs))
    return Survey(
        sum(part.rows for part in parts),
        np.min([part.lower for part in parts], axis=0),
        np.max([part.upper for part in parts], axis=0),
        lot[chosen],
        sample[chosen],
        tuple(sum(part.pairs[i] for part in parts) for i in relationships),
        tuple(
            _smallest_lots(np.concatenate([part.segment_lots[i] for part in parts]))
            for i in relationships
        ),
    )


def _smallest(values: Ids, most: int) -> npt.NDArray[np.int64]:
    """Places of the smallest values, in rising order."""
    if len(values) > most:
        places = np.argpartition(values, most - 1)[:most]
        return places[np.argsort(values[places])]
    return np.argsort(values)


def _surveyed_segments(column: Related | Ids) -> tuple[int, Ids]:
    """How many segments there are in a relationship, each once a row, and their smallest hashes."""
    values = unique_related(as_related(column)).values
    there = values if values.all() else values[values != 0]
    return len(there), _smallest_lots(lots(there, _SEED))


@njit(nogil=True, cache=True)
def _smallest_lots(values: Ids) -> Ids:
    """The smallest different values, rising."""
    found, count = np.empty(_SEGMENTS + 1, np.uint64), 0
    for i in range(len(values)):
        value = values[i]
        # Soon nearly all are passed over here: they are hashes, in no order.
        if count == _SEGMENTS and value >= found[count - 1]:
            continue
        place = np.searchsorted(found[:count], value)
        if place < count and found[place] == value:
            continue
        for j in range(count, place, -1):
            found[j] = found[j - 1]
        found[place] = value
        count = min(count + 1, _SEGMENTS)
    return found[:count].copy()


@njit(nogil=True, cache=True)
def _bounds(points: npt.NDArray[np.float32]) -> tuple[Bounds, Bounds]:
    """Least and highest position; infinite where there is none."""
    lower, upper = np.full(RANK, np.inf), np.full(RANK, -np.inf)
    for i in range(len(points)):
        for axis in range(RANK):
            value = np.float64(points[i, axis])
            lower[axis], upper[axis] = min(lower[axis], value), max(upper[axis], value)
    return lower, upper
