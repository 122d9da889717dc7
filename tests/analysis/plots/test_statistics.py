"""Distributions, counted in a database, against counting in Python."""

import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnapse.analysis.plots.published import SHARES_AT_OR_BELOW
from cnapse.analysis.plots.statistics import SHARE_EDGES, histogram_of, statistics_of
from cnapse.analysis.queries import Synapses
from cnapse.analysis.queries_engine import Engine

# Whole numbers: their sums do not depend on the order.
SIZES = st.integers(0, 10**6).map(float)
ROWS = st.lists(
    st.tuples(st.integers(1, 6), st.sampled_from("ab"), st.sampled_from("abcd"), SIZES),
    max_size=25,
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=ROWS)
def test_everything_is_counted(rows, tmp_path):
    path = tmp_path / "t.parquet"
    frame = pd.DataFrame(rows, columns=["syn_id", "pre", "post", "size"])
    kinds = {"syn_id": "uint64", "pre": "str", "post": "str", "size": "float64"}
    frame.astype(kinds).to_parquet(path)
    with Synapses.open(path) as synapses:
        found = statistics_of(synapses)

    posts = {syn: {post for s, _, post, _ in rows if s == syn} for syn, *_ in rows}
    assert found.rows == len(rows)
    assert found.synapses == len(posts)
    assert found.partners == Counter(len(those) for those in posts.values())
    volume = Counter()
    for syn, _, _, size in rows:
        volume[syn] += size
    if not rows:
        assert found.volumes is None
        assert found.shares is None
        assert math.isnan(found.mean_partners)
        return
    assert found.volumes.total == len(posts)
    assert found.volumes.mean == pytest.approx(np.mean(list(volume.values())))
    for p, quantile in found.volumes.quantiles.items():
        assert quantile.value == pytest.approx(np.quantile(list(volume.values()), p))
        assert quantile.low <= quantile.value <= quantile.high
    shares = [size / volume[syn] for syn, _, _, size in rows if volume[syn] > 0]
    if not shares:
        assert found.shares is None
        return
    assert found.shares.counts.tolist() == np.histogram(shares, SHARE_EDGES)[0].tolist()
    for limit in SHARES_AT_OR_BELOW:
        assert found.at_or_below[limit] == pytest.approx(np.mean(np.array(shares) <= limit))


def test_a_share_of_the_table_counts_more_than_sizes(tmp_path):
    path = tmp_path / "t.csv"
    pd.DataFrame(
        {
            "syn_id": [1, 1],
            "pre": ["a", "a"],
            "post": ["b", "c"],
            "size": [1.0, 1.0],
            "share": [0.3, 0.7],
        }
    ).to_csv(path, index=False)
    with Synapses.open(path) as synapses:
        shares = statistics_of(synapses).shares
    assert np.flatnonzero(shares.counts).tolist() == [12, 28]


def test_a_narrower_question_has_its_own_statistics(table):
    path = table([(1, "a", "b", 1.0), (2, "b", "c", 2.0), (2, "b", "a", 2.0)])
    with Synapses.open(path) as synapses:
        found = statistics_of(synapses.of_cell("b", "pre"))
    assert (found.rows, found.synapses, dict(found.partners)) == (2, 1, {2: 1})
    assert found.volumes.mean == 4.0


@pytest.mark.parametrize("values", [[5.0], [1e-3, 1e12], [0.0, 0.0], [0.0, 7.0, None], [None]])
def test_a_logarithmic_histogram_has_every_value(values):
    engine = Engine()
    engine.run("CREATE TABLE t (v DOUBLE)")
    for value in values:
        engine.run("INSERT INTO t VALUES (?)", (value,))
    found = histogram_of(engine, "t", "v")
    engine.close()
    known = [v for v in values if v is not None]
    assert found.total == len(known)
    assert found.zeros == known.count(0.0)
    positive = [v for v in known if v > 0]
    if positive:
        assert found.edges[0] <= min(positive)
        assert found.edges[-1] >= max(positive)


def test_few_values_do_not_limit_an_outer_quantile():
    engine = Engine()
    engine.run("CREATE TABLE t AS SELECT CAST(range + 1 AS DOUBLE) AS v FROM range(10)")
    few = histogram_of(engine, "t", "v").quantiles
    engine.run("CREATE TABLE u AS SELECT CAST(range + 1 AS DOUBLE) AS v FROM range(1000)")
    many = histogram_of(engine, "u", "v").quantiles
    engine.close()
    assert (few[0.05].low, few[0.95].high) == (-math.inf, math.inf)
    assert 1 < few[0.5].low < 5.5 < few[0.5].high < 10
    for p, found in many.items():
        # Binomial: 1.96 standard deviations of the rank.
        reach = 1.96 * math.sqrt(1000 * p * (1 - p))
        assert found.low == pytest.approx(found.value - reach, abs=1)
        assert found.high == pytest.approx(found.value + reach, abs=1)
