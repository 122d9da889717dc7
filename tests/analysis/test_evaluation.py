"""The short report on a run."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from cnapse.analysis.evaluation import Evaluation
from cnapse.analysis.matching import ObjectMatch
from cnapse.analysis.partner_scores import partner_scores
from cnapse.analysis.synapse_set import SynapseSet

MATCH = ObjectMatch(
    np.array([11, 12], np.uint64),
    np.array([1, 2], np.uint64),
    np.ones(2),
    np.array([14], np.uint64),
    np.array([4], np.uint64),
)
PREDICTED = pd.DataFrame(
    [(11, 100, 201, 0.5), (11, 100, 202, 0.5), (12, 101, 203, 1.0), (14, 100, 209, 1.0)],
    columns=["syn_id", "pre_id", "post_id", "share"],
)
TRUE = pd.DataFrame(
    [(1, 100, 201, 10.0), (1, 100, 202, 30.0), (2, 109, 203, 5.0), (4, 100, 206, 5.0)],
    columns=["syn_id", "pre_id", "post_id", "share"],
)


def evaluation(truth: pd.DataFrame = TRUE) -> Evaluation:
    sides = SynapseSet.from_tables("predicted", PREDICTED), SynapseSet.from_tables("true", truth)
    return Evaluation(MATCH, partner_scores(MATCH, *sides))


def test_written_as_json_and_as_text() -> None:
    result = evaluation()
    written = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert written["objects"]["true_positives"] == 2
    assert written["partners"]["f1"] == 1
    assert written["partners_combined"]["false_negatives"] == 2
    assert written["share_error"] == {
        "mean": 0.125,
        "median": 0.125,
        "percentile_95": 0.2375,
        "synapses": 2,
    }
    assert result.to_text().splitlines() == [
        "                              precision    recall        F1  right / false / missed",
        "synapses                          0.667     0.667     0.667               2 / 1 / 1",
        "partners of matched synapses      1.000     1.000     1.000               3 / 0 / 0",
        "partners of all synapses          0.500     0.500     0.500               2 / 2 / 2",
        "presynaptic cell                  0.500                                1 of 2 right",
        "error of shares                   0.125",
    ]


def test_only_what_is_known() -> None:
    assert len(evaluation(TRUE.drop(columns="share")).to_text().splitlines()) == 5
    assert len(Evaluation(MATCH).to_text().splitlines()) == 2
    assert set(Evaluation(MATCH).to_dict()) == {"objects"}
