"""Tables of other projects, written by pandas and h5py in their published shape, and read back."""

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.errors import ConfigError, LayerNotFoundError, TableError
from cnapse.interchange import SourceOptions, open_source, write_source
from cnapse.interchange.formats import (
    PROPERTY_TYPES,
    ROLES,
    parse_mapping,
    parse_properties,
)

VOXEL = (4.0, 4.0, 40.0)
PRE, POST, SYNAPSE = "presynaptic cell", "postsynaptic cell", "synapse"


def whole(path, **options):
    """All rows of a source as one table."""
    source = open_source(path, SourceOptions(**options))
    (table,) = source.parts()
    return source, table


def check(table, truth, *, scale=VOXEL, ids=None) -> None:
    expected = np.stack([truth.pre, truth.post], axis=1) * np.array(scale)
    assert np.array_equal(table.points, expected)
    assert table.relationships[PRE].tolist() == truth.pre_cell.tolist()
    assert table.relationships[POST].tolist() == truth.post_cell.tolist()
    assert table.ids.tolist() == (truth.ids.tolist() if ids is None else ids)


@pytest.mark.parametrize("form", ["parquet", "feather", "csv", "csv.gz"])
@pytest.mark.parametrize("shape", ["lists", "split"])
def test_cave(tmp_path, cave, split, truth, form, shape) -> None:
    frame = cave if shape == "lists" else split
    path = tmp_path / f"synapses.{form}"
    if form in {"parquet", "feather"}:
        getattr(frame, f"to_{form}")(path)
    else:
        # A numpy array in a cell is written as pandas does: [1 2 3].
        frame.to_csv(path, index=False)
    source, table = whole(path, resolution=VOXEL)
    check(table, truth)
    assert source.format == "cave"
    assert table.properties["size"].tolist() == truth.size.tolist()
    assert source.schema.unit_nm == VOXEL
    _, points = whole(path, resolution=VOXEL, points=True)
    assert np.array_equal(points.points, truth.centre * np.array(VOXEL))


def test_layer_is_what_the_table_says(tmp_path, cave, truth, read) -> None:
    cave.to_parquet(tmp_path / "t.parquet")
    source = open_source(tmp_path / "t.parquet", SourceOptions(resolution=VOXEL))
    written = write_source(tmp_path / "layer", source)
    assert written.annotations == len(cave)
    found = read(tmp_path / "layer")
    assert set(found) == set(truth.ids.tolist())
    for row, i in enumerate(truth.ids.tolist()):
        assert np.array_equal(found[i].points, [truth.pre[row], truth.post[row]])
        assert found[i].properties == {"size": truth.size[row]}
        assert found[i].segments == {PRE: [truth.pre_cell[row]], POST: [truth.post_cell[row]]}


@pytest.mark.parametrize("spelling", ["bodyId", "body"])
def test_neuprint(tmp_path, truth, spelling) -> None:
    confidence = "confidence" if spelling == "bodyId" else "conf"
    columns = {f"{spelling}_pre": truth.pre_cell, f"{spelling}_post": truth.post_cell}
    for name, places in (("pre", truth.pre), ("post", truth.post)):
        columns |= {f"{axis}_{name}": places[:, i] for i, axis in enumerate("xyz")}
        columns[f"{confidence}_{name}"] = np.linspace(0, 1, len(places))
    pd.DataFrame(columns).to_csv(tmp_path / "t.csv", index=False)
    source, table = whole(tmp_path / "t.csv")
    check(table, truth, scale=(8, 8, 8), ids=[*range(1, 13)])
    assert source.format == "neuprint"
    expected = np.linspace(0, 1, 12).astype(np.float32)
    assert np.array_equal(table.properties["pre_score"], expected)
    assert np.array_equal(table.properties["post_score"], expected)


@pytest.mark.parametrize("cells", ["{}_pt_root_id", "{}_root_id", "{}"])
def test_flywire(tmp_path, truth, cells) -> None:
    columns = {cells.format("pre"): truth.pre_cell, cells.format("post"): truth.post_cell}
    for name, places in (("pre", truth.pre), ("post", truth.post)):
        columns |= {f"{name}_{axis}": places[:, i] * VOXEL[i] for i, axis in enumerate("xyz")}
    frame = pd.DataFrame(columns | {"cleft_score": truth.size, "id": truth.ids})
    frame.to_feather(tmp_path / "t.feather")
    source, table = whole(tmp_path / "t.feather")
    check(table, truth)
    assert source.format == "flywire"
    assert source.schema.unit_nm == (1, 1, 1)
    assert table.properties["score"].tolist() == truth.size.tolist()


