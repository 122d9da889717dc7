"""Candidates: every filter and order against pandas; pages as JSON."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.config import Config
from cnapse.errors import ReviewError, RunStateError, TableError
from cnapse.review.decisions import Verdict, VerdictDecision
from cnapse.review.items import ORDERS, VERDICT_FILTERS, Candidates, Filter
from cnapse.review.standing import Standing, standing
from cnapse.runs import RunData
from cnapse.tables import PARTNERS, SYNAPSES, SynapseFlag, flag_names, write_table

N = 120
BOX = ((1000.0, 2000.0, 0.0), (7000.0, 9000.0, 8000.0))


@pytest.fixture(scope="module")
def tables(make_tables) -> tuple[pd.DataFrame, pd.DataFrame]:
    return make_tables(N, seed=3, huge_ids=True)


@pytest.fixture(scope="module")
def candidates(tables) -> Candidates:
    return Candidates.from_tables(*tables)


@pytest.fixture(scope="module")
def decided(tables) -> Standing:
    kinds = [("true", None), ("false", "false_positive"), ("unsure", None), ("true", "split")]
    return standing(
        VerdictDecision(
            reviewer=f"r{i % 2}", syn_id=int(syn_id),
            new=Verdict(verdict=kinds[i % 4][0], error=kinds[i % 4][1]),
        )
        # The last one is of another run.
        for i, syn_id in enumerate([*tables[0]["syn_id"][::2], 5])
    )  # fmt: skip


def kept_by_pandas(
    where: Filter, synapses: pd.DataFrame, partners: pd.DataFrame, decided: Standing
) -> pd.DataFrame:
    verdict = synapses["syn_id"].map(lambda i: getattr(decided.verdicts.get(i), "new", None))
    answer = verdict.map(lambda v: v.verdict if v else "open")
    error = verdict.map(lambda v: v.error if v else None)
    keep = pd.Series(True, synapses.index)
    if where.verdict == "decided":
        keep &= answer != "open"
    elif where.verdict is not None:
        keep &= answer == where.verdict
    if where.error is not None:
        keep &= error == where.error
    if where.cell is not None:
        received = partners.loc[partners["post_id"] == where.cell, "syn_id"]
        keep &= (synapses["pre_id"] == where.cell) | synapses["syn_id"].isin(received)
    for column, low, high in (
        ("size", where.min_size, where.max_size),
        ("doubt", where.min_doubt, where.max_doubt),
        ("mean_probability", where.min_score, where.max_score),
    ):
        keep &= synapses[column].ge(low) if low is not None else True
        keep &= synapses[column].le(high) if high is not None else True
    if where.flag is not None:
        wanted = sum(SynapseFlag[name.upper()] for name in where.flag.split("|"))
        keep &= synapses["flags"].map(lambda f: bool(f & wanted))
    if where.box_nm is not None:
        for i, axis in enumerate("xyz"):
            keep &= synapses[f"{axis}_pos"].between(
                where.box_nm[0][i], where.box_nm[1][i], inclusive="left"
            )
    return synapses[keep]


FILTERS = st.builds(
    Filter,
    verdict=st.sampled_from([None, None, *VERDICT_FILTERS]),
    error=st.sampled_from([None, None, None, "false_positive", "split", "other"]),
    cell=st.one_of(st.none(), st.integers(0, 10)),
    min_size=st.one_of(st.none(), st.integers(0, 60).map(lambda v: v * 800.0)),
    max_size=st.one_of(st.none(), st.integers(0, 60).map(lambda v: v * 800.0)),
    min_doubt=st.sampled_from([None, None, 0.0, 0.3]),
    max_doubt=st.sampled_from([None, None, 0.7, 1.0]),
    min_score=st.sampled_from([None, None, 0.2]),
    max_score=st.sampled_from([None, None, 0.9]),
    flag=st.sampled_from([None, None, "border", "border|near_cut"]),
    box_nm=st.sampled_from([None, None, BOX]),
)


@given(FILTERS, st.sampled_from(["doubt", "size", "score", "cell"]), st.booleans())
@settings(max_examples=120, deadline=None)
def test_filters_and_orders_are_those_of_pandas(
    candidates, tables, decided, where: Filter, order: str, descending: bool
) -> None:
    column = {"score": "mean_probability", "cell": "pre_id"}.get(order, order)
    expected = kept_by_pandas(where, *tables, decided).sort_values(
        column, ascending=not descending, kind="stable", na_position="last"
    )
    found = candidates.select(order, where, descending=descending, standing=decided)
    assert found.tolist() == expected.index.tolist()


@given(FILTERS, st.sampled_from(["random", "place", "stratified"]), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_a_filter_leaves_the_order_as_it_is(
    candidates, tables, decided, where: Filter, order: str, seed: int
) -> None:
    whole = candidates.select(order, seed=seed)
    assert sorted(whole) == list(range(N))
    kept = {*kept_by_pandas(where, *tables, decided).index}
    found = candidates.select(order, where, seed=seed, standing=decided)
    assert found.tolist() == [row for row in whole if row in kept]
    assert candidates.select(order, seed=seed, descending=True).tolist() == whole[::-1].tolist()
    if order != "place":
        assert candidates.select(order, seed=seed + 1).tolist() != whole.tolist()


def test_by_place_goes_along_the_z_order_curve(candidates, tables) -> None:
    def code(row: pd.Series) -> int:
        cube = [int(row[f"{axis}_pos"] // 2000) for axis in "xyz"]
        return sum((v >> bit & 1) << (3 * bit + i) for bit in range(8) for i, v in enumerate(cube))

    codes = tables[0].apply(code, axis=1).to_numpy()
    assert candidates.select("place").tolist() == np.argsort(codes, kind="stable").tolist()


def test_the_beginning_of_each_stratum_is_a_sample(candidates) -> None:
    """Strata take turns; over seeds, each member is as often the first as any other."""
    number = candidates.stratum
    rows = candidates.select("stratified", seed=1)
    sizes = np.bincount(number)
    for n in (1, 5):
        taken = np.bincount(number[rows[: (sizes.clip(max=n)).sum()]], minlength=len(sizes))
        assert taken.tolist() == sizes.clip(max=n).tolist()
    largest = int(np.argmax(sizes))
    seeds = 1500
    first = np.zeros(N)
    for seed in range(seeds):
        order = candidates.select("stratified", seed=seed)
        first[order[number[order] == largest][0]] += 1
    members = first[number == largest]
    expected = seeds / len(members)
    # The 99.99 % quantile of chi squared is near k + 4 sqrt(2 k) + 9.
    k = len(members) - 1
    assert ((members - expected) ** 2 / expected).sum() < k + 4 * (2 * k) ** 0.5 + 9


def test_a_page_is_json_with_ids_as_strings(candidates, tables, decided) -> None:
    synapses = tables[0]
    rows = candidates.select("size")[:40]
    page = json.loads(json.dumps(candidates.page(rows, decided, {int(candidates.ids[0]): "ann"})))
    for row, item in zip(rows, page, strict=True):
        of = synapses.loc[row]
        verdict = decided.verdicts.get(int(of["syn_id"]))
        assert item == {
            "syn_id": str(of["syn_id"]), "pre": of["pre"], "pre_id": str(of["pre_id"]),
            "size": of["size"], "sections": of["sections"], "doubts": "lost 0.50",
            "doubt": None if np.isnan(of["doubt"]) else of["doubt"],
            "score": None if np.isnan(of["mean_probability"]) else of["mean_probability"],
            "position_nm": [of["x_pos"], of["y_pos"], of["z_pos"]],
            "n_partners": of["n_partners"],
            "flags": flag_names(int(of["flags"])).split("|") if of["flags"] else [],
            "verdict": verdict.new.verdict if verdict else None,
            "error": verdict.new.error if verdict else None,
            "by": verdict.reviewer if verdict else None,
            "leased_by": "ann" if row == 0 else None,
        }  # fmt: skip


def test_single_ones(candidates, tables) -> None:
    for row, of in tables[0].head(5).iterrows():
        assert candidates.row(int(of["syn_id"])) == row
        assert candidates.position_nm(int(of["syn_id"])) == (of["x_pos"], of["y_pos"], of["z_pos"])
        assert candidates.extent(int(of["syn_id"]))[1] == (of["stop_x"], of["stop_y"], of["stop_z"])
    for unknown in (0, 7, 2**64, -1):
        with pytest.raises(
            ReviewError, match=f"^synapse {unknown} is not in the table of this run"
        ):
            candidates.row(unknown)


@pytest.mark.parametrize("n", [0, 1])
def test_few_or_none(make_tables: Callable, n: int) -> None:
    synapses, partners = make_tables(n)
    few = Candidates.from_tables(synapses, partners)
    whole = Filter(verdict="open", cell=1, min_size=0, flag="border", box_nm=BOX)
    for order in ORDERS:
        assert len(few.select(order)) == n
        assert len(few.select(order, replace(whole, cell=2**64))) == 0
    assert few.page([]) == []
    assert few.rows_of([7]).tolist() == [-1]


def test_an_older_table_lacks_columns(make_tables) -> None:
    synapses, _ = make_tables(4)
    older = Candidates.from_tables(synapses.drop(columns=["doubt", "doubts", "flags"]))
    assert older.page(older.select("doubt"))[0]["doubt"] is None
    assert sorted(older.select("stratified")) == [0, 1, 2, 3]


def test_an_id_twice_is_an_error(make_tables) -> None:
    synapses, partners = make_tables(4)
    with pytest.raises(ReviewError, match="a synapse is twice in the table `synapses`"):
        Candidates.from_tables(pd.concat([synapses, synapses]), partners)
    with pytest.raises(TableError, match="unknown flag 'large'"):
        Candidates.from_tables(synapses).select("size", Filter(flag="large"))


def test_loaded_from_the_parts_of_a_run(tmp_path: Path, candidates, tables) -> None:
    values = {"output": f"file://{tmp_path}", "resolution": (4, 4, 50)}
    run = RunData(Config.from_dict(values | {"layers": {"synapses": "file:///nowhere"}}))
    with pytest.raises(RunStateError, match="has no tables yet: finish the run first"):
        Candidates.load(run)
    for name, table, schema in zip(
        ("synapses", "partners"), tables, (SYNAPSES, PARTNERS), strict=True
    ):
        for i in range(2):
            part = table.iloc[i * len(table) // 2 : (i + 1) * len(table) // 2]
            write_table(part, tmp_path / "tables" / name / f"part-{i}.parquet", schema)
    loaded = Candidates.load(run)
    rows = candidates.select("place")
    assert loaded.page(rows) == candidates.page(rows)
    by_cell = Filter(cell=3)
    assert loaded.select("size", by_cell).tolist() == candidates.select("size", by_cell).tolist()
    (tmp_path / "tables" / "synapses" / "part-1.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(TableError, match=r"part-1\.parquet is not a table that can be read"):
        Candidates.load(run)
