"""Lines of partners: ids that are unique and stay, ends that are finite."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.errors import TableError
from cnapse.tables import PARTNERS, SYNAPSES, empty_table, filled
from cnapse.viewing.annotations import AnnotationTable
from cnapse.viewing.partner_lines import colours_of, partner_lines


def tables(pairs) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables of pairs of synapse and postsynaptic cell."""
    ids = sorted({synapse for synapse, _ in pairs})
    synapses = pd.DataFrame({"syn_id": np.array(ids, np.uint64), "doubt": [i % 7 / 7 for i in ids]})
    partners = pd.DataFrame(
        {name: np.array(list(values), np.uint64) for name, values in zip(
            ("syn_id", "post_id"), zip(*pairs, strict=True), strict=True)}
    ).assign(x_pos=1.0, y_pos=2.0, z_pos=3.0, post_x=4.0)  # fmt: skip
    return filled(synapses, SYNAPSES), filled(partners, PARTNERS)


@settings(deadline=None, max_examples=25)
@given(
    pairs=st.sets(
        st.tuples(st.integers(1, 2**54 - 1), st.integers(1, 2**64 - 1)), min_size=1, max_size=30
    ),
    seed=st.integers(0, 9),
)
def test_ids_are_unique_and_do_not_depend_on_order_or_parts(pairs, seed) -> None:
    ordered = sorted(pairs)
    synapses, partners = tables(ordered)
    whole = partner_lines(synapses, partners)
    assert isinstance(whole, AnnotationTable)
    assert len(set(whole.ids.tolist())) == len(pairs)
    assert (whole.ids >> np.uint64(10)).tolist() == [synapse for synapse, _ in ordered]
    shuffled = partner_lines(synapses, partners.sample(frac=1, random_state=seed))
    np.testing.assert_array_equal(shuffled.ids, whole.ids)
    np.testing.assert_array_equal(shuffled.properties["colour"], whole.properties["colour"])
    one = ordered[seed % len(ordered)][0]
    alone = partner_lines(synapses[synapses["syn_id"] == one], partners[partners["syn_id"] == one])
    assert set(alone.ids.tolist()) == {i for i in whole.ids.tolist() if i >> 10 == one}
    # Where it is not known where the cell is hit, the line ends where it begins.
    assert np.isfinite(whole.points).all()


def test_ids_that_are_too_large_are_counted() -> None:
    synapses, partners = tables([(2**54, 5), (2**63, 7), (2**63, 9)])
    with pytest.raises(TableError, match=r"ids up to 9223372036854775808.*give first_id"):
        partner_lines(synapses, partners)
    assert partner_lines(synapses, partners, first_id=100).ids.tolist() == [100, 101, 102]


def test_no_partners_are_no_lines() -> None:
    lines = partner_lines(empty_table(SYNAPSES), empty_table(PARTNERS))
    assert len(lines) == 0
    assert lines.points.shape == (0, 2, 3)


def test_a_cell_has_one_colour_and_neighbours_have_others() -> None:
    colours = colours_of(np.arange(1, 1001, dtype=np.uint64))
    np.testing.assert_array_equal(colours_of(np.array([17], np.uint64))[0], colours[16])
    _, counts = np.unique(colours, axis=0, return_counts=True)
    assert len(counts) == 8
    assert counts.min() > 60
