"""What must be known of all annotations before the first is written; parts are surveyed apart.

How dense they lie is told by a sample: those with the smallest hashes of their ids. So is the
number of segments (Bar-Yossef et al. 2002, by the k-th smallest value). Both are the same whatever
parts they were collected from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnapse.viewing.annotations.hashing import lots
from cnapse.viewing.annotations.schema import AnnotationSchema
from cnapse.viewing.annotations.table import (
    AnnotationTable,
    as_related,
    check_table,
    geometry,
    related_pairs,
)

__all__ = ["Survey", "merge_surveys", "survey_part"]

Ids = npt.NDArray[np.uint64]

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
        """Back from `to_arrays`."""
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


def survey_part(schema: AnnotationSchema, table: AnnotationTable) -> Survey:
    """Survey a part of a table, or all of it.

    Raises
    ------
    TableError
        If a column is missing or of a wrong shape; if a position is no number.
    """
    check_table(schema, table)
    ids = np.asarray(table.ids, np.uint64)
    points = geometry(schema, table)
    ends = points.reshape(-1, 3)
    related = [
        related_pairs(as_related(table.relationships[r]), len(ids))[1] for r in schema.relationships
    ]
    # By the hash of a chunk at a time, sorted chunks would be no smaller: all at once.
    lot = lots(ids, _SEED)
    chosen = _smallest(lot, _SAMPLE)
    return Survey(
        len(ids),
        ends.min(axis=0, initial=np.inf).astype(np.float64),
        ends.max(axis=0, initial=-np.inf).astype(np.float64),
        lot[chosen],
        points[chosen],
        tuple(len(values) for values in related),
        tuple(_smallest_lots(lots(values, _SEED)) for values in related),
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


def _smallest_lots(values: Ids) -> Ids:
    """The smallest different values."""
    if len(values) <= _SEGMENTS:
        return np.unique(values)
    # A value is there as often as its segment is: cut at a value below which enough are different.
    for bits in range(32, 64, 4):
        found = np.unique(values[values < np.uint64(1 << bits)])
        if len(found) >= _SEGMENTS:
            return found[:_SEGMENTS]
    return np.unique(values)[:_SEGMENTS]
