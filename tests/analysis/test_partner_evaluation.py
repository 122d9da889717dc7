"""The whole comparison: figures that a table allows, the baseline, and the report."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cnapse.analysis.matching import Score
from cnapse.analysis.partner_evaluation import (
    Comparison,
    evaluate_partners,
    match_places,
    of_the_same_synapses,
)
from cnapse.analysis.partner_report import report
from cnapse.analysis.synapse_set import SynapseSet

# Synapse 1 at 0, synapse 2 at 1000 and synapse 3 at 5000 nm.
TRUE = pd.DataFrame(
    [
        (1, 100, 201, 0.0, 0.50, 50.0),
        (1, 100, 202, 0.0, 0.50, 50.0),
        (2, 100, 201, 1000.0, 1.00, 80.0),
        (3, 101, 203, 5000.0, 1.00, 20.0),
    ],
    columns=["syn_id", "pre_id", "post_id", "x_pos", "share", "size"],
).assign(y_pos=0.0, z_pos=0.0, post_y=0.0, post_z=0.0)
TRUE["post_x"] = TRUE["x_pos"] + 20
# 7 is 60 nm off, 8 is 150 nm off and has a partner too many, 9 is false.
PREDICTED = TRUE.assign(
    syn_id=[7, 7, 8, 9], x_pos=[60.0, 60.0, 1150.0, 9000.0], share=[0.75, 0.25, 0.5, 1.0]
)
PREDICTED = pd.concat([PREDICTED, PREDICTED[2:3].assign(post_id=204)], ignore_index=True)


def sides(predicted=PREDICTED, truth=TRUE) -> tuple[SynapseSet, SynapseSet]:
    return (
        SynapseSet.from_tables("predicted", predicted),
        SynapseSet.from_tables("true", truth),
    )


def compared(predicted=PREDICTED, truth=TRUE, baseline=None) -> Comparison:
    ours, true = sides(predicted, truth)
    matchings = match_places(ours, true, [100.0, 200.0])
    other = None
    if baseline is not None:
        same = of_the_same_synapses(SynapseSet.from_tables("baseline", baseline), ours)
        assert same is not None
        other = evaluate_partners(same, true, matchings)
    return Comparison(len(true.ids), len(true.row), evaluate_partners(ours, true, matchings), other)


def test_every_distance_has_its_own_matches() -> None:
    near, far = compared().predicted.matched
    assert near.synapses == Score(1, 2, 2)
    assert far.synapses == Score(2, 1, 1)
    assert near.scores.matched == Score(2, 0, 0)
    assert far.scores.matched == Score(3, 1, 0)
    assert far.scores.combined == Score(3, 2, 1)
    assert far.scores.exact_accuracy == 0.5


def test_the_cremi_score_and_the_edges_need_no_matches() -> None:
    result = compared().predicted
    # The pairs at 0 and 1000 nm; the extra one and the far one are false.
    assert result.cremi == Score(3, 2, 1)
    assert result.edges.by_synapses[0].score == Score(3, 1, 0)
    assert result.notes == ()


def test_what_a_table_lacks_is_said_and_left_out() -> None:
    result = compared(truth=TRUE.drop(columns=["share", "post_x", "pre_id"])).predicted
    assert result.notes == (
        "error of shares left out: the true table has no share",
        "CREMI score left out: the true table has no post_x, post_y, post_z",
        "presynaptic cells left out: the true table names none (no pre_id)",
    )
    bare = compared(PREDICTED.drop(columns="size"), TRUE.drop(columns="size"))
    assert bare.predicted.notes == (
        "edges by size left out: the predicted and true tables have no size",
    )
    text = report(compared(truth=TRUE.drop(columns=["share", "size", "post_x"])))
    assert "mean" not in text
    assert "nm3" not in text
    assert "CREMI partners" not in text
    assert "CREMI score left out: the true table has no post_x, post_y, post_z" in text


def test_a_baseline_of_the_same_synapses_takes_over_what_it_does_not_tell() -> None:
    rows = PREDICTED[["syn_id", "post_id"]][:2]
    ours, _ = sides()
    same = of_the_same_synapses(SynapseSet.from_tables("baseline", rows), ours)
    assert same is not None
    assert same.ids.tolist() == [7, 8, 9]
    assert same.pre.tolist() == [100, 100, 101]
    assert same.ids[same.row].tolist() == [7, 7]
    named = SynapseSet.from_tables("baseline", rows.assign(pre_id=55))
    same = of_the_same_synapses(named, ours)
    assert same is not None
    assert same.pre.tolist() == [55, 100, 101]


def test_other_ids_or_places_are_other_synapses() -> None:
    ours, _ = sides()
    for other in (PREDICTED.assign(syn_id=[7, 7, 8, 10, 8]), PREDICTED.assign(x_pos=5000.0)):
        assert of_the_same_synapses(SynapseSet.from_tables("baseline", other), ours) is None


def test_json_is_complete_and_has_no_nan() -> None:
    comparison = compared(baseline=PREDICTED[:0])
    written = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert written["truth"] == {"n_synapses": 3, "n_partners": 4}
    assert [m["max_nm"] for m in written["predicted"]["matchings"]] == [100, 200]
    far = written["predicted"]["matchings"][1]
    assert far["synapses"]["f1"] == 2 / 3
    low, high = far["synapses"]["f1_interval"]
    assert 0 <= low < 2 / 3 < high <= 1
    assert far["share_error"]["mean"] == 0.375
    assert written["baseline"]["matchings"][1]["partners"]["precision"] is None
    assert written["human_agreement"]["f1"] == [
        {"max_nm": 100.0, "f1": 0.76},
        {"max_nm": 300.0, "f1": 0.87},
    ]


def test_the_report_puts_the_baseline_beside() -> None:
    baseline = PREDICTED.assign(post_id=[201, 209, 201, 203, 204])
    text = report(compared(baseline=baseline))
    lines = text.splitlines()
    assert lines[:3] == [
        "              predicted  baseline      true",
        "synapses              3         3         3",
        "partner rows          5         5         4",
    ]
    (head,) = [line for line in lines if line.startswith("matched within")]
    assert head.split()[2:] == ["100", "nm", "baseline", "200", "nm", "baseline"]
    start = next(
        i for i, line in enumerate(lines) if line.startswith("partner sets, given a match")
    )
    assert lines[start].split()[-4:] == ["1.000", "0.500", "0.750", "0.500"]
    (people,) = [line.split() for line in lines if "two people" in line]
    assert people[-3:] == ["*", "0.76", "-"]
    assert "edges, least synapses (baseline)" in text
    assert "CREMI partners, 400 nm" in text
    assert "F1 0.76 at 100 nm and 0.87 at 300 nm" in text
    assert not [line for line in lines if line != line.rstrip()]


@pytest.mark.parametrize("rows", [slice(0, 0), slice(0, 5)])
def test_nothing_predicted_and_nothing_true(rows: slice) -> None:
    comparison = compared(PREDICTED[rows], TRUE[:0])
    assert comparison.predicted.matched[0].synapses.recall is not None
    json.dumps(comparison.to_dict(), allow_nan=False)
    assert report(comparison)


def test_the_seed_changes_intervals_only() -> None:
    ours, true = sides()
    rng = np.random.default_rng(1)
    many = pd.concat([TRUE.assign(syn_id=TRUE["syn_id"] + 10 * i) for i in range(20)])
    lost = many[rng.random(len(many)) < 0.7]
    ours, true = sides(lost, many)
    matchings = match_places(ours, true, [1.0])
    first, second, third = (
        evaluate_partners(ours, true, matchings, seed=s).matched[0].scores for s in (1, 1, 2)
    )
    assert first == second
    assert first.intervals != third.intervals
    assert first.combined == third.combined


def test_the_example_in_the_docs_is_a_report() -> None:
    """The same labels in the same order; the figures are those of another run."""

    def labels(text: str) -> list[str]:
        words = (re.sub(r"[^A-Za-z]+", " ", line).split() for line in text.splitlines())
        lines = [" ".join(line) for line in words]
        first, last = (lines.index(next(x for x in lines if x.startswith(w))) for w in _ENDS)
        return [line.removesuffix(" IoU nm nm") for line in lines[first:last] if line]

    docs = (Path(__file__).parents[2] / "docs/evaluation.md").read_text()
    example = docs.split("```text\n")[1].split("```")[0]
    ours = report(compared(truth=TRUE.drop(columns=["size", "post_x"])))
    assert labels(example) == [line.removesuffix(" nm nm") for line in labels(ours)]
    for group in ("synapses", "presynaptic cell", "partner sets, given a match", "error of shares"):
        assert f"| **{group}** |" in docs


_ENDS = ("matched within", "correlation of")
