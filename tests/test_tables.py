"""Tables: dtypes, bytes, flags, CSV and Parquet alike."""

import io

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.errors import DamagedFileError, LayerNotFoundError, TableError
from cnapse.tables import (
    PARTNERS,
    SYNAPSES,
    TABLES,
    SynapseFlag,
    empty_table,
    filled,
    flag_names,
    parquet_bytes,
    parse_flags,
    parse_parquet,
    read_metadata,
    read_table,
    validate,
    write_table,
)

SEED_COLUMNS = ["syn_id", "pre", "pre_id", "post", "post_id", "x_pos", "y_pos", "z_pos", "size"]


def rows(schema, n=3) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    made: dict[str, object] = {}
    for column in schema.columns:
        if column.dtype == "str":
            made[column.name] = [f"{column.name} {i}, é" for i in range(n)]
        elif column.dtype == "float64":
            made[column.name] = rng.random(n) * 1e6
        else:
            made[column.name] = rng.integers(0, 200, n)
    if "syn_id" in made:
        made["syn_id"] = np.array([2**64 - 1, 2**63, 1], np.uint64)
    return validate(pd.DataFrame(made), schema)


@pytest.mark.parametrize("schema", TABLES.values(), ids=lambda s: s.name)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_what_is_written_is_read(tmp_path, schema, ending) -> None:
    table = rows(schema)
    write_table(table, tmp_path / f"t.{ending}", schema)
    pd.testing.assert_frame_equal(read_table(tmp_path / f"t.{ending}"), table)


def test_partners_start_with_the_columns_of_the_cnapse_readme() -> None:
    assert PARTNERS.names[:9] == SEED_COLUMNS


def test_every_column_says_what_it_is() -> None:
    for schema in TABLES.values():
        assert len(set(schema.names)) == len(schema.names)
        for column in schema.columns:
            assert column.meaning
            if column.name.endswith("_pos") or column.name == "size":
                assert column.unit in {"nm", "nm3"}


def test_same_rows_same_bytes_and_parts_are_joined(tmp_path) -> None:
    table = rows(SYNAPSES)
    assert parquet_bytes(table, SYNAPSES) == parquet_bytes(table.copy(), SYNAPSES)
    for name, part in (("part-0.parquet", table[:1]), ("part-1.parquet", table[1:])):
        write_table(part, tmp_path / "parts" / name, SYNAPSES)
    pd.testing.assert_frame_equal(read_table(tmp_path / "parts"), table)
    only = read_table(tmp_path / "parts", columns=["syn_id", "size"])
    assert list(only) == ["syn_id", "size"]


def test_metadata_is_kept_in_files_and_parts(tmp_path) -> None:
    made = {"cnapse_assign": '{"preset":"cnapse"}'}
    write_table(rows(PARTNERS), tmp_path / "p" / "part-0.parquet", PARTNERS, made)
    for path in (tmp_path / "p", tmp_path / "p" / "part-0.parquet"):
        assert read_metadata(path) == {"cnapse_table": "partners", **made}
    (tmp_path / "no.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(TableError, match="is not a Parquet table"):
        read_metadata(tmp_path / "no.parquet")
    with pytest.raises(LayerNotFoundError, match="no table at"):
        read_metadata(tmp_path / "nowhere")


@pytest.mark.parametrize("schema", TABLES.values(), ids=lambda s: s.name)
def test_what_is_not_known_yet_is_filled_in(schema) -> None:
    table = rows(schema)
    assert_same = pd.testing.assert_frame_equal
    assert_same(filled(table, schema), table)
    some = filled(table[["syn_id", "flags"]], schema)
    validate(some, schema)
    assert some["syn_id"].tolist() == table["syn_id"].tolist()
    assert some["lost"].isna().all()
    assert some["n_partners"].tolist() == [0, 0, 0]


def test_empty_tables_keep_their_dtypes(tmp_path) -> None:
    table = empty_table(PARTNERS)
    again = parse_parquet(parquet_bytes(table, PARTNERS))
    assert list(again.dtypes) == list(table.dtypes)
    write_table(table, tmp_path / "t.csv", PARTNERS)
    assert read_table(tmp_path / "t.csv")["syn_id"].dtype == np.uint64


@given(st.integers(0, sum(SynapseFlag)))
@settings(deadline=None)
def test_flags_by_name_and_back(flags: int) -> None:
    assert parse_flags(flag_names(flags)) == flags


def test_flags_are_names_in_csv(tmp_path) -> None:
    table = rows(SYNAPSES).assign(flags=np.uint32(5))
    write_table(table, tmp_path / "t.csv", SYNAPSES)
    assert "no_presynaptic_cell|nothing_hit" in (tmp_path / "t.csv").read_text()


def test_a_page_with_another_byte_is_damaged() -> None:
    """Its checksum tells: other numbers are as good as any."""
    data = parquet_bytes(rows(SYNAPSES), SYNAPSES)
    group = pq.read_metadata(io.BytesIO(data)).row_group(0)
    for index in range(group.num_columns):
        column = group.column(index)
        first = min(column.data_page_offset, column.dictionary_page_offset or 1 << 62)
        last = first + column.total_compressed_size - 1
        wrong = data[:last] + bytes([data[last] ^ 1]) + data[last + 1 :]
        with pytest.raises(DamagedFileError, match=r"^t.parquet is damaged"):
            parse_parquet(wrong, "t.parquet")


def test_mistakes_are_named(tmp_path) -> None:
    table = rows(SYNAPSES)
    with pytest.raises(TableError, match=r"missing columns size; unknown columns volume"):
        validate(table.rename(columns={"size": "volume"}), SYNAPSES)
    with pytest.raises(TableError, match=r"^table synapses: missing columns size$"):
        validate(table.drop(columns="size"), SYNAPSES)
    with pytest.raises(TableError, match=r"^table synapses: unknown columns volume$"):
        validate(table.assign(volume=0), SYNAPSES)
    with pytest.raises(TableError, match="table synapses"):
        validate(table.assign(syn_id=["a", "b", "c"]), SYNAPSES)
    with pytest.raises(TableError, match=r"unknown flag 'odd': the flags are no_presynaptic_cell"):
        parse_flags("border|odd")
    with pytest.raises(TableError, match=r"written as \.csv or \.parquet"):
        write_table(table, tmp_path / "t.xlsx", SYNAPSES)
    with pytest.raises(LayerNotFoundError, match="no table at"):
        read_table(tmp_path / "none")
    with pytest.raises(LayerNotFoundError, match="is not there"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(TableError, match="not a table that can be read"):
        read_table(tmp_path / "broken.parquet")
    write_table(table, tmp_path / "t.csv", SYNAPSES)
    with pytest.raises(TableError, match="has no column post"):
        read_table(tmp_path / "t.csv", columns=["post"])