def test_synaptor(tmp_path, truth) -> None:
    columns = {"cleft_segid": truth.ids, "size": truth.size}
    columns |= {"presyn_segid": truth.pre_cell, "postsyn_segid": truth.post_cell}
    for name, places in (
        ("presyn", truth.pre),
        ("postsyn", truth.post),
        ("centroid", truth.centre),
    ):
        columns |= {f"{name}_{axis}": places[:, i] for i, axis in enumerate("xyz")}
    pd.DataFrame(columns).to_csv(tmp_path / "edges.csv", index=False)
    source, table = whole(tmp_path / "edges.csv", resolution=VOXEL)
    check(table, truth)
    assert source.format == "synaptor"
    assert table.relationships[SYNAPSE].tolist() == truth.ids.tolist()


@pytest.mark.parametrize("offset", [None, (400.0, 80.0, 12.0)])
def test_cremi(tmp_path, truth, offset, read) -> None:
    """Locations are z, y, x in nm, counted from the offset; ids stand in any order."""
    n = len(truth.pre)
    moved = np.array(offset or (0, 0, 0))
    places = np.concatenate([truth.post, truth.pre])[:, ::-1] * np.array(VOXEL[::-1]) - moved
    with h5py.File(tmp_path / "sample.hdf", "w") as file:
        group = file.create_group("annotations")
        if offset is not None:
            group.attrs["offset"] = offset
        shuffled = np.random.default_rng(1).permutation(2 * n)
        group["ids"] = (np.arange(2 * n, dtype=np.uint64) + 100)[shuffled]
        group["locations"] = places[shuffled]
        group["types"] = np.array([b"postsynaptic_site"] * n + [b"presynaptic_site"] * n)
        pairs = np.stack([np.arange(n) + 100 + n, np.arange(n) + 100], axis=1)
        group["presynaptic_site/partners"] = pairs.astype(np.uint64)
    source = open_source(tmp_path / "sample.hdf")
    write_source(tmp_path / "layer", source)
    found = read(tmp_path / "layer")
    assert sorted(found) == [*range(1, n + 1)]
    for row in range(n):
        expected = np.stack([truth.pre[row], truth.post[row]]) * np.array(VOXEL)
        assert np.array_equal(found[row + 1].points, expected)
    with h5py.File(tmp_path / "sample.hdf", "a") as file:
        file["annotations/presynaptic_site/partners"][0, 1] = 7
    with pytest.raises(TableError, match=r"partners names id 7, which is not in annotations/ids$"):
        open_source(tmp_path / "sample.hdf")


