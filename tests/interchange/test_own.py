"""cnapse's own tables: the lines of a run's layer."""

import numpy as np
import pandas as pd
import pytest

from cnapse.errors import TableError
from cnapse.interchange import SourceOptions, open_source
from cnapse.tables import PARTNERS, SYNAPSES, filled, write_table
from cnapse.viewing.partner_lines import partner_lines, schema

VOXEL = (4.0, 4.0, 50.0)


@pytest.fixture
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(8)
    ids = np.uint64(2**53 + 1) + 2 * np.arange(6, dtype=np.uint64)
    place = {name: rng.uniform(0, 5000, 6) for name in ("x_pos", "y_pos", "z_pos")}
    cells = np.uint64(2**63 + 1) + np.arange(6, dtype=np.uint64)
    synapses = pd.DataFrame(
        {"syn_id": ids, "pre_id": cells, "size": 1e5, "n_partners": 300, "flags": 33, **place}
    ).assign(doubt=[0.5, np.nan, 0, 1, 0.25, 0.125])
    partners = synapses.loc[[0, 0, 1, 2, 4, 5, 5, 5]].reset_index(drop=True)
    partners["post_id"] = rng.integers(1, 2**62, 8).astype(np.uint64)
    partners = partners.drop(columns="doubt").assign(share=0.25)
    for axis in "xyz":
        partners[f"post_{axis}"] = rng.uniform(0, 5000, 8)
    partners.loc[2, "post_y"] = np.nan
    return filled(synapses, SYNAPSES), filled(partners, PARTNERS)


def written(folder, tables, kind: str):
    """Path of the table of partners, its neighbour beside it."""
    for name, table, columns in zip(
        ("synapses", "partners"), tables, (SYNAPSES, PARTNERS), strict=True
    ):
        if kind == "parts":
            ids = tables[0]["syn_id"]
            first = table["syn_id"] <= ids[2]
            for part, rows in (("00000000", first), ("00000001", ~first)):
                (folder / name).mkdir(exist_ok=True)
                write_table(table[rows], folder / name / f"{part}.parquet", columns)
        else:
            write_table(table, folder / f"{name}.{kind}", columns)
    return folder / ("partners" if kind == "parts" else f"partners.{kind}")


def joined(parts):
    return (
        np.concatenate([p.ids for p in parts]),
        np.concatenate([p.points for p in parts]),
        {k: np.concatenate([p.properties[k] for p in parts]) for k in parts[0].properties},
        {k: np.concatenate([p.relationships[k] for p in parts]) for k in parts[0].relationships},
    )


@pytest.mark.parametrize("kind", ["parts", "parquet", "csv"])
def test_as_a_run_draws_them(tmp_path, tables, kind) -> None:
    source = open_source(written(tmp_path, tables, kind), SourceOptions(resolution=VOXEL))
    assert source.schema == schema(VOXEL)
    ids, points, properties, relationships = joined(list(source.parts()))
    expected = partner_lines(*tables)
    assert ids.tolist() == expected.ids.tolist()
    np.testing.assert_allclose(points, expected.points, rtol=1e-12)
    for found, wanted in (
        (properties, expected.properties),
        (relationships, expected.relationships),
    ):
        assert found.keys() == wanted.keys()
        for name, values in wanted.items():
            assert np.array_equal(found[name], values), name
            assert found[name].dtype == values.dtype, name


def test_without_the_other_table(tmp_path, tables) -> None:
    path = written(tmp_path, tables, "parquet")
    (tmp_path / "synapses.parquet").unlink()
    source = open_source(path)
    assert "doubt" not in [p.name for p in source.schema.properties]
    (part,) = source.parts()
    assert set(part.properties) == {p.name for p in source.schema.properties}
    points = open_source(path, SourceOptions(points=True))
    assert points.schema.kind == "POINT"
    (at,) = points.parts()
    assert np.array_equal(at.points, part.points[:, 0])


def test_large_ids_are_counted(tmp_path, tables) -> None:
    """Above 2^54, where `partner_lines` cannot make ids of those of the synapses."""
    largest = tables[1]["syn_id"].max()
    for highest, counted in ((2**54 - 1, False), (2**54, True)):
        moved = tuple(t.assign(syn_id=t["syn_id"] + (highest - largest)) for t in tables)
        source = open_source(written(tmp_path, moved, "parts"))
        ids = np.concatenate([part.ids for part in source.parts()])
        assert (ids.tolist() == [*range(1, 9)]) == counted
        for path in (tmp_path / "synapses", tmp_path / "partners"):
            for file in path.iterdir():
                file.unlink()
        if counted:
            with pytest.raises(TableError, match="cannot take their ids from synapses"):
                partner_lines(*moved)


def test_synapses_as_points(tmp_path, tables) -> None:
    written(tmp_path, tables, "csv")
    source = open_source(tmp_path / "synapses.csv")
    (part,) = source.parts()
    synapses = tables[0]
    assert source.schema.kind == "POINT"
    assert part.ids.tolist() == synapses["syn_id"].tolist()
    np.testing.assert_allclose(part.points, synapses[["x_pos", "y_pos", "z_pos"]], rtol=1e-12)
    assert part.properties["doubt"].tolist() == [0.5, 0, 0, 1, 0.25, 0.125]
    assert part.properties["flags"].tolist() == [33] * 6
    assert part.properties["partners"].tolist() == [255] * 6
    assert part.relationships["presynaptic cell"].tolist() == synapses["pre_id"].tolist()
