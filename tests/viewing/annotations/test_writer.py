"""The layers that come out, read by readers that are not ours."""

import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from neuroglancer.read_precomputed_annotations import AnnotationReader

from cnapse.errors import LayerExistsError, TableError
from cnapse.store import Store
from cnapse.viewing.annotations import (
    AnnotationSchema,
    AnnotationTable,
    Property,
    Related,
    WriteOptions,
    write_annotations,
)

RELATED = ("pre cell", "post cells", "synapse")


def expected_geometry(schema, table) -> np.ndarray:
    return (table.points / np.array(schema.unit_nm)).astype(np.float32)


def expected_related(values, row: int) -> set[int]:
    if isinstance(values, Related):
        found = values.values[values.offsets[row] : values.offsets[row + 1]]
    else:
        found = values[row : row + 1]
    return set(found.tolist()) - {0}


def check_layer(layer, schema, table, oracle_cells) -> None:
    """Everything that a layer holds is what the table says, no more and no less."""
    n, info = len(table), layer.info
    geometry = expected_geometry(schema, table).reshape(n, 1 + (schema.kind == "LINE"), 3)
    rows = {i: row for row, i in enumerate(table.ids.tolist())}

    def check_record(row: int, found: tuple, values: dict) -> None:
        assert found == tuple(geometry[row].ravel().tolist())
        for item in schema.properties:
            value = np.asarray(table.properties[item.name])[row]
            assert np.array_equal(values[item.name], value), item.name

    related = [[expected_related(table.relationships[r], i) for i in range(n)] for r in RELATED]
    for i, row in rows.items():
        found, values, segments = layer.single(i)
        check_record(row, found, values)
        assert [set(s) for s in segments] == [related[r][row] for r in range(3)]
        assert [len(s) for s in segments] == [len(related[r][row]) for r in range(3)]
    assert sorted(map(int, layer.keys(info["by_id"]))) == sorted(rows)
    assert layer.single(12345) is None
    for r, place in enumerate(info["relationships"]):
        segments = set().union(*related[r])
        assert sorted(map(int, layer.keys(place))) == sorted(segments)
        for segment in segments:
            listed = layer.related(r, segment)
            assert [i for i, _, _ in listed] == sorted(
                i for i, row in rows.items() if segment in related[r][row]
            )
            for i, found, values in listed:
                check_record(rows[i], found, values)
    lower, upper = np.array(info["lower_bound"]), np.array(info["upper_bound"])
    assert (upper > lower).all()
    if n:
        assert (geometry.min((0, 1)) >= lower).all()
        assert (geometry.max((0, 1)) < upper).all()
        assert (geometry.min((0, 1)) < lower + 1).all()
    levels = Counter()
    for number, level in enumerate(info["spatial"]):
        chunk, shape = level["chunk_size"], level["grid_shape"]
        assert (np.array(chunk) * shape == upper - lower).all()
        cells = layer.cells(number)
        assert level["limit"] == max([1, *map(len, cells.values())])
        inside: dict[int, set] = {}
        for cell, listed in cells.items():
            assert len({i for i, _, _ in listed}) == len(listed) > 0
            for i, found, values in listed:
                check_record(rows[i], found, values)
                inside.setdefault(i, set()).add(cell)
        for i, found in inside.items():
            assert found == oracle_cells(lower.tolist(), chunk, shape, geometry[rows[i]])
        levels.update(inside.keys())
    assert levels == Counter(dict.fromkeys(rows, 1))


