"""The plan of a layer: its levels, the shards of its indexes, and what its ``info`` says.

Everything that says where an annotation goes is in the plan, and follows from its id, its position
and its segments alone: parts of a table can be written apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from math import ceil, log2
from typing import Any, Literal, NamedTuple

import numpy as np

from cnapse.errors import ConfigError
from cnapse.store import canonical_json
from cnapse.viewing.annotations.levels import Level, levels_of
from cnapse.viewing.annotations.schema import AnnotationSchema, folder_name
from cnapse.viewing.annotations.spatial import CellGrid, morton_bits
from cnapse.viewing.annotations.survey import Survey

__all__ = ["Index", "Plan", "WriteOptions", "layer_info", "plan_layer"]

Role = Literal["by_id", "relationship", "spatial"]

_ENTRIES_OF_MINISHARD = 512
_MOST_MINISHARD_BITS = 12
_MOST_SHARD_BITS = 30
# Cells side by side that are looked up together.
_NEIGHBOURHOOD_BITS = 3
_INDEX_ENTRY_BYTES = 24
_METRE = 1e-9


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How a layer is stored.

    Attributes
    ----------
    sharded
        Whether many entries go into one file. Else each is a file, and an annotation is one.
    compression : {"raw", "gzip"}
        Of the lists of a cell and of a segment, and of the tables in shards. Single annotations
        would only grow.
    shard_bytes : int
        About what a shard holds; between 0.7 and 1.4 of it.
    cell_limit : int
        About the most annotations of a cell of the spatial index. The viewer draws all of every
        cell that a section cuts, so that many in a cell make it slow.
    threads : int
        Of `write_annotations`.
    """

    sharded: bool = True
    compression: Literal["raw", "gzip"] = "raw"
    shard_bytes: int = 50_000_000
    cell_limit: int = 500
    threads: int = 2

    def __post_init__(self) -> None:
        """Check the options.

        Raises
        ------
        ConfigError
            If a number is below 1, or there is no such compression.
        """
        if self.compression not in {"raw", "gzip"}:
            raise ConfigError(f"compression {self.compression!r}: there are raw and gzip")
        for name in ("shard_bytes", "cell_limit", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: give a number above 0")


class Index(NamedTuple):
    """One index of a layer, which is one folder.

    Attributes
    ----------
    key : str
        The folder.
    role : {"by_id", "relationship", "spatial"}
    number : int
        Of the relationship, or of the level.
    preshift_bits, minishard_bits, shard_bits : int
        Of the format's sharding specification.
    """

    key: str
    role: Role
    number: int
    preshift_bits: int
    minishard_bits: int
    shard_bits: int

    @property
    def shards(self) -> int:
        """How many shards there are; some may be empty."""
        return 1 << self.shard_bits


@dataclass(frozen=True)
class Plan:
    """Where everything goes.

    Attributes
    ----------
    schema : AnnotationSchema
    options : WriteOptions
    rows : int
        Annotations.
    lower, upper : tuple of int
        Bounds in stored units: whole numbers at or below the least position, and above the highest.
    levels : tuple of Level
        Of the spatial index, from coarse to fine.
    indexes : tuple of Index
    """

    schema: AnnotationSchema
    options: WriteOptions
    rows: int
    lower: tuple[int, int, int]
    upper: tuple[int, int, int]
    levels: tuple[Level, ...]
    indexes: tuple[Index, ...]

    def grid(self, level: int) -> CellGrid:
        """The cells of a level."""
        x, y, z = self.lower
        chosen = self.levels[level]
        return CellGrid((float(x), float(y), float(z)), chosen.chunk, chosen.shape)

    @property
    def rounding_nm(self) -> tuple[float, float, float]:
        """The most that a stored position can be off, as float32, nm along each axis."""
        far = np.abs(np.array([self.lower, self.upper], np.float32)).max(axis=0)
        x, y, z = (np.spacing(far).astype(np.float64) / 2 * self.schema.unit_nm).tolist()
        return x, y, z

    @cached_property
    def digest(self) -> bytes:
        """16 bytes that tell this plan from others."""
        return hashlib.blake2b(canonical_json(self.to_json()), digest_size=16).digest()

    def encoding(self, index: Index) -> Literal["raw", "gzip"]:
        """How the entries of an index are stored in shards."""
        return "raw" if index.role == "by_id" else self.options.compression

    def sharding(self, index: Index) -> dict[str, Any]:
        """The sharding specification of an index (neuroglancer's ``sharded.md``)."""
        return {
            "@type": "neuroglancer_uint64_sharded_v1",
            "preshift_bits": index.preshift_bits,
            "hash": "identity" if index.role == "spatial" else "murmurhash3_x86_128",
            "minishard_bits": index.minishard_bits,
            "shard_bits": index.shard_bits,
            "minishard_index_encoding": self.options.compression,
            "data_encoding": self.encoding(index),
        }

    def to_json(self) -> dict[str, Any]:
        """As a run keeps it."""
        return {
            "schema": self.schema.as_json(),
            "options": asdict(self.options),
            "rows": self.rows,
            "lower": list(self.lower),
            "upper": list(self.upper),
            "levels": [
                [list(level.chunk), list(level.shape), level.until] for level in self.levels
            ],
            "indexes": [list(index) for index in self.indexes],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        """Back from `to_json`."""
        (lx, ly, lz), (ux, uy, uz) = value["lower"], value["upper"]
        return cls(
            AnnotationSchema.from_json(value["schema"]),
            WriteOptions(**value["options"]),
            value["rows"],
            (lx, ly, lz),
            (ux, uy, uz),
            tuple(Level(tuple(c), tuple(s), until) for c, s, until in value["levels"]),
            tuple(Index(*index) for index in value["indexes"]),
        )


def plan_layer(
    schema: AnnotationSchema, survey: Survey, options: WriteOptions | None = None
) -> Plan:
    """Plan a layer.

    Parameters
    ----------
    schema
    survey
        Of all annotations.
    options
        As `WriteOptions` has them, if not given.
    """
    options = options or WriteOptions()
    lower, upper = _bounds(survey)
    levels, sizes = levels_of(survey, lower, upper, schema.unit_nm, options.cell_limit)
    record = schema.record_bytes
    pairs = sum(survey.pairs)
    by_id = survey.rows * (record + 4 * len(schema.relationships)) + 8 * pairs
    indexes = [Index("by_id", "by_id", 0, 0, *_bits(by_id, survey.rows, options))]
    for i, name in enumerate(schema.relationships):
        size = survey.pairs[i] * (record + 8)
        bits = _bits(size, survey.segments(i), options)
        indexes.append(Index(folder_name(name), "relationship", i, 0, *bits))
    for i, (level, held) in enumerate(zip(levels, sizes, strict=True)):
        cells = min(float(np.prod(level.shape)), held)
        minishard, shard = _bits(held * (record + 8), cells, options)
        free = morton_bits(level.shape)
        minishard = min(minishard, free)
        shard = min(shard, free - minishard)
        preshift = min(free - minishard - shard, _NEIGHBOURHOOD_BITS)
        indexes.append(Index(f"spatial{i}", "spatial", i, preshift, minishard, shard))
    return Plan(schema, options, survey.rows, lower, upper, levels, tuple(indexes))


def layer_info(plan: Plan, largest: Mapping[int, int]) -> dict[str, Any]:
    """The ``info`` of a layer whose shards are all written.

    Parameters
    ----------
    plan
    largest : mapping of int to int
        For each spatial index, by its place in ``plan.indexes``, the most annotations of a cell;
        an index that is not named is empty.
    """

    def place(index: Index) -> dict[str, Any]:
        sharding = {"sharding": plan.sharding(index)} if plan.options.sharded else {}
        return {"key": index.key} | sharding

    levels = [
        place(index)
        | {
            "grid_shape": list(plan.levels[index.number].shape),
            "chunk_size": list(plan.levels[index.number].chunk),
            # The viewer refuses a limit of 0.
            "limit": max(1, largest.get(i, 0)),
        }
        for i, index in enumerate(plan.indexes)
        if index.role == "spatial"
    ]
    schema = plan.schema
    return {
        "@type": "neuroglancer_annotations_v1",
        "dimensions": {
            axis: [float(f"{unit * _METRE:.12g}"), "m"]
            for axis, unit in zip("xyz", schema.unit_nm, strict=True)
        },
        "lower_bound": list(plan.lower),
        "upper_bound": list(plan.upper),
        "annotation_type": schema.kind,
        "properties": [item.as_json() for item in schema.stored_properties],
        "relationships": [
            {"id": schema.relationships[index.number]} | place(index)
            for index in plan.indexes
            if index.role == "relationship"
        ],
        "by_id": next(place(index) for index in plan.indexes if index.role == "by_id"),
        "spatial": levels,
    }


def _bounds(survey: Survey) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Whole numbers around all positions; the upper ones are above them."""
    if survey.rows == 0:
        return (0, 0, 0), (1, 1, 1)
    lower = [int(np.floor(value)) for value in survey.lower]
    upper = [int(np.floor(value)) + 1 for value in survey.upper]
    for axis in range(3):
        # The viewer keeps sizes as float32, whose halves must be exact.
        step = 1 << max(0, (upper[axis] - lower[axis]).bit_length() - 23)
        upper[axis] += -(upper[axis] - lower[axis]) % step
    return (lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2])


def _bits(size: float, entries: float, options: WriteOptions) -> tuple[int, int]:
    """Bits of minishard and shard for so many bytes and entries."""
    tables = _INDEX_ENTRY_BYTES * entries
    shard = round(log2(max(1.0, (size + tables) / options.shard_bytes)))
    shard = min(shard, _MOST_SHARD_BITS)
    minishard = ceil(log2(max(1.0, entries / (_ENTRIES_OF_MINISHARD << shard))))
    return min(minishard, _MOST_MINISHARD_BITS), shard
