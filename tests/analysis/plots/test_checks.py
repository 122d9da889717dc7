"""What is outside of the published ranges, and what chance explains."""

import math

import numpy as np
import pytest

from cnapse.analysis.plots.checks import (
    Check,
    partner_checks,
    section_checks,
    volume_checks,
    wilson,
)
from cnapse.analysis.plots.published import PARTNERS, VOLUME_NM3, Range
from cnapse.analysis.plots.statistics import Histogram, Quantile, TableStatistics


def _statistics(partners: dict[int, int]) -> TableStatistics:
    return TableStatistics(0, sum(partners.values()), partners, None, None)


def test_published_numbers_pass_and_others_do_not():
    good = partner_checks(_statistics({1: 1400, 2: 6000, 3: 2100, 4: 400, 5: 100}))
    assert [check.fits for check in good] == [True] * 5
    bad = partner_checks(_statistics({1: 9000, 2: 1000}))
    assert [check.fits for check in bad] == [False] * 5


def test_few_synapses_prove_nothing():
    checks = partner_checks(_statistics({1: 1, 2: 1}))
    assert all(check.fits for check in checks[1:])
    assert partner_checks(_statistics({})) == []
    assert partner_checks(_statistics({9: 1}))[0].low == -math.inf


def test_more_than_four_partners_count_with_four():
    *_, many = partner_checks(_statistics({2: 90, 4: 4, 7: 6}))
    assert many.found == pytest.approx(0.1)
    assert many.text == "synapses with 4 or more partners: 10.0 %; published 3.0 to 8.0 %"


def test_volumes_and_sections():
    def histogram(*values: float) -> Histogram:
        quantiles = {p: Quantile(v, v, v) for p, v in zip((0.05, 0.5, 0.95), values, strict=True)}
        return Histogram(np.array([0.0, 1.0]), np.array([100]), 0, quantiles, 0.0)

    assert all(check.fits for check in volume_checks(histogram(1e5, 3e5, 1e6)))
    small = volume_checks(histogram(1e5, 1e5, 1e6))
    assert [check.fits for check in small] == [True, False, True]
    assert small[1].text == "median of the volume: 100,000 nm³; published 212,000 to 448,000 nm³"
    sections = section_checks(histogram(1, 3, 9), single=50)
    assert [check.fits for check in sections] == [True, True, False]


def test_the_interval_of_a_proportion():
    # Agresti and Coull 1998: 0 of 10 gives an upper end of 0.2775.
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=2e-4)
    assert wilson(10, 10) == pytest.approx((0.7225, 1), abs=2e-4)
    low, high = wilson(300, 1000)
    assert low < 0.3 < high
    assert Check("x", 0.3, low, high, Range(0.32, 0.4)).fits


def test_published_ranges_are_in_order():
    for known in (*PARTNERS.values(), *VOLUME_NM3.values()):
        assert known.low < known.high
    assert sum(known.low for known in PARTNERS.values()) < 1
    assert sum(known.high for known in PARTNERS.values()) > 1