@given(
    st.integers(0, 10**6),
    st.sampled_from([0, 1, 2, 7, 40]),
    st.sampled_from(["LINE", "POINT"]),
    st.booleans(),
    st.sampled_from(["raw", "gzip"]),
    st.sampled_from([2, 10_000]),
    st.sampled_from([200, 5000]),
    st.sampled_from([0.0, 0.3, 900.0, 1e7]),
)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_all_entries(
    tmp_path_factory, decoded, oracle_cells, make_table, full_schema,
    seed, n, kind, sharded, compression, limit, shard_bytes, spread,
):  # fmt: skip
    schema = full_schema(kind)
    table = make_table(seed, n, schema, spread=spread)
    folder = tmp_path_factory.mktemp("layer")
    options = WriteOptions(sharded, compression, shard_bytes, limit)
    written = write_annotations(folder, schema, table, options)
    assert written.annotations == n
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "info"]
    assert written.files == len(files)
    assert written.stored_bytes == sum(path.stat().st_size for path in files)
    check_layer(decoded(folder), schema, table, oracle_cells)


def test_neuroglancers_reader(tmp_path, make_table):
    # Two of uint32 would be read by neuroglancer 2.41 from the wrong bytes.
    properties = tuple(Property(n, n) for n in ("uint8", "float32", "rgb", "int16", "uint32"))
    schema = AnnotationSchema("LINE", properties, RELATED)
    table = make_table(5, 400, schema)
    write_annotations(tmp_path, schema, table, WriteOptions(shard_bytes=3000, cell_limit=20))
    reader = AnnotationReader(f"file://{tmp_path}/")
    points = table.points.astype(np.float32)
    order = [p.id for p in reader.properties]
    rows = {i: row for row, i in enumerate(table.ids.tolist())}

    def check(found) -> int:
        row = rows[int(found.id)]
        assert np.array_equal(found.point_a, points[row, 0])
        assert np.array_equal(found.point_b, points[row, 1])
        for name, value in zip(order, found.props, strict=True):
            assert np.array_equal(value, table.properties[name][row])
        return int(found.id)

    for i, row in rows.items():
        found = reader.by_id[i]
        assert check(found) == i
        for name, segments in zip(RELATED, found.segments, strict=True):
            assert set(segments) == expected_related(table.relationships[name], row)
    segment = int(table.relationships["pre cell"].max())
    listed = [check(found) for found in reader.relationships["pre cell"][segment]]
    assert sorted(listed) == sorted(table.ids[table.relationships["pre cell"] == segment].tolist())
    seen = set()
    assert len(reader.spatial) > 2
    for level in reader.spatial:
        for cell in np.ndindex(*level.metadata["grid_shape"]):
            if cell in level:
                seen |= {check(found) for found in level[cell]}
    assert seen == set(rows)


def test_bytes_of_an_annotation(tmp_path):
    """Wide properties first, three bytes of padding, then the segments: counted by hand."""
    schema = AnnotationSchema(
        "POINT",
        (Property("a", "uint8"), Property("b", "float32"), Property("c", "int16"),
         Property("d", "rgb"), Property("e", "uint32")),
        ("cell",),
    )  # fmt: skip
    table = AnnotationTable(
        np.array([7], np.uint64),
        np.array([[1.0, 2.0, 3.0]]),
        {"a": np.array([8]), "b": np.array([0.5]), "c": np.array([-2]),
         "d": np.array([[1, 2, 3]]), "e": np.array([2**32 - 1])},
        {"cell": Related(np.array([5, 9, 5, 0], np.uint64), np.array([0, 4]))},
    )  # fmt: skip
    write_annotations(tmp_path, schema, table, WriteOptions(sharded=False))
    record = struct.pack("<3fIfhB3B2x", 1, 2, 3, 2**32 - 1, 0.5, -2, 8, 1, 2, 3)
    assert (tmp_path / "by_id" / "7").read_bytes() == record + struct.pack("<IQQ", 2, 5, 9)
    listed = struct.pack("<Q", 1) + record + struct.pack("<Q", 7)
    assert (tmp_path / "rel_cell" / "9").read_bytes() == listed
    assert (tmp_path / "spatial0" / "0_0_0").read_bytes() == listed


