"""Tables from all the places where a user may have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cnapse.analysis.sources import read_synapses
from cnapse.errors import LayerNotFoundError, TableError
from cnapse.tables import PARTNERS, SYNAPSES, empty_table, write_table


def filled(schema, **columns) -> pd.DataFrame:
    """A table of the schema, zero where not said otherwise."""
    n = len(next(iter(columns.values())))
    blank = {
        c.name: np.full(
            n, "" if c.dtype == "str" else 0, dtype=object if c.dtype == "str" else c.dtype
        )
        for c in schema.columns
    }
    return pd.DataFrame(blank).assign(**columns)


PARTNER_ROWS = filled(PARTNERS, syn_id=[3, 3, 5], pre_id=[8, 8, 9], post_id=[1, 2, 1])
SYNAPSE_ROWS = filled(SYNAPSES, syn_id=[3, 5, 6], pre_id=[8, 9, 9])


def write_parts(folder: Path, table: pd.DataFrame, schema) -> None:
    for i in range(2):
        write_table(table[i::2], folder / f"{i}.parquet", schema)


def check(side, n_synapses: int = 3) -> None:
    assert side.ids.tolist() == [3, 5, 6][:n_synapses]
    assert sorted(zip(side.ids[side.row].tolist(), side.post.tolist(), strict=True)) == [
        (3, 1),
        (3, 2),
        (5, 1),
    ]


def test_a_run_by_its_folder_and_by_its_configuration(tmp_path) -> None:
    out = tmp_path / "out"
    write_parts(out / "tables/partners", PARTNER_ROWS, PARTNERS)
    write_parts(out / "tables/synapses", SYNAPSE_ROWS, SYNAPSES)
    # A layer of the same name, as a run has it, and the exported table, which may be older.
    (out / "synapses").mkdir()
    (out / "synapses/info").write_text("{}")
    write_table(empty_table(PARTNERS), out / "partners.csv", PARTNERS)
    file = tmp_path / "cnapse.toml"
    file.write_text('output = "out"\nresolution = [4, 4, 50]\n[layers]\nprobability = "p"\n')
    check(read_synapses("some", out))
    check(read_synapses("some", f"{out}/"))
    check(read_synapses("some", file))
    check(read_synapses("some", out / "tables"))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_folder_of_two_tables_and_single_tables(tmp_path, ending) -> None:
    write_table(PARTNER_ROWS, tmp_path / f"partners.{ending}", PARTNERS)
    check(read_synapses("some", tmp_path), 2)
    check(read_synapses("some", tmp_path / f"partners.{ending}"), 2)
    write_table(SYNAPSE_ROWS, tmp_path / f"synapses.{ending}", SYNAPSES)
    check(read_synapses("some", tmp_path))
    table = tmp_path / f"partners.{ending}"
    check(read_synapses("some", table), 2)
    check(read_synapses("some", table, tmp_path / f"synapses.{ending}"))


def test_a_folder_of_parts(tmp_path) -> None:
    write_parts(tmp_path / "mine", PARTNER_ROWS, PARTNERS)
    check(read_synapses("some", tmp_path / "mine"), 2)


def test_no_table(tmp_path) -> None:
    with pytest.raises(LayerNotFoundError, match=r"no true table at .*none: give a cnapse"):
        read_synapses("true", tmp_path / "none")
    with pytest.raises(LayerNotFoundError, match=r"none.csv is not there"):
        read_synapses("true", tmp_path / "none.csv")
    (tmp_path / "bad.parquet").write_bytes(b"PAR0")
    with pytest.raises(TableError, match=r"bad.parquet is not a table that can be read"):
        read_synapses("true", tmp_path / "bad.parquet")
