"""Edges, cells and matrices against a dictionary in Python that adds with `math.fsum`."""

import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cnapse.analysis.connectome import Thresholds, connectome_of, dense_refused
from cnapse.analysis.connectome_contacts import read_contacts
from cnapse.analysis.queries import Synapses
from cnapse.errors import ConfigError, TableError

FEW = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

# Quotes, separators, formulas, what other programs take for missing, and the ends of the range.
NASTY = [
    "AVAL",
    "AVAR",
    "a,b",
    'say "x"',
    "=cmd()",
    "NA",
    "null",
    "née",
    "日本",
    "-1",
    "1e5",
    "A\nB",
]
ids = st.one_of(st.integers(1, 5), st.sampled_from([2**53 + 1, 2**63 + 3, 2**64 - 1]))
names = (
    st.one_of(
        st.just(""),
        st.sampled_from(NASTY),
        st.text(st.characters(exclude_categories=("Cs",)), max_size=4),
    )
    .map(lambda text: text.strip(" "))
    .filter(lambda text: not text.isdigit() and "\0" not in text)
)
# From a millionth of a nm3 to more than a cell; some are not known.
sizes = st.one_of(
    st.floats(0, 1e12).map(lambda size: round(size, 6)),
    st.sampled_from([0.1, 0.2, 0.7, 1e-6, 1e12]),
    st.just(math.nan),
)


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Rows of partners: cells of some ids (one name an id), some rows without a cell."""
    called = draw(st.dictionaries(ids, names, min_size=1, max_size=6))
    cells = [*called, 0]
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(1, 4),
                st.sampled_from(cells),
                st.sampled_from(cells),
                sizes,
                st.floats(0, 1),
            ),
            max_size=12,
        )
    )
    table = pd.DataFrame(rows, columns=["syn_id", "pre_id", "post_id", "size", "share"])
    for end in ("pre", "post"):
        table[f"{end}_id"] = table[f"{end}_id"].astype("uint64")
        values = [called.get(cell) or str(cell) for cell in table[f"{end}_id"]]
        table[end] = pd.Series(values, dtype="str")
    return table.astype({"syn_id": "uint64", "size": "float64", "share": "float64"})


thresholds = st.builds(
    Thresholds,
    min_size=st.sampled_from([0.0, 0.5, 1e6]),
    min_share=st.sampled_from([0.0, 0.2]),
    min_synapses=st.integers(0, 3),
    autapses=st.booleans(),
    unnamed=st.booleans(),
)


class Oracle:
    """The same, row by row."""

    def __init__(self, table: pd.DataFrame, limits: Thresholds) -> None:
        self.left: Counter[str] = Counter()
        self.cells: dict[tuple[bool, object], set[int]] = defaultdict(set)
        every = defaultdict(list)
        for row in table.itertuples():
            ends = [self._cell(i, n) for i, n in ((row.pre_id, row.pre), (row.post_id, row.post))]
            if reason := self._reason(ends, row, limits):
                self.left[reason] += 1
            else:
                every[tuple(ends)].append(row)
        self.every = every
        self.edges = {}
        for (pre, post), rows in every.items():
            n = len({row.syn_id for row in rows})
            if not limits.unnamed and (pre[0] or post[0]):
                self.left["unnamed"] += len(rows)
            elif not limits.autapses and pre == post:
                self.left["autapse"] += len(rows)
            elif n < limits.min_synapses:
                self.left["min_synapses"] += len(rows)
            else:
                sizes = [row.size for row in rows if not math.isnan(row.size)]
                self.edges[pre, post] = (n, math.fsum(sizes), len(rows))

    def _cell(self, number: int, name: str) -> tuple[bool, object] | None:
        if not number:
            return None
        cell = (name == str(number), int(number) if name == str(number) else name)
        self.cells[cell].add(int(number))
        return cell

    @staticmethod
    def _reason(ends: list[object], row: object, limits: Thresholds) -> str:
        if ends[0] is None:
            return "no_pre"
        if ends[1] is None:
            return "no_post"
        if limits.min_size and not row.size >= limits.min_size:
            return "min_size"
        if limits.min_share and not row.share >= limits.min_share:
            return "min_share"
        return ""

    def total(self, end: int, cell: object, of: str) -> float:
        found = [rows for edge, rows in self.every.items() if edge[end] == cell]
        if of == "synapses":
            return sum(len({row.syn_id for row in rows}) for rows in found)
        return math.fsum(row.size for rows in found for row in rows if not math.isnan(row.size))


def written(table: pd.DataFrame, folder: Path) -> Path:
    path = folder / "partners.parquet"
    table.to_parquet(path, index=False)
    return path


def partners(*rows: tuple[object, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["syn_id", "pre", "post", "size"])


@FEW
@given(tables(), thresholds)
@example(
    partners().assign(pre_id=0, post_id=0, share=0.0).astype({"syn_id": "uint64"}), Thresholds()
)
def test_edges_cells_and_counts_are_those_of_a_dictionary(tmp_path, table, limits) -> None:
    oracle = Oracle(table, limits)
    with Synapses.open(written(table, tmp_path)) as synapses:
        made = connectome_of(synapses, limits)
        edges, cells, counts, left = made.edges(), made.cells(), made.counts(), made.left_out()
        matrix, coo = made.matrix(), made.sparse()
        listed = pd.concat([b.to_pandas() for b in made.left_out_batches()])
        kept = pd.concat([b.to_pandas() for b in made.kept_batches()])
    shown = sorted(cell for cell in oracle.cells if limits.unnamed or not cell[0])
    assert cells["cell"].tolist() == [str(cell[1]) for cell in shown]
    assert [list(i) for i in cells["ids"]] == [sorted(oracle.cells[cell]) for cell in shown]
    assert cells["named"].tolist() == [not cell[0] for cell in shown]
    order = {cell: number for number, cell in enumerate(shown)}
    expected = sorted(oracle.edges.items(), key=lambda item: [order[cell] for cell in item[0]])
    assert edges["pre"].tolist() == [str(pre[1]) for (pre, _), _ in expected]
    assert edges["post_id"].tolist() == [min(oracle.cells[post]) for (_, post), _ in expected]
    assert edges["synapses"].tolist() == [n for _, (n, _, _) in expected]
    if made.has_sizes:
        assert edges["size"].tolist() == pytest.approx([s for _, (_, s, _) in expected], rel=1e-15)
    for row, ((pre, post), (n, size, _)) in zip(edges.itertuples(), expected, strict=True):
        assert row.output_fraction == pytest.approx(n / oracle.total(0, pre, "synapses"))
        assert row.input_fraction == pytest.approx(n / oracle.total(1, post, "synapses"))
        if whole := oracle.total(1, post, "size"):
            assert row.input_fraction_size == pytest.approx(size / whole)
        else:
            assert math.isnan(row.input_fraction_size)
    assert counts.rows == len(table)
    assert counts.left_out == dict(oracle.left)
    assert dict(zip(left["reason"], left["rows"], strict=True)) == dict(oracle.left)
    assert Counter(listed["reason"]) == oracle.left
    assert len(kept) == counts.kept == sum(rows for _, _, rows in oracle.edges.values())
    assert counts.synapses == matrix.to_numpy().sum() == edges["synapses"].sum()
    assert np.array_equal(matrix.to_numpy(), coo.toarray())
    for (pre, post), (n, _, _) in expected:
        assert matrix.iloc[order[pre], order[post]] == n


@FEW
@given(tables(), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_parts_changes_no_bit(tmp_path, table, random) -> None:
    places = list(range(len(table)))
    random.shuffle(places)
    shuffled = table.iloc[places]
    folder = tmp_path / "parts"
    folder.mkdir(exist_ok=True)
    cut = random.randint(0, len(table))
    for number, part in enumerate((shuffled[:cut], shuffled[cut:])):
        part.to_parquet(folder / f"part-{number}.parquet", index=False)
    with Synapses.open(written(table, tmp_path)) as one, Synapses.open(folder) as other:
        pd.testing.assert_frame_equal(one.edges(), other.edges(), check_exact=True)


@FEW
@given(tables(), st.dictionaries(ids, names.filter(bool), max_size=5))
def test_a_list_of_names_alone_names_the_ids(tmp_path, table, listed) -> None:
    path = tmp_path / "names.csv"
    rows = {i: n for i, n in listed.items() if n.strip() and n == n.strip() and "\r" not in n}
    frame = pd.DataFrame({"id": [*rows], "name": [*rows.values()]})
    frame.to_csv(path, index=False, lineterminator="\n")
    renamed = table.copy()
    if rows:
        for end in ("pre", "post"):
            values = [rows.get(cell, str(cell)) for cell in table[f"{end}_id"].tolist()]
            renamed[end] = pd.Series(values, dtype="str")
    with Synapses.open(written(renamed, tmp_path)) as synapses:
        expected = synapses.edges()
    with Synapses.open(written(table, tmp_path), names=str(path)) as synapses:
        pd.testing.assert_frame_equal(synapses.edges(), expected, check_exact=True)
        found = synapses.to_pandas()
    assert found["pre"].where(found["pre"] != "", "0").tolist() == renamed["pre"].tolist()


def test_the_dauer_tables_have_names_and_no_ids(tmp_path) -> None:
    """Yim et al. 2024: syn_id, pre, post, size; a row for each partner of a synapse."""
    path = tmp_path / "dauer.csv"
    partners(
        (1, "AVAL", "AVAR", 1000.5),
        (1, "AVAL", "PVCL", 2000.25),
        (2, "AVAL", "AVAR", 10.0),
        (3, "PVCL", "PVCL", 7.0),
    ).to_csv(path, index=False)
    with Synapses.open(path) as synapses:
        made = connectome_of(synapses)
        counts, sizes = made.matrix("synapses"), made.matrix("size")
        edges, autapses = made.edges(), made.autapses()
    assert list(counts.columns) == list(counts.index) == ["AVAL", "AVAR", "PVCL"]
    assert counts.loc["AVAL", "AVAR"] == 2
    assert sizes.loc["AVAL"].tolist() == [0.0, 1010.5, 2000.25]
    assert sizes.to_numpy().sum() == 1000.5 + 2000.25 + 10.0 + 7.0
    assert edges["pre_id"].isna().all()
    assert autapses["cell"].tolist() == ["PVCL"]


def test_a_synapse_on_two_ids_of_one_cell_counts_once(tmp_path) -> None:
    table = pd.DataFrame(
        {"syn_id": [1, 1, 2], "pre_id": [1, 1, 1], "post_id": [2, 3, 4], "size": [1.0, 2.0, 4.0]}
    )
    names_path = tmp_path / "names.csv"
    names_path.write_text("1,A\n2,B\n3,B\n")
    with Synapses.open(written(table, tmp_path), names=str(names_path)) as synapses:
        made = connectome_of(synapses)
        edges, counts, unnamed = made.edges(), made.counts(), made.unnamed()
    assert edges[["pre", "post", "synapses", "size"]].to_numpy().tolist() == [
        ["A", "B", 1, 3.0],
        ["A", "4", 1, 4.0],
    ]
    assert (counts.merged_cells, counts.unnamed_cells) == (1, 1)
    assert unnamed["cell_id"].tolist() == [4]


def test_tables_without_synapse_ids_count_rows_and_without_sizes_say_so(tmp_path) -> None:
    table = pd.DataFrame({"pre_id": [1, 1, 2], "post_id": [2, 2, 1]})
    with Synapses.open(written(table, tmp_path)) as synapses:
        made = connectome_of(synapses)
        assert made.edges()["synapses"].tolist() == [2, 1]
        assert not made.has_sizes
        assert made.edges()["size"].isna().all()
        with pytest.raises(TableError, match=r"partners.parquet has no sizes: no matrix of sizes"):
            made.matrix("size")
        with pytest.raises(TableError, match="has no column size: leave --min-size out"):
            connectome_of(synapses, Thresholds(min_size=1))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (partners((1, "A", "B", -1.0)), "a size is -1: sizes are volumes in nm3, 0 or more"),
        (partners((1, "A", "B", math.inf)), "a size is inf"),
        (
            partners((1, "A", "B", 1.0), (2, "A", "C", 1.0)).assign(pre_id=7, post_id=8),
            "cell 8 is called both 'B' and 'C': mend the table, or give --names",
        ),
        (
            partners((1, "A", "12", 1.0), (2, "A", "B", 1.0))
            .assign(pre_id=7, post_id=[9, 12])
            .assign(post=["12", "12"]),
            "a cell is called '12', which is the id of another cell without a name",
        ),
    ],
)
def test_what_cannot_be_told_apart_is_refused(tmp_path, table, message) -> None:
    with (
        Synapses.open(written(table, tmp_path)) as synapses,
        pytest.raises(TableError, match=message),
    ):
        connectome_of(synapses)


def test_thresholds_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"--min-share 2: a share is at most 1"):
        Thresholds(min_share=2)
    with pytest.raises(ConfigError, match=r"--min-size nan: must be 0 or more"):
        Thresholds(min_size=math.nan)


def test_a_matrix_that_is_too_large_is_refused() -> None:
    dense_refused(10_000)
    with pytest.raises(TableError, match=r"20,000 x 20,000 cells would need 3.2 GB: take --export"):
        dense_refused(20_000)


def test_contacts_are_symmetric_and_put_together(tmp_path) -> None:
    table = pd.DataFrame({"pre_id": [1, 2, 3], "post_id": [2, 3, 4], "size": 1.0})
    (tmp_path / "names.csv").write_text("1,A\n2,B\n3,B\n")
    contacts = tmp_path / "contacts.csv"
    contacts.write_text("pre_id,post_id,area_nm2\n1,2,10\n3,1,5\n2,3,99\n4,2,1\n2,4,3\n1,77,8\n")
    with Synapses.open(written(table, tmp_path), names=str(tmp_path / "names.csv")) as synapses:
        found = read_contacts(contacts, connectome_of(synapses))
        only = read_contacts(contacts, connectome_of(synapses, Thresholds(unnamed=False)))
    # A-B is 10 + 5 both ways; B-4 stands in both directions; 2-3 lies within B.
    assert found.matrix().to_numpy().tolist() == [[0, 15, 0], [15, 0, 3], [0, 1, 0]]
    assert np.array_equal(found.sparse().toarray(), found.matrix().to_numpy())
    assert found.unknown == 1
    assert only.matrix().to_numpy().tolist() == [[0, 15], [15, 0]]
    with Synapses.open(written(table, tmp_path)) as synapses:
        (tmp_path / "bad.csv").write_text("pre_id,post_id,area_nm2\n1,2,-10\n")
        with pytest.raises(TableError, match="an area is -10: areas are numbers of nm2"):
            read_contacts(tmp_path / "bad.csv", connectome_of(synapses))
        with pytest.raises(TableError, match=r"needs the columns pre_id, post_id \(or pre, post\)"):
            read_contacts(tmp_path / "names.csv", connectome_of(synapses))