def test_named_columns(tmp_path, truth) -> None:
    """Any table, in nm; text ids, gaps, flags as names."""
    frame = pd.DataFrame(
        {
            "from": [str(v) for v in truth.pre_cell],
            "to": pd.array([*truth.post_cell[:-1].tolist(), None], "UInt64"),
            "a": [f"({x}, {y}, {z})" for x, y, z in truth.pre],
            "b": truth.post.tolist(),
            "doubts": ["near_cut|border", ""] * 6,
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    mapping = parse_mapping(["pre_cell=from", "post_cell=to", "pre=a", "post=b", "flags=doubts"])
    source, table = whole(tmp_path / "t.parquet", columns=mapping)
    assert source.format == "other"
    assert np.array_equal(table.points, np.stack([truth.pre, truth.post], axis=1))
    assert table.relationships[PRE].tolist() == truth.pre_cell.tolist()
    assert table.relationships[POST].tolist() == [*truth.post_cell[:-1].tolist(), 0]
    assert table.properties["flags"].tolist() == [96, 0] * 6


def test_parts_of_a_folder(tmp_path, split, truth) -> None:
    """Ids count on over parts, whose columns may be of other types."""
    (tmp_path / "parts").mkdir()
    split = split.drop(columns="id")
    split[:5].to_parquet(tmp_path / "parts" / "a.parquet")
    split[5:].astype({"size": "float32"}).to_parquet(tmp_path / "parts" / "b.parquet")
    source = open_source(tmp_path / "parts", SourceOptions(resolution=VOXEL))
    for _ in range(2):
        parts = list(source.parts())
        assert [part.ids.tolist() for part in parts] == [[*range(1, 6)], [*range(6, 13)]]
        sizes = np.concatenate([part.properties["size"] for part in parts])
        assert sizes.tolist() == truth.size.tolist()
    split[5:].drop(columns="size").to_parquet(tmp_path / "parts" / "b.parquet")
    with pytest.raises(TableError, match=r"b\.parquet has no column size, and a\.parquet has: "):
        list(source.parts())


def test_rows_without_a_position(tmp_path, split) -> None:
    split.loc[3, "post_pt_position_y"] = np.nan
    split.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(TableError, match=r"t\.csv: row 4 \(id 1152921504606846983\) has no posit"):
        whole(tmp_path / "t.csv", resolution=VOXEL)
    source, table = whole(tmp_path / "t.csv", resolution=VOXEL, skip_missing=True)
    assert 1152921504606846983 not in table.ids
    (again,) = source.parts()
    assert len(again) == len(table) == 11
    assert source.skipped == 1


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_lists_with_gaps(tmp_path, cave, truth, form) -> None:
    cave.loc[[0, 7], "post_pt_position"] = None
    path = tmp_path / f"t.{form}"
    cave.to_parquet(path) if form == "parquet" else cave.to_csv(path)
    _, table = whole(path, resolution=VOXEL, skip_missing=True)
    kept = np.delete(np.arange(12), [0, 7])
    assert table.ids.tolist() == truth.ids[kept].tolist()
    assert np.array_equal(table.points[:, 1], truth.post[kept] * np.array(VOXEL))
    cave["pre_pt_position"] = [[1, 2]] * 12
    cave.to_parquet(path) if form == "parquet" else cave.to_csv(path)
    with pytest.raises(
        TableError, match=r"'pre_pt_position' \(pre\): .*1.*2.* is no position; exp"
    ):
        whole(path, resolution=VOXEL)


def test_ids_that_lost_digits_are_refused(tmp_path, split) -> None:
    """What pandas does to ids when a table with gaps is joined."""
    for name in ("t.parquet", "t.csv"):
        rounded = split.astype({"pre_pt_root_id": "float64"})
        rounded.to_parquet(tmp_path / name) if "q" in name else rounded.to_csv(tmp_path / name)
        with pytest.raises(TableError, match=r"'pre_pt_root_id' \(pre_cell\) holds floats up to 8"):
            whole(tmp_path / name, resolution=VOXEL)
    small = split.assign(pre_pt_root_id=[7.0, np.nan] * 6)
    small.to_csv(tmp_path / "t.csv")
    _, table = whole(tmp_path / "t.csv", resolution=VOXEL)
    assert table.relationships[PRE].tolist() == [7, 0] * 6


def test_bad_values(tmp_path, split) -> None:
    path = tmp_path / "t.csv"
    split.assign(post_pt_root_id=-5).to_csv(path)
    with pytest.raises(TableError, match=r"'post_pt_root_id' .*-5.*; ids are from 0, which is no"):
        whole(path, resolution=VOXEL)
    split.astype({"size": "str"}).replace({"size": {str(split["size"][2]): "big"}}).to_csv(path)
    with pytest.raises(TableError, match=r"t\.csv cannot be read as a table: .*'big'"):
        whole(path, resolution=VOXEL)
    path.write_bytes(b"")
    with pytest.raises(TableError, match=r"t\.csv cannot be read as a table: Empty CSV file"):
        whole(path, resolution=VOXEL)
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(TableError, match=r"t\.parquet cannot be read as a table: "):
        whole(tmp_path / "t.parquet")


def test_what_is_asked_wrongly(tmp_path, split) -> None:
    path = tmp_path / "t.parquet"
    split.to_parquet(path)
    with pytest.raises(
        ConfigError, match=r"read as cave, has positions in voxels: give their size"
    ):
        whole(path)
    with pytest.raises(
        TableError,
        match=r"read as neuprint, lacks pre_cell \(bodyId_pre or body_pre\); post_cell .*"
        r"; pre position \(x_pre, y_pre, z_pre\); post position .*: it has id, valid, .*--columns",
    ):
        whole(path, format="neuprint")
    with pytest.raises(TableError, match=r"has no column 'x' \(--columns pre_x=x\): it has id, "):
        whole(path, resolution=VOXEL, columns={"pre_x": "x"})
    with pytest.raises(TableError, match=r"is no table of cnapse: of partners it lacks syn_id, "):
        whole(path, format="cnapse")
    with pytest.raises(ConfigError, match=r"--format dvid: there are cnapse, cave, neuprint, "):
        whole(path, format="dvid")
    split[["size", "valid"]].to_parquet(path)
    with pytest.raises(
        TableError, match=r"of no format that is known by its columns \(size, valid"
    ):
        whole(path)
    with pytest.raises(LayerNotFoundError, match=r"no table at .*/u\.parquet: check the path$"):
        whole(tmp_path / "u.parquet")
    (tmp_path / "t.txt").write_text("a b")
    with pytest.raises(TableError, match=r"t\.txt is no table by its name: expected one that ends"):
        whole(tmp_path / "t.txt")
    with pytest.raises(ConfigError, match=r"--columns pre=: expected|--columns soma=x: expected"):
        parse_mapping(["soma=x"])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(ROLES)), st.text())))
