"""Partner scores on cases that can be counted by hand, and the written forms."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from cnapse.analysis import evaluation
from cnapse.analysis.evaluation import Evaluation, partner_scores
from cnapse.analysis.matching import ObjectMatch, Score
from cnapse.errors import TableError


def ids(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


# Predicted 11, 12, 13 are true 1, 2, 3; 14 is false and 4 is missed.
MATCH = ObjectMatch(ids(11, 12, 13), ids(1, 2, 3), np.ones(3), ids(14), ids(4))
PREDICTED = pd.DataFrame(
    [
        (11, 100, 201, 0.5),
        (11, 100, 202, 0.5),
        (12, 101, 203, 0.75),
        (12, 101, 204, 0.25),
        (14, 100, 209, 1.0),
    ],
    columns=["syn_id", "pre_id", "post_id", "share"],
)
TRUE = pd.DataFrame(
    [
        (1, 100, 201, 10.0),
        (1, 100, 202, 30.0),
        (2, 109, 203, 5.0),
        (3, 102, 205, 5.0),
        (4, 100, 206, 5.0),
        (4, 100, 207, 5.0),
    ],
    columns=["syn_id", "pre_id", "post_id", "share"],
)


def test_partners_are_counted_as_pairs_over_matched_synapses() -> None:
    scores = partner_scores(MATCH, PREDICTED, TRUE)
    # found 201, 202, 203; false 204; missed 205
    assert scores.matched == Score(3, 1, 1)
    # and 209 of the false synapse, 206 and 207 of the missed one
    assert scores.combined == Score(3, 2, 3)


def test_a_synapse_without_partners_is_wrong_unless_its_cell_is_known() -> None:
    scores = partner_scores(MATCH, PREDICTED, TRUE)
    assert (scores.presynaptic_right, scores.presynaptic_known) == (1, 3)
    synapses = pd.DataFrame({"syn_id": [11, 12, 13, 14], "pre_id": [100, 101, 102, 100]})
    scores = partner_scores(MATCH, PREDICTED, TRUE, predicted_synapses=synapses)
    assert scores.presynaptic_accuracy == 2 / 3


def test_only_true_presynaptic_cells_count() -> None:
    truth = pd.DataFrame({"syn_id": [1, 2, 3], "pre_id": [100, 0, 0]})
    scores = partner_scores(MATCH, PREDICTED, TRUE, true_synapses=truth)
    assert (scores.presynaptic_right, scores.presynaptic_known) == (1, 1)


def test_shares_are_compared_where_both_have_partners() -> None:
    scores = partner_scores(MATCH, PREDICTED, TRUE)
    first = (abs(0.5 - 0.25) + abs(0.5 - 0.75)) / 2
    second = (abs(0.75 - 1) + 0.25) / 2
    assert scores.share_error == pytest.approx((first + second) / 2)
    assert np.isnan(partner_scores(MATCH, PREDICTED, TRUE.drop(columns="share")).share_error)


def test_equal_tables_are_right_and_order_does_not_matter() -> None:
    match = ObjectMatch(ids(1, 2, 3, 4), ids(1, 2, 3, 4), np.ones(4), ids(), ids())
    scores = partner_scores(match, TRUE.sample(frac=1, random_state=1), TRUE)
    assert scores.matched == scores.combined == Score(6, 0, 0)
    assert scores.presynaptic_accuracy == 1
    assert scores.share_error == 0


def test_the_same_partner_twice_and_no_partner_count_once_and_not() -> None:
    extra = pd.DataFrame([(11, 100, 201, 0.5), (13, 1, 0, 1.0)], columns=list(PREDICTED))
    scores = partner_scores(MATCH, pd.concat([PREDICTED, extra]), TRUE)
    assert scores.matched == Score(3, 1, 1)


def test_nothing_against_nothing() -> None:
    match = ObjectMatch(ids(), ids(), np.zeros(0), ids(), ids())
    scores = partner_scores(match, PREDICTED[:0], TRUE[:0])
    assert scores.matched == Score(0, 0, 0)
    assert scores.to_dict()["presynaptic_accuracy"] is None
    assert scores.to_dict()["share_error"] is None


def test_ids_beyond_what_floats_can_tell_apart() -> None:
    match = ObjectMatch(ids(2**60 + 1), ids(2**63 + 5), np.ones(1), ids(), ids())
    predicted = pd.DataFrame(
        {"syn_id": ids(2**60 + 1), "post_id": ids(7), "pre_id": ids(2**60 + 1)}
    )
    truth = pd.DataFrame({"syn_id": ids(2**63 + 5), "post_id": ids(7), "pre_id": ids(2**60)})
    scores = partner_scores(match, predicted, truth)
    assert scores.matched == Score(1, 0, 0)
    assert scores.presynaptic_accuracy == 0


def test_a_missing_column_is_named() -> None:
    with pytest.raises(TableError, match="the true table has no column post_id; it has syn_id"):
        partner_scores(MATCH, PREDICTED, TRUE.drop(columns="post_id"))
    with pytest.raises(TableError, match="the predicted table has no column pre_id"):
        partner_scores(MATCH, PREDICTED.drop(columns="pre_id"), TRUE)


def test_written_as_json_and_as_text() -> None:
    result = Evaluation(MATCH, partner_scores(MATCH, PREDICTED, TRUE))
    written = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert written["objects"]["true_positives"] == 3
    assert written["partners"]["f1"] == 0.75
    assert written["partners_combined"]["false_negatives"] == 3
    assert result.to_text().splitlines() == [
        "                               precision    recall        F1  right / false / missed",
        "synapses                           0.750     0.750     0.750  3 / 1 / 1",
        "partners of matched synapses       0.750     0.750     0.750  3 / 1 / 1",
        "partners of all synapses           0.600     0.500     0.545  3 / 2 / 3",
        "presynaptic cell                   0.333                      1 of 3 right",
        "error of shares                    0.250",
    ]
    assert len(Evaluation(MATCH).to_text().splitlines()) == 2
    assert set(Evaluation(MATCH).to_dict()) == {"objects"}


def test_the_public_face_is_complete() -> None:
    assert all(hasattr(evaluation, name) for name in evaluation.__all__)
