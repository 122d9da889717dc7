"""Whether a table looks like what is published, allowing for chance."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cnapse.analysis.plots.published import (
    MANY_PARTNERS,
    MEAN_PARTNERS,
    PARTNERS,
    SECTIONS,
    SINGLE_SECTION,
    VOLUME_NM3,
    Range,
)
from cnapse.analysis.plots.statistics import Histogram, Quantile, TableStatistics

__all__ = ["Check", "partner_checks", "section_checks", "volume_checks", "wilson"]

_Z = 1.96
_NAMES = {0.05: "5th percentile", 0.5: "median", 0.95: "95th percentile"}


@dataclass(frozen=True, slots=True)
class Check:
    """A figure of a table beside the published range.

    Attributes
    ----------
    what : str
    found, low, high : float
        The figure, and the range in which chance may have put it (95 %).
    published : Range
    unit : str
        ``%``, ``nm³`` or empty.
    """

    what: str
    found: float
    low: float
    high: float
    published: Range
    unit: str = ""

    @property
    def fits(self) -> bool:
        """Whether it is inside of the published range, or so near that chance may explain it."""
        return self.published.meets(self.low, self.high)

    @property
    def text(self) -> str:
        """``median volume: 1,200 nm³; published 212,000 to 448,000 nm³``."""
        low, high = self._shown(self.published.low), self._shown(self.published.high)
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.what}: {self._shown(self.found)}{unit}; published {low} to {high}{unit}"

    def _shown(self, value: float) -> str:
        if self.unit == "%":
            return f"{100 * value:.1f}"
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def partner_checks(statistics: TableStatistics) -> list[Check]:
    """The mean number of partners, and the parts of the synapses with 1, 2, 3, and more."""
    n = statistics.synapses
    if not n:
        return []
    mean, reach = statistics.mean_partners, _Z * statistics.mean_partners_error
    checks = [Check("partners a synapse, mean", mean, mean - reach, mean + reach, MEAN_PARTNERS)]
    for number, published in PARTNERS.items():
        many = number == MANY_PARTNERS
        count = sum(
            c for k, c in statistics.partners.items() if k == number or (many and k > number)
        )
        words = f"{number} or more partners" if many else f"{number} partner{'s' * (number > 1)}"
        checks.append(_proportion(f"synapses with {words}", count, n, published))
    return checks


def volume_checks(volumes: Histogram) -> list[Check]:
    """The 5th percentile, the median and the 95th percentile of the volume."""
    return [
        _of_quantile(f"{_NAMES[p]} of the volume", volumes.quantiles[p], published, "nm³")
        for p, published in VOLUME_NM3.items()
        if p in volumes.quantiles
    ]


def section_checks(sections: Histogram, single: int) -> list[Check]:
    """The number of sections: median, 95th percentile, and how many synapses have one."""
    checks = [
        _of_quantile(f"{_NAMES[p]} of the number of sections", sections.quantiles[p], published)
        for p, published in SECTIONS.items()
        if p in sections.quantiles
    ]
    if sections.total:
        name = "synapses of a single section"
        checks.append(_proportion(name, single, sections.total, SINGLE_SECTION))
    return checks


def _of_quantile(name: str, quantile: Quantile, published: Range, unit: str = "") -> Check:
    return Check(name, quantile.value, quantile.low, quantile.high, published, unit)


def _proportion(name: str, count: int, total: int, published: Range) -> Check:
    return Check(name, count / total, *wilson(count, total), published, "%")


def wilson(count: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a proportion (Wilson 1927).

    Parameters
    ----------
    count, total : int
        So many of so many; the total at least 1.
    """
    p, z2 = count / total, _Z**2
    middle = (p + z2 / (2 * total)) / (1 + z2 / total)
    reach = _Z / (1 + z2 / total) * math.sqrt(p * (1 - p) / total + z2 / (4 * total**2))
    return max(0.0, middle - reach), min(1.0, middle + reach)
