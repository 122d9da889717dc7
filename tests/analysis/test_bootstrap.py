"""The multinomial bootstrap against resampling synapse by synapse."""

from __future__ import annotations

import numpy as np
import pytest

from cnapse.analysis.bootstrap import f1_interval

RNG = np.random.default_rng(3)
RIGHT, FALSE, MISSED = RNG.integers(0, 5, 60), RNG.integers(0, 3, 60), RNG.integers(0, 2, 60)


def test_as_drawing_synapses_with_replacement() -> None:
    rng = np.random.default_rng(8)
    values = []
    for _ in range(4000):
        drawn = rng.integers(0, 60, 60)
        tp = RIGHT[drawn].sum()
        values.append(2 * tp / (2 * tp + FALSE[drawn].sum() + MISSED[drawn].sum()))
    interval = f1_interval(RIGHT, FALSE, MISSED, resamples=4000)
    assert interval == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.006)
    narrow = f1_interval(RIGHT, FALSE, MISSED, level=0.5)
    assert narrow == pytest.approx(np.percentile(values, [25, 75]), abs=0.006)


def test_the_seed_decides_and_the_order_does_not() -> None:
    one = f1_interval(RIGHT, FALSE, MISSED, seed=1)
    order = RNG.permutation(60)
    assert f1_interval(RIGHT[order], FALSE[order], MISSED[order], seed=1) == one
    assert f1_interval(RIGHT, FALSE, MISSED, seed=2) != one


def test_nothing_and_perfect() -> None:
    assert f1_interval([], [], []) is None
    assert f1_interval([0, 0], [0, 0], [0, 0]) is None
    assert f1_interval([1, 2, 0], [0, 0, 0], [0, 0, 0]) == (1.0, 1.0)