def test_info(tmp_path):
    schema = AnnotationSchema(
        "LINE",
        (
            Property("kind", "uint8", "what it is", {0: "none", 3: "chemical"}),
            Property("w", "float32"),
        ),
        ("presynaptic cell",),
        (4.0, 4.0, 30.0),
    )
    points = np.array([[[400.0, 800.0, 300.0], [8.0, 804.0, 30.0]]])
    table = AnnotationTable(
        np.array([2**64 - 1], np.uint64), points, {"kind": [3], "w": [1.0]},
        {"presynaptic cell": np.array([4], np.uint64)},
    )  # fmt: skip
    write_annotations(tmp_path, schema, table, WriteOptions(sharded=False))
    assert Store(tmp_path).get_json("info") == {
        "@type": "neuroglancer_annotations_v1",
        "dimensions": {"x": [4e-9, "m"], "y": [4e-9, "m"], "z": [3e-8, "m"]},
        "lower_bound": [2, 200, 1],
        "upper_bound": [101, 202, 11],
        "annotation_type": "LINE",
        "properties": [
            {"id": "w", "type": "float32"},
            {"id": "kind", "type": "uint8", "description": "what it is",
             "enum_values": [0, 3], "enum_labels": ["none", "chemical"]},
        ],
        "relationships": [{"id": "presynaptic cell", "key": "rel_presynaptic_cell"}],
        "by_id": {"key": "by_id"},
        "spatial": [
            {"key": "spatial0", "grid_shape": [1, 1, 1], "chunk_size": [99, 2, 10], "limit": 1}
        ],
    }  # fmt: skip


def test_random_order_and_equal_shares(tmp_path, decoded):
    """A level holds the same share of a crowded place as of an empty one, in no order."""
    rng = np.random.default_rng(3)
    n = 8000
    points = rng.random((n, 3)) * 1000
    points[: n // 2] = points[: n // 2] / 2
    table = AnnotationTable(np.arange(n, dtype=np.uint64), points)
    write_annotations(tmp_path, AnnotationSchema("POINT"), table, WriteOptions(cell_limit=500))
    layer = decoded(tmp_path)
    for level in range(2):
        found = {i for listed in layer.cells(level).values() for i, _, _ in listed}
        crowded = np.array(sorted(found)) < n // 2
        assert abs(crowded.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(found))
    for place in layer.info["spatial"]:
        assert place["limit"] < 750
    order = np.array([i for i, _, _ in layer.cells(0)[0, 0, 0]])
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 4 / np.sqrt(len(order))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": np.array([[0, 0, 0], [0, np.nan, 0.0]])},
         r"annotation 6 \(row 1\) has no finite position: \[0.0, nan, 0.0\]; leave such rows out"),
        ({"points": np.array([[0, 0, 0], [1e300, 0, 0.0]])}, r"6 \(row 1\) has no finite"),
        ({"ids": np.array([6, 6], np.uint64)}, "id 6 is there 2 times: give each annotation an id"),
        ({"ids": np.array([6, -1])}, "ids: -1 is below 0; ids are uint64"),
        ({"ids": np.array([6.0, 1.0])}, "ids: float64 of shape .* expected integers"),
        ({"points": np.zeros((2, 2, 3))}, r"kind POINT have shape \(2, 2, 3\): expected \(2, 3\)"),
        ({"properties": {}}, "the table has no property 'flags': it has"),
        ({"properties": {"flags": np.array([0, 256])}},
         "property 'flags' has values from 0 to 256: uint8 holds 0 to 255"),
        ({"properties": {"flags": np.array([0, np.nan])}}, "property 'flags' has values from nan"),
        ({"properties": {"flags": np.array([0, 0.5])}}, "property 'flags' has fractions"),
        ({"properties": {"flags": np.array(["a", "b"])}}, "expected numbers of shape"),
        ({"properties": {"flags": np.zeros(2, int), "x": np.zeros(2)}},
         "the table has a property 'x' that the schema does not name"),
        ({"relationships": {"cell": Related(np.zeros(3, np.uint64), np.array([0, 2]))}},
         "relationship 'cell': offsets must be 3 numbers that rise from 0 to 3"),
        ({"relationships": {"cell": np.array([1, -1])}}, "relationship 'cell': -1 is below 0"),
    ],
)  # fmt: skip
def test_refused_in_one_line(tmp_path, change, message):
    schema = AnnotationSchema("POINT", (Property("flags", "uint8"),), ("cell",))
    columns = {
        "ids": np.array([5, 6], np.uint64),
        "points": np.zeros((2, 3)),
        "properties": {"flags": np.array([0, 1])},
        "relationships": {"cell": np.array([1, 2], np.uint64)},
    }
    with pytest.raises(TableError, match=message) as error:
        write_annotations(tmp_path, schema, AnnotationTable(**(columns | change)))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "info").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "line"}, "annotation kind 'line': there are LINE and POINT"),
        ({"kind": "LINE", "properties": (Property("Size", "uint8"),)}, "property 'Size': a name"),
        ({"kind": "LINE", "properties": (Property("a", "uint8"),) * 2}, "'a' is there twice"),
        ({"kind": "LINE", "properties": (Property("a", "rgb", enum={1: "x"}),)}, "no labels"),
        ({"kind": "LINE", "relationships": ("a b", "A_b")}, "'rel_a_b' is there twice"),
        ({"kind": "LINE", "unit_nm": (1, 0, 1)}, r"unit_nm \(1, 0, 1\): give three sizes above 0"),
        ({"kind": "LINE", "properties": tuple(Property(f"p{i}", "float32") for i in range(58))},
         "would take 256 bytes, and the viewer draws at most 252"),
    ],
)  # fmt: skip
def test_schema_is_checked(values, message):
    with pytest.raises(TableError, match=message):
        AnnotationSchema(**values)


