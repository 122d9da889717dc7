"""Decisions out and in: nothing is lost, nothing comes twice, a bad file adds nothing."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.errors import CnapseError, ReviewError
from cnapse.review.assignment import draw_sample
from cnapse.review.decisions import (
    AddDecision,
    AddedSynapse,
    BoxDecision,
    Decision,
    DeleteDecision,
    MergeDecision,
    Merging,
    Partner,
    PartnersDecision,
    PartnerSet,
    RepaintDecision,
    Repainting,
    ReviewedBox,
    SplitDecision,
    Splitting,
    UndoDecision,
    Undoing,
    Verdict,
    VerdictDecision,
)
from cnapse.review.exchange import Context, Imported, export_bytes, import_decisions
from cnapse.review.exchange_tables import _cell, _plain
from cnapse.review.items import Candidates
from cnapse.review.log import DecisionLog

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=30) | st.sampled_from(
    ["=1+1", "'=x", "''+2", "@a", "-5", "-a", '"', "a\r\nb", "\0", "\ufeff", "<img src=x>"]
)
NAME = st.sampled_from(["ann", "=bob", "'@cid", 'd"a,b', "-1", "<b>"])
IDS = st.integers(1, 2**64 - 1)
NM = st.floats(-1e12, 1e12)
POINT = st.tuples(NM, NM, NM)
VERDICT = st.builds(
    Verdict,
    verdict=st.sampled_from(["true", "false", "unsure"]),
    error=st.sampled_from([None, "split", "other"]),
    note=TEXT,
)
COMMON = {"reviewer": NAME, "seconds": st.floats(0, 1e6), "origin": TEXT}
DECISIONS = st.one_of(
    st.builds(VerdictDecision, syn_id=IDS, new=VERDICT, position_nm=st.none() | POINT, **COMMON),
    st.builds(
        AddDecision,
        new=st.builds(AddedSynapse, position_nm=POINT, pre_id=IDS, note=TEXT),
        old=st.none() | st.dictionaries(TEXT, st.none() | st.booleans() | TEXT, max_size=2),
        **COMMON,
    ),
    st.builds(
        PartnersDecision,
        syn_id=IDS,
        new=st.builds(
            PartnerSet,
            pre_id=IDS,
            partners=st.lists(
                st.builds(Partner, post_id=IDS, share=st.none() | st.floats(0.01, 1)),
                unique_by=lambda p: p.post_id,
                max_size=3,
            ).map(tuple),
            note=TEXT,
        ),
        **COMMON,
    ),
    st.builds(DeleteDecision, syn_id=IDS, **COMMON),
    st.builds(
        SplitDecision,
        syn_id=IDS,
        new=st.builds(Splitting, markers=st.tuples(st.tuples(POINT), st.tuples(POINT, POINT))),
        **COMMON,
    ),
    st.builds(
        MergeDecision,
        new=st.builds(
            Merging, syn_ids=st.lists(IDS, min_size=2, max_size=3, unique=True).map(tuple)
        ),
        **COMMON,
    ),
    st.builds(
        RepaintDecision,
        new=st.just(
            Repainting(start_nm=(0, 0, 0), stop_nm=(1, 1, 1), source="a.tif", digest="0123abcd")
        ),
        **COMMON,
    ),
    st.builds(
        BoxDecision,
        new=st.just(ReviewedBox(start_nm=(0.1, 0, -3), stop_nm=(1 / 3, 1, 1e11))),
        **COMMON,
    ),
)


@pytest.fixture(scope="module")
def candidates(make_tables) -> Candidates:
    return Candidates.from_tables(*make_tables(20, seed=1))


@pytest.fixture
def context(candidates) -> Context:
    return Context(candidates, "me")


def content(log: DecisionLog) -> list[dict]:
    return [{**d.to_json(), "id": None} for d in log.decisions()]


@given(st.lists(DECISIONS, max_size=6), st.sampled_from(["json", "csv"]), st.data())
@settings(max_examples=20, deadline=None)
def test_out_and_in_is_the_same_log(
    tmp_path_factory, candidates, decisions: list[Decision], kind: str, data
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    for _ in range(data.draw(st.integers(0, 3)) if decisions else 0):
        target = data.draw(st.sampled_from(decisions))
        decisions = [*decisions, UndoDecision(reviewer="ann", new=Undoing(undoes=target.uuid))]
    context = Context(candidates, "nobody")
    with DecisionLog(folder / "a") as log, DecisionLog(folder / "b") as other:
        log.append_many(decisions)
        if kind == "json":
            draw_sample(log, candidates)
        file = folder / f"log.{kind}"
        file.write_bytes(export_bytes(log, kind, candidates))
        elsewhere = sum(d.syn_id > 20 for d in log.decisions())
        assert import_decisions(other, str(file), context) == Imported(len(log), 0, elsewhere)
        assert import_decisions(other, str(file), context) == Imported(0, len(log), 0)
        assert content(other) == content(log)
        assert other.standing().undone == log.standing().undone
        assert other.sample("stratified 0") == log.sample("stratified 0")
        assert export_bytes(other, kind, candidates) == export_bytes(log, kind, candidates)


@given(TEXT)
@settings(max_examples=60, deadline=None)
def test_no_cell_is_a_formula(text: str) -> None:
    assert _plain(_cell(text)) == text
    assert not _cell(text).startswith(("=", "+", "@", "\t", "\r"))


def written(tmp_path: Path, text: str, name: str = "table.csv") -> str:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return str(tmp_path / name)


def test_a_table_of_ones_own(tmp_path: Path, context) -> None:
    table = written(tmp_path, '\ufeffsyn_id,verdict,note,error\n3,TRUE,"a\nb",\n5,false,,split\n')
    with DecisionLog(tmp_path / "log") as log:
        assert import_decisions(log, table, context) == Imported(2, 0, 0)
        assert import_decisions(log, table, context) == Imported(0, 2, 0)
        found = log.standing().verdicts
        assert found[3].new == Verdict(verdict="true", note="a\nb")
        assert found[5].new == Verdict(verdict="false", error="split")
        assert (found[3].reviewer, found[3].origin) == ("me", "csv:table.csv")
        assert found[3].position_nm == context.candidates.position_nm(3)
        # A longer one adds what is new and what is changed.
        more = written(tmp_path, "syn_id,verdict,note\n3,true,a b\n5,unsure,\n7,true,\n", "b.csv")
        assert import_decisions(log, more, context) == Imported(3, 0, 0)
        assert log.standing().verdicts[5].old == {"verdict": "false", "error": "split", "note": ""}


def test_a_table_for_cave(tmp_path: Path, context) -> None:
    place = (100.0, 200.5, 1 / 3)
    with DecisionLog(tmp_path / "log") as log, DecisionLog(tmp_path / "other") as other:
        log.append_many(
            [
                VerdictDecision(reviewer="a", syn_id=2, new=Verdict(verdict="true", note="=x")),
                VerdictDecision(reviewer="a", syn_id=4, new=Verdict(verdict="unsure")),
                VerdictDecision(
                    reviewer="b", syn_id=2, new=Verdict(verdict="false", error="split")
                ),
                AddDecision(reviewer="b", new=AddedSynapse(position_nm=place, note="n")),
            ]
        )
        data = export_bytes(log, "cave", context.candidates)
        rows = list(csv.DictReader(io.StringIO(data.decode())))
        assert [row["target_id"] for row in rows] == ["4", "2", "0"]
        assert [row["valid"] for row in rows] == ["", "false", "true"]
        assert float(rows[1]["pt_position_y"]) == context.candidates.position_nm(2)[1]
        file = written(tmp_path, data.decode())
        assert import_decisions(other, file, context) == Imported(3, 0, 0)
        assert import_decisions(other, file, context) == Imported(0, 3, 0)
        assert import_decisions(log, file, context) == Imported(0, 3, 0)
        there = other.standing()
        assert there.verdicts[2].new == Verdict(verdict="false", error="split")
        assert there.verdicts[2].reviewer == "b"
        assert [d.new.position_nm for d in there.added.values()] == [place]
    in_voxels = written(tmp_path, 'id,valid,pt_position\n,t,"[1, 2, 3]"\n2,f,\n', "voxels.csv")
    with DecisionLog(tmp_path / "third") as log:
        import_decisions(log, in_voxels, Context(context.candidates, "me", (4.0, 4.0, 50.0)))
        assert [d.new.position_nm for d in log.standing().added.values()] == [(4, 8, 150)]
        assert log.standing().verdicts[2].new.verdict == "false"


def edited(state: dict, **changes) -> dict:
    """The state with other annotations in its layer."""
    layer = state["layers"][0]
    return {**state, "layers": [{**layer, **changes}]}


def test_a_state_edited_in_a_viewer(tmp_path: Path, context) -> None:
    candidates = context.candidates
    with DecisionLog(tmp_path / "log") as log:
        log.append(VerdictDecision(reviewer="me", syn_id=1, new=Verdict(verdict="true", note="!")))
        unit = (4.0, 4.0, 50.0)
        data = export_bytes(log, "neuroglancer", candidates, unit_nm=unit)
        before = written(tmp_path, data.decode(), "before.json")
        assert import_decisions(log, before, context).added == 0
        state = json.loads(data)
        points = {p["id"]: p for p in state["layers"][0]["annotations"]}
        assert len(points) == 20
        assert points["syn-1"]["description"] == "true: !"
        del points["syn-2"]
        points["syn-3"]["description"] = "False - an artefact"
        points["syn-1"]["description"] = "unsure"
        at = [a / b for a, b in zip(candidates.position_nm(4), unit, strict=True)]
        corners = {"pointA": [9, 0, 9], "pointB": [0, 9, 0]}
        mine = [
            {"type": "point", "id": "f0", "point": [1, 2, 3.5], "segments": [["77", "3"]]},
            {"type": "point", "id": "f1", "point": at, "description": "false: not one"},
            {"type": "axis_aligned_bounding_box", "id": "f2", "description": "Done", **corners},
            {"type": "axis_aligned_bounding_box", "id": "f3", **corners},
            {"type": "line", "id": "f4", **corners},
        ]
        after = edited(state, annotations=[*points.values(), *mine])
        file = written(tmp_path, json.dumps(after), "after.json")
        told = Context(candidates, "me", before=before)
        assert import_decisions(log, file, told) == Imported(6, 0, 0)
        assert import_decisions(log, file, told).added == 0
        now = log.standing()
        assert {i: d.new.verdict for i, d in now.verdicts.items()} == {
            1: "unsure", 2: "false", 3: "false", 4: "false",
        }  # fmt: skip
        assert (now.verdicts[3].new.note, now.verdicts[4].new.note) == ("an artefact", "not one")
        (added,) = now.added.values()
        # 77 is no cell of the run, 3 is one.
        assert added.new == AddedSynapse(position_nm=(4.0, 8.0, 175.0), pre_id=3)
        assert now.boxes[0].new == ReviewedBox(start_nm=(0, 0, 0), stop_nm=(36, 36, 450))
        # A state without the layer would have deleted all.
        bare = written(tmp_path, json.dumps({**state, "layers": []}), "bare.json")
        with pytest.raises(ReviewError, match="has no layer 'candidates' any more"):
            import_decisions(log, bare, told)
        nowhere = edited(
            state,
            annotations=[
                {"type": "point", "id": "x", "point": [-1e4, 0, 0], "description": "false"}
            ],
        )
        with pytest.raises(ReviewError, match=r"'x': it says false, but no candidate is within 30"):
            import_decisions(log, written(tmp_path, json.dumps(nowhere), "n.json"), context)
        assert len(log) == 7


GOOD = '{"format": "cnapse decisions", "version": 1, "decisions": [%s]}'
ONE = json.dumps(VerdictDecision(reviewer="a", syn_id=3, new=Verdict(verdict="true")).to_json())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "bad is empty: expected a header and a row for each decision"),
        ("syn_id,verdict\n3,true\n77,true\n", "bad: line 3: synapse 77 is not in the table"),
        ("syn_id,verdict\n3,true\n5,yes\n", "bad: line 3: this is no decision: new.verdict: input"),
        ("syn_id,verdict\n3,true\n5\n", "bad: line 3 has 1 cells, the header has 2"),
        ('syn_id,verdict\n3,true\n5,"tr\n', "bad: line 3: unexpected end of data"),
        (
            "syn_id,answer\n3,true\n",
            "bad has no column verdict: expected a table of `cnapse decisions",
        ),
        ("target_id,valid\n3,true\n5,maybe\n", "bad: line 3: valid is 'maybe': expected true, "),
        ("id,valid\n3,true\n,true\n", "bad: line 3: no synapse, and no position: give target_id"),
        ("uuid,action,new\n1,verdict,{}\n", "bad: line 2: KeyError: 'time'"),
        ("{", "bad is no JSON: Expecting property name"),
        ("{}", "bad holds no decisions: expected what `cnapse decisions export` writes"),
        (GOOD % "" + "x", "bad is no JSON: Extra data"),
        ('{"format": "cnapse decisions", "version": 2}', "bad has version 2, known is 1: update"),
        (GOOD % f"{ONE}, 3", "bad: decision 2 is no JSON object"),
        (GOOD % f'{ONE}, {{"action": "undo"}}', "bad: decision 2 has no uuid"),
        (GOOD % f"{ONE}, {ONE.replace('verdict', 'vote')}", "bad: decision 2: this is no decision"),
    ],
)
def test_a_bad_file_adds_nothing(tmp_path: Path, context, text: str, message: str) -> None:
    with DecisionLog(tmp_path / "log") as log:
        with pytest.raises(CnapseError) as caught:
            import_decisions(log, written(tmp_path, text, "bad"), context)
        assert str(caught.value).startswith(message)
        assert "\n" not in str(caught.value)
        assert len(log) == 0


def test_a_decision_is_not_changed_by_an_import(tmp_path: Path, context) -> None:
    file = written(tmp_path, GOOD % ONE, "a.json")
    changed = ONE.replace('"true"', '"false"')
    with DecisionLog(tmp_path / "log") as log:
        import_decisions(log, file, context)
        with pytest.raises(ReviewError, match="is in the log already, and says something else"):
            import_decisions(log, written(tmp_path, GOOD % changed, "b.json"), context)
        nowhere = json.loads(ONE)["uuid"].replace("-", "")[::-1]
        undo = UndoDecision(reviewer="a", new=Undoing(undoes=nowhere)).to_json()
        with pytest.raises(ReviewError, match=r"^nothing to undo: "):
            import_decisions(log, written(tmp_path, GOOD % json.dumps(undo), "c.json"), context)
        assert len(log) == 1
        with pytest.raises(CnapseError, match="there is no such place: check the path"):
            import_decisions(log, str(tmp_path / "none.csv"), context)
        (tmp_path / "latin").write_bytes(b"syn_id,verdict,note\n3,true,\xe9\n")
        with pytest.raises(ReviewError, match="is no text in UTF-8: save it as such"):
            import_decisions(log, str(tmp_path / "latin"), context)


def test_too_many_for_a_viewer(tmp_path: Path, context) -> None:
    with (
        DecisionLog(tmp_path / "log") as log,
        pytest.raises(ReviewError, match="give --limit, at most 5,000"),
    ):
        export_bytes(log, "neuroglancer", context.candidates, rows=[0] * 5001)
