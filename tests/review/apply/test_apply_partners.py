import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnapse.review.apply_partners import Reached, decided_shares, with_decisions
from cnapse.review.decisions import PartnersDecision, parse_decision
from cnapse.tables import PARTNERS, SYNAPSES, SynapseFlag, filled


def decided(pre_id: int, partners: dict[int, float | None], syn_id: int = 5) -> PartnersDecision:
    listed = [{"post_id": str(cell), "share": share} for cell, share in partners.items()]
    given = {"reviewer": "Ada", "action": "partners", "syn_id": syn_id}
    return parse_decision({**given, "new": {"pre_id": str(pre_id), "partners": listed}})


@pytest.fixture
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    asked = SynapseFlag.NEAR_CUT | SynapseFlag.WEAK_PRESYNAPTIC | SynapseFlag.BORDER
    synapse = {
        "syn_id": [5], "pre": ["a"], "pre_id": [2**63 + 1], "size": [1000.0], "x_pos": [10.0],
        "y_pos": [20.0], "z_pos": [30.0], "lost": [0.1], "near_cut": [0.4], "n_partners": [2],
        "flags": [int(asked)],
    }  # fmt: skip
    partners = {
        "syn_id": [5, 5], "pre_id": [2**63 + 1] * 2, "post_id": [8, 9], "share": [0.75, 0.25],
        "share_error": [0.0, 0.0], "raw_share": [0.6, 0.2], "size": [750.0, 250.0],
        "post_x": [1.0, 2.0], "post_y": [1.0, 2.0], "post_z": [1.0, 2.0], "pre": ["a"] * 2,
        "post": ["b", "c"], "n_partners": [2, 2], "flags": [int(asked)] * 2,
    }  # fmt: skip
    both = (filled(pd.DataFrame(synapse), SYNAPSES), filled(pd.DataFrame(partners), PARTNERS))
    types = [{c.name: c.dtype for c in s.columns} for s in (SYNAPSES, PARTNERS)]
    return both[0].astype(types[0]), both[1].astype(types[1])


@given(st.lists(st.none() | st.floats(1e-6, 1), min_size=1, max_size=8))
def test_shares_add_up(shares) -> None:
    wanted = decided_shares(decided(1, dict(enumerate(shares, 2))))
    assert math.fsum(wanted.values()) == pytest.approx(1)
    assert all(share > 0 for share in wanted.values())
    free = [wanted[n] for n, share in enumerate(shares, 2) if share is None]
    assert len(set(free)) <= 1
    told = [share for share in shares if share is not None]
    if None in shares and math.fsum(told) < 0.99:
        assert [wanted[n] for n, s in enumerate(shares, 2) if s is not None] == pytest.approx(told)


@pytest.mark.parametrize("shares", [(0.75, 0.25), (0.7504, 0.2496), (None, None)])
def test_what_was_predicted_is_confirmed(tables, shares) -> None:
    decision = decided(2**63 + 1, dict(zip((8, 9), shares, strict=True)))
    made = with_decisions(*tables, {5: decision}, {})
    assert made.synapse_provenance == {5: "confirmed"}
    assert made.partners["provenance"].tolist() == ["confirmed"] * 2
    pd.testing.assert_frame_equal(made.partners.drop(columns="provenance"), tables[1])
    pd.testing.assert_frame_equal(made.synapses, tables[0])


def test_cells_are_those_decided(tables) -> None:
    decision = decided(2**63 + 1, {9: 0.25, 7: None, 6: None})
    made = with_decisions(*tables, {5: decision}, {(5, 7): Reached(0.01, (4.0, 5.0, 6.0))})
    rows = made.partners.set_index("post_id")
    assert rows.index.tolist() == [6, 7, 9]
    assert rows["share"].tolist() == pytest.approx([0.375, 0.375, 0.25])
    assert rows["size"].tolist() == pytest.approx([375, 375, 250])
    assert rows["raw_share"].tolist() == [0.0, 0.01, 0.2]
    assert rows["provenance"].tolist() == ["added", "added", "confirmed"]
    assert rows.loc[7, ["post_x", "post_y", "post_z"]].tolist() == [4, 5, 6]
    # A cell that is nowhere near is drawn at the synapse, and told.
    assert rows.loc[6, ["post_x", "post_y", "post_z"]].tolist() == [10, 20, 30]
    assert made.far == [(5, 6)]
    synapse = made.synapses.iloc[0]
    assert (synapse["n_partners"], synapse["near_cut"]) == (3, 0)
    assert synapse["flags"] == int(SynapseFlag.BORDER)
    assert (rows["flags"] == synapse["flags"]).all()
    assert (rows["n_partners"] == 3).all()
    assert made.partners.dtypes.drop("provenance").equals(tables[1].dtypes)


def test_another_presynaptic_cell_and_none(tables) -> None:
    made = with_decisions(*tables, {5: decided(3, {8: 0.75, 9: 0.25})}, {})
    assert made.partners["provenance"].tolist() == ["corrected"] * 2
    assert made.partners["pre_id"].tolist() == [3, 3]
    none = with_decisions(*tables, {5: decided(0, {})}, {})
    assert none.partners.empty
    flags = int(none.synapses["flags"].iloc[0])
    assert flags == int(SynapseFlag.NO_PRESYNAPTIC_CELL | SynapseFlag.BORDER)
    assert np.asarray(none.synapses["pre_id"]).dtype == np.uint64
