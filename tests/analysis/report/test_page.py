"""The report as a page: what stands in it, and that nothing gets out of it or into it."""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pandas as pd
import pytest

from cnapse.analysis import queries_engine
from cnapse.analysis.connectome import connectome_of
from cnapse.analysis.queries import Synapses
from cnapse.analysis.report import findings
from cnapse.analysis.report.findings import findings_of
from cnapse.analysis.report.flags import FLAG_MEANINGS
from cnapse.analysis.report.history import RunHistory, StageHistory, flat
from cnapse.analysis.report.page import NAME, Options, report_of, write_report
from cnapse.errors import LayerNotFoundError
from cnapse.runs import open_run
from cnapse.tables import SynapseFlag

ROOT = Path(__file__).parents[3]
VOID = {"meta", "img", "br", "link", "input", "hr"}
FETCHED = {"src", "srcset", "poster", "data", "action", "formaction", "background", "code"}
STAGE = StageHistory(
    name="detect",
    done=3,
    total=3,
    task_seconds=3725.0,
    began=1e9,
    ended=1e9 + 90,
    hosts=("host<1>", "b"),
    counts={"voxels": 12345},
    sampled=3,
    version=2,
    key="k" * 64,
    parameters={"model": "<i>digest</i>"},
)


class Page(HTMLParser):
    """The page as a parser understands it: every tag closed, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(reported_run: Path) -> Page:
    history = RunHistory((STAGE, dataclasses.replace(STAGE, name="assign", total=4, sampled=2)))
    return Page(report_of(open_run(reported_run), history, Options(pictures=3)))


def test_it_says_what_was_found(page: Page):
    for text in (
        "3 synapses", "3 partners", "3 cells", "3 connections", "2 (67 %) flagged",
        "3 synapses, 1 of them on no cell, and 0 on a cell but without a partner",
        "border 2 (66.7 %)", "no presynaptic cell 1 (33.3 %)", "near cut 0", "RIS → ",
        "label.threshold 0.25", "12,345 voxels", "detect 3 1 h 2 min 1 min 30 s",
        "assign 3 of 4 about", "Done by b, host<1>", "<i>digest</i>",
        "assign is not complete: 3 of 4 tasks are done.",
    ):  # fmt: skip
        assert text in page.text or text.replace("b, host<1>", "host<1>, b") in page.text, text


def test_nothing_is_fetched(page: Page):
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form"), tag
        assert not [name for name in attributes if name.startswith("on")]
        for name, value in attributes.items():
            if name in FETCHED:
                assert str(value).startswith("data:image/"), (tag, name)
            assert "url(" not in str(value)
    links = [str(a["href"]) for a in page.all("a")]
    # Javascript is no link; the one of the table that is one leads to its viewer.
    assert [link for link in links if not link.startswith("#")] == ["https://v.example/#!7"] * 2
    policy = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    ids = {a["id"] for _, a in page.tags if "id" in a}
    assert {link[1:] for link in links if link.startswith("#")} <= ids


def test_names_stay_text(page: Page):
    assert page.text.count("<script>alert(1)</script>") >= 3
    assert "run & <b>" in page.text
    assert all(str(a["src"]).startswith("data:") for a in page.all("img"))


def test_images_are_whole_and_described(page: Page):
    shown = [(str(a["src"]), a["alt"]) for a in page.all("img")]
    assert all(alt for _, alt in shown)
    kinds = [re.match(r"data:image/([a-z+]+);base64,", src)[1] for src, _ in shown]
    assert kinds == ["svg+xml"] * 5 + ["jpeg"] * 6
    for (src, _), kind in zip(shown, kinds, strict=True):
        content = base64.b64decode(src.partition(",")[2], validate=True)
        if kind == "jpeg":
            assert content.startswith(b"\xff\xd8")
        else:
            assert ET.fromstring(content).tag.endswith("}svg")


def test_the_most_doubtful_come_first(reported_run: Path):
    found = findings_of(f"file://{reported_run.parent}/out", shown=2)
    assert found.doubtful["syn_id"].tolist() == [6, 7]
    assert len(found.random) == 2
    assert (found.synapses, found.without_cell, found.without_partner, found.flagged) == (
        3,
        1,
        0,
        2,
    )
    assert found.flags["border"] == 2
    assert sum(found.flags.values()) == 3
    assert found.volumes.total == found.sections.total == 3
    assert found.single_section == 3
    again = findings_of(f"file://{reported_run.parent}/out", shown=2)
    assert again.random["syn_id"].tolist() == found.random["syn_id"].tolist()


def test_the_strongest_connections_come_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    rows = [(i, f"c{i % 7}", f"c{i % 5}") for i in range(300)]
    path = tmp_path / "t.csv"
    pd.DataFrame(rows, columns=["syn_id", "pre", "post"]).iloc[1:].to_csv(path, index=False)
    monkeypatch.setattr(queries_engine, "_BATCH_ROWS", 4)
    with Synapses.open(path) as synapses:
        connectome = connectome_of(synapses)
        found = findings._strongest(connectome, 6)
        edges = connectome.edges()
    order = ["synapses", "pre", "post"]
    best = edges.sort_values(order, ascending=[False, True, True]).head(6)
    assert found[order].to_numpy().tolist() == best[order].to_numpy().tolist()


def test_what_hinders_a_connectome_is_told(run_of: Callable[..., Path]):
    # A cell's name is the id of another that has none.
    config = run_of({(0, "pre"): "13", (1, "pre"): "13", (2, "post"): "13", (1, "post"): ""})
    page = Page(report_of(open_run(config), RunHistory(), Options(pictures=0)))
    assert "connections are left out: " in page.text
    assert "is the id of another cell without a name: give either another name" in page.text
    assert " cells " not in page.text.split("Look at this first")[0]


@pytest.mark.parametrize("text", ["id,name,type\n99,x,motor\n", None])
def test_types_that_cannot_be_had_are_told(run_of: Callable[..., Path], text: str | None):
    config = run_of()
    config.write_text('names = "names.csv"\n' + config.read_text())
    if text:
        (config.parent / "names.csv").write_text(text)
    page = Page(report_of(open_run(config), RunHistory(), Options(pictures=0)))
    assert "types of cells are left out: " in page.text
    assert "Adjacency matrix" in str(page.all("img"))


def test_a_table_in_a_bucket_is_copied(reported_run: Path, monkeypatch: pytest.MonkeyPatch):
    output = f"file://{reported_run.parent}/out"
    here = findings_of(output)
    monkeypatch.setattr(findings, "local_path", lambda path: None)
    there = findings_of(output)
    assert there.flags == here.flags
    pd.testing.assert_frame_equal(there.doubtful, here.doubtful)


def test_a_run_that_found_nothing(empty_run: Path):
    text = report_of(open_run(empty_run), RunHistory(), Options())
    page = Page(text)
    assert "0 synapses" in page.text
    assert "No synapse was found: `cnapse run` says why at its end." in page.text
    assert "outside of published ranges" not in page.text
    assert "Within published ranges" not in page.text
    assert not page.all("a") or "#connections" not in [a["href"] for a in page.all("a")]


def test_tables_of_older_runs_have_fewer_columns(reported_run: Path, tmp_path: Path):
    import pyarrow.parquet as pq

    for name in ("synapses", "partners"):
        source = reported_run.parent / f"out/tables/{name}/part-0.parquet"
        table = pq.read_table(source)
        kept = [c for c in table.column_names if c not in ("doubt", "doubts", "link", "sections")]
        (tmp_path / f"tables/{name}").mkdir(parents=True)
        pq.write_table(table.select(kept), tmp_path / f"tables/{name}/part-0.parquet")
    found = findings_of(f"file://{tmp_path}", shown=5)
    # Without a doubt, more flags come first.
    assert found.doubtful["syn_id"].tolist() == [7, 6]


def test_it_is_written_into_the_output(reported_run: Path):
    where = write_report(open_run(reported_run), RunHistory(), Options(pictures=0))
    path = reported_run.parent / "out" / NAME
    assert where == f"file://{path}"
    assert "jpeg" not in path.read_text()
    assert not Page(path.read_text()).open


def test_without_tables_there_is_no_report(tmp_path: Path):
    (tmp_path / "cnapse.toml").write_text(
        'output = "o"\nresolution = [1, 1, 1]\n[layers]\nprobability = "p"\n'
    )
    with pytest.raises(LayerNotFoundError, match="no table at"):
        report_of(open_run(tmp_path / "cnapse.toml"), RunHistory(), Options())


def test_flags_have_the_meaning_that_the_docs_give():
    assert list(FLAG_MEANINGS) == [str(flag.name).lower() for flag in SynapseFlag]
    text = (ROOT / "docs" / "tables.md").read_text()
    for flag, meaning in FLAG_MEANINGS.items():
        assert f"`{flag}` | {meaning} |" in text


def test_settings_are_flat():
    nested = {"a": {"b": 1, "c": None}, "d": [1, 2], "e": "", "f": False}
    assert flat(nested) == {"a.b": "1", "d": "1, 2", "f": "False"}
