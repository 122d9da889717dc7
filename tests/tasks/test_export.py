"""Tables as CSV: one file, or several where a spreadsheet could not take it."""

import pandas as pd
import pytest

from cnapse.tables import PARTNERS, SYNAPSES, empty_table, filled, parquet_bytes, read_table
from cnapse_tasks import export
from cnapse_tasks.run import Run
from cnapse_tasks.tabulate import part_name


@pytest.fixture
def run(tissue, tmp_path) -> Run:
    """Five parts of 3, 0, 4, 2 and 5 synapses, no partners."""
    run = Run(tissue.config(tmp_path / "out"))
    first = 1
    for part, count in enumerate((3, 0, 4, 2, 5)):
        run.data("measure").put(f"{part:012d}/{0:012d}.st", b"")
        rows = filled(pd.DataFrame({"syn_id": range(first, first + count)}), SYNAPSES)
        first += count
        for schema, table in ((SYNAPSES, rows), (PARTNERS, empty_table(PARTNERS))):
            data = parquet_bytes(table, schema)
            run.output.put(f"tables/{schema.name}/{part_name(part)}", data)
    return run


def test_a_table_is_one_file(run) -> None:
    assert export.execute(run, 0) == {"synapses": 14, "partners": 0}
    table = read_table(f"{run.config.output}/synapses.csv")
    assert table["syn_id"].tolist() == list(range(1, 15))
    assert run.output.names("csv") == []


def test_a_long_table_is_several_files_and_never_half_of_one(run, monkeypatch) -> None:
    monkeypatch.setattr(export, "_ROWS_PER_FILE", 6)
    assert export.execute(run, 0) == {"synapses": 14, "partners": 0}
    assert not run.output.exists("synapses.csv")
    assert run.output.exists("partners.csv")
    names = [f"synapses-0000{n}.csv" for n in range(3)]
    assert run.output.names("csv") == names
    tables = [read_table(f"{run.config.output}/csv/{name}") for name in names]
    assert [len(table) for table in tables] == [3, 6, 5]
    assert pd.concat(tables)["syn_id"].tolist() == list(range(1, 15))
    export.forget(run)
    assert run.output.names("csv") == []
    assert not run.output.exists("partners.csv")
