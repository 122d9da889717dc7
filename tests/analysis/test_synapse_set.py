"""What tables may lack, and what they must not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cnapse.analysis.synapse_set import SynapseSet, index_in
from cnapse.errors import TableError

PARTNERS = pd.DataFrame(
    {
        "syn_id": np.array([9, 2**63 + 5, 9, 4], np.uint64),
        "pre_id": np.array([100, 2**63 + 1, 100, 7], np.uint64),
        "post_id": np.array([1, 2**63 + 3, 2, 0], np.uint64),
        "x_pos": [1.0, 2.0, 1.0, 3.0],
        "y_pos": [1.0, 2.0, 1.0, 3.0],
        "z_pos": [1.0, 2.0, 1.0, 3.0],
    }
)


def test_synapses_come_from_the_rows_of_partners() -> None:
    side = SynapseSet.from_tables("some", PARTNERS)
    assert side.ids.tolist() == [4, 9, 2**63 + 5]
    assert side.pre.tolist() == [7, 100, 2**63 + 1]
    assert side.places is not None
    assert side.places[:, 0].tolist() == [3, 1, 2]
    assert side.row.tolist() == [1, 2, 1]
    assert side.post.tolist() == [1, 2**63 + 3, 2]
    assert side.share is side.size is side.post_places is None


def test_the_table_of_synapses_goes_first() -> None:
    synapses = pd.DataFrame({"syn_id": [9, 4, 2**63 + 5, 1], "pre_id": [55, 56, 57, 58]})
    side = SynapseSet.from_tables("some", PARTNERS, synapses.astype(np.uint64))
    assert side.ids.tolist() == [1, 4, 9, 2**63 + 5]
    assert side.pre.tolist() == [58, 56, 55, 57]
    # Synapse 1 has no row that tells its place.
    assert side.places is None
    with pytest.raises(TableError, match="the some table has no columns x_pos, y_pos, z_pos: syn"):
        side.needed_places()


def test_what_the_synapses_lack_is_taken_from_the_partners() -> None:
    side = SynapseSet.from_tables(
        "some", PARTNERS, pd.DataFrame({"syn_id": PARTNERS["syn_id"][1:]})
    )
    assert side.pre.tolist() == [7, 100, 2**63 + 1]
    assert side.needed_places()[:, 1].tolist() == [3, 1, 2]
    wider = pd.DataFrame({"syn_id": np.array([*PARTNERS["syn_id"][1:], 1], np.uint64)})
    assert SynapseSet.from_tables("some", PARTNERS, wider).pre.tolist() == [0, 7, 100, 2**63 + 1]


def test_no_cells_known() -> None:
    side = SynapseSet.from_tables("some", PARTNERS.drop(columns="pre_id"))
    assert side.pre.tolist() == [0, 0, 0]
    empty = SynapseSet.from_tables("some", PARTNERS[:0])
    assert (len(empty.ids), len(empty.row)) == (0, 0)


@pytest.mark.parametrize(
    ("partners", "synapses", "message"),
    [
        (PARTNERS.drop(columns="post_id"), None, "the true table has no column post_id; it has sy"),
        (PARTNERS, PARTNERS.drop(columns="syn_id"), "the true table has no column syn_id; it has"),
        (PARTNERS, PARTNERS, "the true table of synapses has synapse 9 twice"),
        (
            PARTNERS,
            PARTNERS[3:],
            r"the true partners have synapse 9 \(2 in all\), which is not in the table of synapses",
        ),
        (
            PARTNERS.assign(pre_id=[1, 2, 3, 4]),
            None,
            r"the true table has more than one presynaptic cell for synapse 9 \(1 in all\)",
        ),
        (
            PARTNERS.assign(share=[0.5, np.nan, 0.5, 1]),
            None,
            "the true table: column share has 1 values that are no numbers: fill them in or leave",
        ),
        (PARTNERS.assign(size="much"), None, "the true table: column size: could not convert"),
    ],
)
def test_what_cannot_be_used_is_named(
    partners: pd.DataFrame, synapses: pd.DataFrame | None, message: str
) -> None:
    with pytest.raises(TableError, match=message):
        SynapseSet.from_tables("true", partners, synapses)


def test_index_in() -> None:
    ids = np.array([2, 5, 2**63], np.uint64)
    wanted = np.array([5, 1, 2**64 - 1, 2, 2**63], np.uint64)
    assert index_in(ids, wanted).tolist() == [1, -1, -1, 0, 2]
    assert index_in(ids[:0], wanted).tolist() == [-1] * 5
