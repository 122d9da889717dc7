"""Two edge lists against each other, and against sets."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cnapse.analysis.plots.comparison import compare_edges

EDGES = st.dictionaries(
    st.tuples(st.sampled_from("abcde"), st.sampled_from("abcde")), st.integers(0, 9), max_size=20
)


def _frame(edges: dict) -> pd.DataFrame:
    rows = [(pre, post, weight) for (pre, post), weight in edges.items()]
    frame = pd.DataFrame(rows, columns=["pre", "post", "synapses"])
    return frame.astype({"pre": "str", "post": "str", "synapses": "int64"})


@settings(max_examples=30, deadline=None)
@given(a=EDGES, b=EDGES)
def test_new_gone_and_shared_are_the_sets(a, b):
    found = compare_edges(_frame(a), _frame(b))
    one = {pair for pair, weight in a.items() if weight}
    two = {pair for pair, weight in b.items() if weight}

    def pairs(frame: pd.DataFrame) -> list[tuple[str, str]]:
        return list(zip(frame["pre"], frame["post"], strict=True))

    assert set(pairs(found.gone)) == one - two
    assert set(pairs(found.new)) == two - one
    assert set(pairs(found.shared)) == one & two
    assert pairs(found.edges) == sorted(one | two)
    assert found.edges["a"].sum() == sum(a.values())
    assert found.edges["b"].sum() == sum(b.values())
    assert found.gone["a"].is_monotonic_decreasing
    assert found.cells_common == len({c for p in one for c in p} & {c for p in two for c in p})
    assert (found.common.edges, found.all.edges) == (len(one & two), len(one | two))
    x = np.array([a.get(pair, 0) for pair in sorted(one | two)], dtype=float)
    y = np.array([b.get(pair, 0) for pair in sorted(one | two)], dtype=float)
    if len(x) > 1 and len({*x}) > 1 and len({*y}) > 1:
        assert found.all.pearson == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)
        ranks = np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1]
        assert found.all.spearman == pytest.approx(ranks, abs=1e-9)
    else:
        assert np.isnan(found.all.pearson)


@settings(max_examples=10, deadline=None)
@given(a=EDGES)
def test_a_table_equals_itself(a):
    found = compare_edges(_frame(a), _frame(a))
    assert found.new.empty
    assert found.gone.empty