def test_what_is_there_is_kept_or_replaced(tmp_path):
    schema, point = AnnotationSchema("POINT"), np.zeros((1, 3))
    first = AnnotationTable(np.array([1], np.uint64), point)
    second = AnnotationTable(np.array([2], np.uint64), point)
    unsharded = WriteOptions(sharded=False)
    write_annotations(tmp_path, schema, first, unsharded)
    with pytest.raises(LayerExistsError, match="holds a layer already: choose another path"):
        write_annotations(tmp_path, schema, second, unsharded)
    assert (tmp_path / "by_id" / "1").is_file()
    (tmp_path / "mine").write_text("kept")
    write_annotations(tmp_path, schema, second, unsharded, overwrite=True)
    assert Store(tmp_path).names() == ["by_id/2", "info", "mine", "spatial0/0_0_0"]
    Store(tmp_path).put_json("info", {"@type": "neuroglancer_multiscale_volume"})
    with pytest.raises(LayerExistsError, match="is not of annotations: choose another path"):
        write_annotations(tmp_path, schema, second, unsharded, overwrite=True)


def test_without_info_until_all_is_written(tmp_path, monkeypatch):
    """A layer that breaks off is none, also where there was one."""
    schema, points = AnnotationSchema("POINT"), np.zeros((2, 3))
    table = AnnotationTable(np.array([1, 2], np.uint64), points)
    write_annotations(tmp_path, schema, table)
    twice = AnnotationTable(np.array([1, 1], np.uint64), points)
    with pytest.raises(TableError):
        write_annotations(tmp_path, schema, twice, overwrite=True)
    assert not Store(tmp_path).exists("info")


def test_in_memory_bucket(tmp_path, make_table, full_schema):
    """A bucket gets the same files."""
    schema = full_schema()
    table = make_table(1, 30, schema)
    write_annotations(tmp_path, schema, table)
    bucket = "mem://annotations/layer"
    try:
        write_annotations(bucket, schema, table)
        names = Store(tmp_path).names()
        assert Store(bucket).names() == names
        for name in names:
            assert Store(bucket).read(name) == Path(tmp_path, name).read_bytes()
    finally:
        Store(bucket).delete_folder("")
