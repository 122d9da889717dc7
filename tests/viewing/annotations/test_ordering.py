"""Orders of entries, beside numpy's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cnapse.viewing.annotations.ordering import grouped, sorted_by

# Few values, so that there are ties; neighbours; and all 64 bits.
VALUES = st.one_of(
    st.integers(0, 3), st.integers(2**63 - 300, 2**63 + 300), st.integers(0, 2**64 - 1)
)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 60).flatmap(
        lambda n: st.lists(hnp.arrays(np.uint64, n, elements=VALUES), min_size=1, max_size=3)
    )
)
def test_the_last_column_counts_first(columns):
    before = [column.copy() for column in columns]
    np.testing.assert_array_equal(sorted_by(*columns), np.lexsort(columns))
    np.testing.assert_array_equal(columns, before)


@pytest.mark.parametrize("step", [1, 1 << 20, 1 << 40])
def test_many_rows(step):
    """Whatever digits of the values differ, equal ones keep their order."""
    values = np.random.default_rng(1).integers(0, 100, 10_000).astype(np.uint64) * np.uint64(step)
    np.testing.assert_array_equal(sorted_by(values), np.argsort(values, kind="stable"))


def test_groups():
    groups = np.array([2, 0, 2, 0, 3], np.uint32)
    order, starts = grouped(groups, 5)
    assert order.tolist() == [1, 3, 0, 2, 4]
    assert starts.tolist() == [0, 2, 2, 4, 5, 5]
