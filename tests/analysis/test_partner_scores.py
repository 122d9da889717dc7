"""Partner scores on cases that can be counted by hand, and against plain loops over sets."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.analysis.matching import ObjectMatch, Score
from cnapse.analysis.partner_scores import PartnerScores, partner_scores
from cnapse.analysis.synapse_set import SynapseSet


def ids(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


# Predicted 11, 12, 13 are true 1, 2, 3; 14 is false and 4 is missed.
MATCH = ObjectMatch(ids(11, 12, 13), ids(1, 2, 3), np.ones(3), ids(14), ids(4))
COLUMNS = ["syn_id", "pre_id", "post_id", "share"]
PREDICTED = pd.DataFrame(
    [
        (11, 100, 201, 0.5),
        (11, 100, 202, 0.5),
        (12, 101, 203, 0.75),
        (12, 101, 204, 0.25),
        (14, 100, 209, 1.0),
    ],
    columns=COLUMNS,
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
    columns=COLUMNS,
)


def scored(
    predicted: pd.DataFrame = PREDICTED,
    truth: pd.DataFrame = TRUE,
    match: ObjectMatch = MATCH,
    **synapses: pd.DataFrame,
) -> PartnerScores:
    return partner_scores(
        match,
        SynapseSet.from_tables("predicted", predicted, synapses.get("predicted_synapses")),
        SynapseSet.from_tables("true", truth, synapses.get("true_synapses")),
    )


def test_pairs_are_counted_over_matched_synapses_and_over_all() -> None:
    scores = scored()
    # found 201, 202, 203; false 204; missed 205
    assert scores.matched == Score(3, 1, 1)
    # 203 is of the wrong presynaptic cell; 209 of the false synapse, 206 and 207 of the missed one
    assert scores.combined == Score(2, 3, 4)
    assert (scores.exact_sets, scores.matched_synapses) == (1, 3)


def test_without_true_presynaptic_cells_the_postsynaptic_one_decides() -> None:
    scores = scored(truth=TRUE.drop(columns="pre_id"))
    assert scores.combined == Score(3, 2, 3)
    assert np.isnan(scores.presynaptic_accuracy)


def test_a_synapse_without_partners_is_wrong_unless_its_cell_is_known() -> None:
    scores = scored()
    assert (scores.presynaptic_right, scores.presynaptic_known) == (1, 3)
    synapses = pd.DataFrame({"syn_id": [11, 12, 13, 14], "pre_id": [100, 101, 102, 100]})
    assert scored(predicted_synapses=synapses).presynaptic_accuracy == 2 / 3


def test_only_true_presynaptic_cells_count() -> None:
    truth = pd.DataFrame({"syn_id": [1, 2, 3, 4], "pre_id": [100, 0, 0, 0]})
    scores = scored(true_synapses=truth)
    assert (scores.presynaptic_right, scores.presynaptic_known) == (1, 1)


def test_shares_are_compared_where_both_have_partners() -> None:
    shares = scored().shares
    assert shares is not None
    first = (abs(0.5 - 0.25) + abs(0.5 - 0.75)) / 2
    second = (abs(0.75 - 1) + 0.25) / 2
    assert first == second == 0.25
    assert (shares.mean, shares.median, shares.percentile_95, shares.synapses) == (0.25,) * 3 + (2,)
    assert scored(truth=TRUE.drop(columns="share")).shares is None


def test_shares_that_add_up_to_nothing_are_not_compared() -> None:
    shares = scored(truth=TRUE.assign(share=[10.0, 30.0, 0, 0, 0, 0])).shares
    assert shares is not None
    assert (shares.mean, shares.synapses) == (0.25, 1)
    assert scored(truth=TRUE.assign(share=0.0)).shares is None


def test_two_empty_sets_are_equal() -> None:
    synapses = pd.DataFrame({"syn_id": [1, 2, 3, 4]})
    truth = TRUE[TRUE["syn_id"] != 3]
    assert scored(truth=truth, true_synapses=synapses).exact_sets == 2


def test_equal_tables_are_right_and_order_does_not_matter() -> None:
    match = ObjectMatch(ids(1, 2, 3, 4), ids(1, 2, 3, 4), np.ones(4), ids(), ids())
    scores = scored(TRUE.sample(frac=1, random_state=1), TRUE, match)
    assert scores.matched == scores.combined == Score(6, 0, 0)
    assert scores.presynaptic_accuracy == scores.exact_accuracy == 1
    assert scores.shares is not None
    assert scores.shares.mean == 0
    assert scores.intervals.combined == (1.0, 1.0)


def test_the_same_partner_twice_and_no_partner_count_once_and_not() -> None:
    extra = pd.DataFrame([(11, 100, 201, 0.5), (13, 1, 0, 1.0)], columns=COLUMNS)
    scores = scored(pd.concat([PREDICTED, extra]))
    assert scores.matched == Score(3, 1, 1)
    assert scores.shares is not None
    # 201 now has two thirds of the synapse.
    assert scores.shares.mean == pytest.approx((2 / 3 - 1 / 4 + 1 / 4) / 2)


def test_a_matched_object_without_a_row_has_no_partners() -> None:
    match = ObjectMatch(ids(11, 77), ids(1, 2), np.ones(2), ids(12, 14), ids(3, 4))
    scores = scored(match=match)
    assert scores.matched == Score(2, 0, 1)
    assert scores.combined == Score(2, 3, 4)


def test_nothing_against_nothing() -> None:
    match = ObjectMatch(ids(), ids(), np.zeros(0), ids(), ids())
    scores = scored(PREDICTED[:0], TRUE[:0], match)
    assert scores.matched == scores.combined == Score(0, 0, 0)
    written = scores.to_dict()
    assert written["presynaptic_accuracy"] is None
    assert written["exact_accuracy"] is None
    assert written["share_error"] is None
    assert written["partners"]["f1_interval"] is None


def test_ids_beyond_what_floats_can_tell_apart() -> None:
    match = ObjectMatch(ids(2**60 + 1), ids(2**63 + 5), np.ones(1), ids(), ids())
    predicted = pd.DataFrame(
        {"syn_id": ids(2**60 + 1), "post_id": ids(2**62 + 1), "pre_id": ids(2**60 + 1)}
    )
    truth = pd.DataFrame(
        {"syn_id": ids(2**63 + 5), "post_id": ids(2**62 + 1), "pre_id": ids(2**60)}
    )
    scores = scored(predicted, truth, match)
    assert scores.matched == Score(1, 0, 0)
    assert scores.presynaptic_accuracy == 0
    assert scored(predicted.assign(post_id=ids(2**62)), truth, match).matched == Score(0, 1, 1)


def random_side(rng: np.random.Generator, n: int, first: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    synapses = pd.DataFrame(
        {
            "syn_id": np.arange(first, first + n, dtype=np.uint64),
            "pre_id": rng.integers(0, 3, n).astype(np.uint64),
        }
    )
    row = np.repeat(np.arange(n), rng.integers(0, 5, n))
    partners = pd.DataFrame(
        {
            "syn_id": synapses["syn_id"].to_numpy()[row],
            "post_id": rng.integers(0, 5, len(row)).astype(np.uint64),
            "share": rng.integers(1, 9, len(row)).astype(float),
        }
    )
    return partners, synapses


def sets_of(partners: pd.DataFrame) -> dict[int, dict[int, float]]:
    """Shares by synapse and cell, by a plain loop."""
    sets: dict[int, dict[int, float]] = {}
    for row in partners.itertuples():
        if row.post_id:
            cells = sets.setdefault(row.syn_id, {})
            cells[row.post_id] = cells.get(row.post_id, 0.0) + row.share
    return sets


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 12), st.integers(0, 12))
def test_as_plain_loops_over_sets(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    (p_rows, p_syn), (t_rows, t_syn) = random_side(rng, n, 50), random_side(rng, m, 1)
    k = int(rng.integers(0, min(n, m) + 1))
    mine = np.sort(rng.choice(p_syn["syn_id"].to_numpy(), k, replace=False))
    theirs = rng.choice(t_syn["syn_id"].to_numpy(), k, replace=False)
    match = ObjectMatch(
        mine,
        theirs,
        np.ones(k),
        np.setdiff1d(p_syn["syn_id"], mine),
        np.setdiff1d(t_syn["syn_id"], theirs),
    )
    found, wanted = sets_of(p_rows), sets_of(t_rows)
    pre_p = dict(zip(p_syn["syn_id"], p_syn["pre_id"], strict=True))
    pre_t = dict(zip(t_syn["syn_id"], t_syn["pre_id"], strict=True))
    tp = fp = fn = exact = combined = 0
    errors = []
    for a, b in zip(mine.tolist(), theirs.tolist(), strict=True):
        x, y = found.get(a, {}), wanted.get(b, {})
        common = set(x) & set(y)
        tp, fp, fn = tp + len(common), fp + len(set(x) - set(y)), fn + len(set(y) - set(x))
        exact += set(x) == set(y)
        combined += len(common) if pre_t[b] in (0, pre_p[a]) else 0
        if x and y:
            cells = set(x) | set(y)
            total = [sum(side.values()) for side in (x, y)]
            errors.append(
                sum(abs(x.get(c, 0) / total[0] - y.get(c, 0) / total[1]) for c in cells) / 2
            )
    scores = scored(p_rows, t_rows, match, predicted_synapses=p_syn, true_synapses=t_syn)
    assert scores.matched == Score(tp, fp, fn)
    assert scores.exact_sets == exact
    all_found, all_wanted = (sum(map(len, sets.values())) for sets in (found, wanted))
    assert scores.combined == Score(combined, all_found - combined, all_wanted - combined)
    if errors:
        assert scores.shares is not None
        assert scores.shares.synapses == len(errors)
        assert scores.shares.mean == pytest.approx(np.mean(errors))
        assert scores.shares.percentile_95 == pytest.approx(np.percentile(errors, 95))
    else:
        assert scores.shares is None