def test_any_name_of_a_column_is_taken(pairs) -> None:
    """Also one with `=`; of one role the last counts."""
    assert parse_mapping([f"{role}={column}" for role, column in pairs]) == dict(pairs)


@settings(max_examples=30, deadline=None)
@given(st.text())
def test_any_text_is_a_mapping_or_refused_in_one_line(text) -> None:
    role, equals, column = text.partition("=")
    if equals and role in ROLES:
        assert parse_mapping([text]) == {role: column}
        return
    with pytest.raises(ConfigError, match="expected ROLE=COLUMN"):
        parse_mapping([text])


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(min_size=1), st.sampled_from(PROPERTY_TYPES)))
def test_further_columns_with_their_types(wanted) -> None:
    texts = [f"{column}={kind}" for column, kind in wanted.items()]
    assert parse_properties(texts) == wanted


def test_further_columns_become_properties(tmp_path, split, truth, read) -> None:
    split["Mean Doubt"] = np.linspace(0, 1, len(split))
    split["layer"] = np.arange(len(split)) - 3
    for name in ("t.parquet", "t.csv"):
        getattr(split, f"to_{name[2:]}")(tmp_path / name, index=False)
        options = SourceOptions(
            resolution=VOXEL, properties=parse_properties(["Mean Doubt", "layer=int8"])
        )
        write_source(tmp_path / f"{name}-layer", open_source(tmp_path / name, options))
        found = read(tmp_path / f"{name}-layer")
        for row, i in enumerate(truth.ids.tolist()):
            assert found[i].properties["mean_doubt"] == np.float32(split["Mean Doubt"][row])
            assert found[i].properties["layer"] == row - 3


def test_further_columns_asked_wrongly(tmp_path, split) -> None:
    path = tmp_path / "t.parquet"
    split.to_parquet(path)
    with pytest.raises(TableError, match=r"has no column 'x' for --property: it has id, valid"):
        whole(path, resolution=VOXEL, properties={"x": "uint8"})
    with pytest.raises(TableError, match=r"property 'size' is there twice: give each a name"):
        whole(path, resolution=VOXEL, properties={"size": "uint8"})
    split["large"] = 300
    split.to_parquet(path)
    source = open_source(path, SourceOptions(resolution=VOXEL, properties={"large": "uint8"}))
    with pytest.raises(TableError, match=r"'large' has values from 300.* uint8 holds 0 to 255"):
        write_source(tmp_path / "layer", source)
    with pytest.raises(ConfigError, match=r"--property a=text: expected COLUMN or COLUMN=TYPE"):
        parse_properties(["a=text"])
    with pytest.raises(ConfigError, match=r"--property x: CREMI's files have the properties"):
        whole(tmp_path / "t.hdf", properties={"x": "uint8"})
