"""A decoder of precomputed annotations of its own, from the specification, and tables to write."""

import gzip
import itertools
import json
import math
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tensorstore

from cnapse.viewing.annotations import AnnotationSchema, AnnotationTable, Property, Related

FORMATS = {"uint8": "B", "int8": "b", "uint16": "H", "int16": "h"}
FORMATS |= {"uint32": "I", "int32": "i", "float32": "f", "rgb": "3B", "rgba": "4B"}


class DecodedLayer:
    """A layer as the specification reads it; shards are opened by tensorstore."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.info = json.loads((folder / "info").read_text())
        self.ends = {"LINE": 2, "POINT": 1}[self.info["annotation_type"]]
        self._opened: dict[str, tensorstore.KvStore] = {}

    def get(self, place: dict, key: int, name: str | None = None) -> bytes | None:
        """The bytes of an entry, or None."""
        if "sharding" not in place:
            path = self.folder / place["key"] / (name or str(key))
            return path.read_bytes() if path.is_file() else None
        if place["key"] not in self._opened:
            base = {"driver": "file", "path": f"{self.folder}/{place['key']}/"}
            spec = {"driver": "neuroglancer_uint64_sharded", "base": base}
            spec["metadata"] = place["sharding"]
            self._opened[place["key"]] = tensorstore.KvStore.open(spec).result()
        found = self._opened[place["key"]].read(struct.pack(">Q", key)).result()
        return found.value if found.state == "value" else None

    def single(self, annotation: int) -> tuple[tuple, dict, list[list[int]]] | None:
        """Geometry, properties and segments of an annotation."""
        content = self.get(self.info["by_id"], annotation)
        if content is None:
            return None
        geometry, properties, at = self._record(content, 0)
        related = []
        for _ in self.info["relationships"]:
            (count,) = struct.unpack_from("<I", content, at)
            related.append(list(struct.unpack_from(f"<{count}Q", content, at + 4)))
            at += 4 + 8 * count
        assert at == len(content)
        return geometry, properties, related

    def related(self, relationship: int, segment: int) -> list | None:
        """What is listed for a segment."""
        content = self.get(self.info["relationships"][relationship], segment)
        return None if content is None else self._listed(content)

    def cells(self, level: int) -> dict[tuple[int, ...], list]:
        """What is listed in each cell of a level that is not empty."""
        place = self.info["spatial"][level]
        shape, found = place["grid_shape"], {}
        for key in self.keys(place):
            cell = unmorton(key, shape) if "sharding" in place else tuple(map(int, key.split("_")))
            assert all(0 <= value < size for value, size in zip(cell, shape, strict=True))
            content = self.get(place, morton(cell, shape), "_".join(map(str, cell)))
            found[cell] = self._listed(content)
        return found

    def keys(self, place: dict) -> list:
        """The keys of an index: numbers, or names of files where it is not sharded."""
        files = sorted((self.folder / place["key"]).glob("*"))
        if "sharding" not in place:
            return [path.name for path in files]
        minishards, found = 1 << place["sharding"]["minishard_bits"], []
        for path in files:
            content = path.read_bytes()
            for i in range(minishards):
                start, stop = (
                    16 * minishards + v for v in struct.unpack_from("<QQ", content, 16 * i)
                )
                table = content[start:stop]
                if table and place["sharding"]["minishard_index_encoding"] == "gzip":
                    table = gzip.decompress(table)
                found += itertools.accumulate(struct.unpack_from(f"<{len(table) // 24}Q", table))
        return [key % 2**64 for key in found]

    def _listed(self, content: bytes) -> list[tuple[int, tuple, dict]]:
        (count,) = struct.unpack_from("<Q", content)
        at, records = 8, []
        for _ in range(count):
            geometry, properties, at = self._record(content, at)
            records.append((geometry, properties))
        ids = struct.unpack_from(f"<{count}Q", content, at)
        assert at + 8 * count == len(content)
        return [(i, *record) for i, record in zip(ids, records, strict=True)]

    def _record(self, content: bytes, start: int) -> tuple[tuple, dict, int]:
        numbers = 3 * self.ends
        geometry = struct.unpack_from(f"<{numbers}f", content, start)
        at, values = start + 4 * numbers, {}
        for width in (4, 2, 1):
            for item in self.info["properties"]:
                form = FORMATS[item["type"]]
                if struct.calcsize(form[-1]) == width:
                    found = struct.unpack_from("<" + form, content, at)
                    values[item["id"]] = found if len(found) > 1 else found[0]
                    at += struct.calcsize("<" + form)
        padding = -(at - start) % 4
        assert content[at : at + padding] == bytes(padding)
        return geometry, values, at + padding


def morton(cell: tuple[int, ...], shape: list[int]) -> int:
    """The compressed Morton code, bit by bit as it is specified."""
    code, place = 0, 0
    for bit in range(32):
        for value, size in zip(cell, shape, strict=True):
            if 2**bit < size:
                code |= (value >> bit & 1) << place
                place += 1
    return code


def unmorton(code: int, shape: list[int]) -> tuple[int, ...]:
    """The cell of a code."""
    cell = [0, 0, 0]
    for bit in range(32):
        for axis in range(3):
            if 2**bit < shape[axis]:
                cell[axis] |= (code & 1) << bit
                code >>= 1
    return tuple(cell)


def crossed(lower, chunk, shape, ends) -> set[tuple[int, ...]]:
    """The cells that a line or point is in, by exact fractions: clipped, axis by axis."""
    a, b = ([Fraction(float(v)) for v in end] for end in (ends[0], ends[-1]))
    ranges = []
    for axis in range(3):
        one, two = (
            min(
                max(math.floor((p[axis] - Fraction(lower[axis])) / Fraction(chunk[axis])), 0),
                shape[axis] - 1,
            )
            for p in (a, b)
        )
        ranges.append(range(min(one, two), max(one, two) + 1))
    return {c for c in itertools.product(*ranges) if _clips(lower, chunk, c, a, b)}


def _clips(lower, chunk, cell, a, b) -> bool:
    low, high = Fraction(0), Fraction(1)
    for axis in range(3):
        begin = Fraction(lower[axis]) + cell[axis] * Fraction(chunk[axis])
        stop = begin + Fraction(chunk[axis])
        along = b[axis] - a[axis]
        if along == 0:
            if not begin <= a[axis] <= stop:
                return False
            continue
        t = sorted(((begin - a[axis]) / along, (stop - a[axis]) / along))
        low, high = max(low, t[0]), min(high, t[1])
    return low <= high


def all_types() -> tuple[Property, ...]:
    """A property of every type, the widths in no order."""
    names = ["uint8", "float32", "rgb", "int16", "uint32", "rgba", "int8", "int32", "uint16"]
    return tuple(Property(f"p_{name}", name) for name in names)


def random_table(
    seed: int, n: int, schema: AnnotationSchema, *, spread: float = 900.0
) -> AnnotationTable:
    """Annotations in clusters, lines short and long, ids beyond 2^53, several segments a row."""
    rng = np.random.default_rng(seed)
    ids = np.unique(rng.integers(0, 2**64 - 1, 2 * n + 8, np.uint64, endpoint=True))
    ids = rng.permutation(ids)[:n]
    centres = rng.normal(0, spread, (3, 3))
    first = centres[rng.integers(0, 3, n)] + rng.normal(0, spread / 9, (n, 3))
    second = first + rng.normal(0, spread / 9, (n, 3)) * rng.exponential(1, (n, 1))
    properties = {}
    for item in schema.properties:
        shape = (n, item.channels) if item.channels > 1 else (n,)
        if item.type == "float32":
            properties[item.name] = rng.normal(size=shape).astype(np.float32)
        else:
            limits = np.iinfo(item.dtype)
            properties[item.name] = rng.integers(limits.min, limits.max, shape, endpoint=True)
    relationships = {}
    segments = rng.integers(0, 2**63, 6).astype(np.uint64) * 2
    segments[0] = 0
    for i, name in enumerate(schema.relationships):
        if i % 2 == 0:
            relationships[name] = segments[rng.integers(0, 6, n)]
        else:
            counts = rng.integers(0, 4, n)
            offsets = np.append(0, np.cumsum(counts))
            relationships[name] = Related(segments[rng.integers(0, 6, offsets[-1])], offsets)
    points = np.stack([first, second], 1) if schema.kind == "LINE" else first
    return AnnotationTable(ids, points, properties, relationships)


@pytest.fixture
def decoded():
    return DecodedLayer


@pytest.fixture
def oracle_cells():
    return crossed


@pytest.fixture
def oracle_morton():
    return morton


@pytest.fixture
def make_table():
    return random_table


@pytest.fixture
def full_schema():
    """Properties of every type and three relationships; in units of a voxel."""

    def make(kind: str = "LINE", unit_nm=(4.0, 4.0, 40.0)) -> AnnotationSchema:
        return AnnotationSchema(kind, all_types(), ("pre cell", "post cells", "synapse"), unit_nm)

    return make
