"""What is published about synapses of *C. elegans*, to compare a table with.

Computed from the tables of Witvliet et al. 2021 (Nature 596, 257-261): 14,825 synapses of eight
animals. Ranges are from the least to the largest value of an animal. Numbers are facts; no data are
copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "MANY_PARTNERS",
    "MEAN_PARTNERS",
    "MOST_PARTNERS",
    "PARTNERS",
    "SECTIONS",
    "SHARES_AT_OR_BELOW",
    "SINGLE_SECTION",
    "SOURCE",
    "VOLUME_NM3",
    "Range",
]

SOURCE = "C. elegans, eight animals (Witvliet et al. 2021)"


@dataclass(frozen=True, slots=True)
class Range:
    """From the least to the largest value of an animal."""

    low: float
    high: float

    def meets(self, low: float, high: float) -> bool:
        """Whether a range has a value in common with this one."""
        return low <= self.high and high >= self.low


MEAN_PARTNERS = Range(2.10, 2.32)
"""Postsynaptic partners of a synapse, on average."""

MANY_PARTNERS = 4
"""The last group of `PARTNERS` is of synapses with so many, or more."""

PARTNERS: Mapping[int, Range] = {
    1: Range(0.10, 0.18),
    2: Range(0.55, 0.65),
    3: Range(0.17, 0.26),
    MANY_PARTNERS: Range(0.03, 0.08),
}
"""Share of the synapses by their number of partners."""

MOST_PARTNERS = 7

VOLUME_NM3: Mapping[float, Range] = {
    0.05: Range(69_000, 144_000),
    0.5: Range(212_000, 448_000),
    0.95: Range(621_000, 1_640_000),
}
"""Percentiles of the volume of the active zone, nm3."""

SECTIONS: Mapping[float, Range] = {0.5: Range(3, 4), 0.95: Range(7, 11)}
"""Percentiles of the number of sections of a synapse."""

SINGLE_SECTION = Range(0.003, 0.091)
"""Share of the synapses with a single section."""

SHARES_AT_OR_BELOW: Mapping[float, float] = {0.01: 0.0019, 0.05: 0.028, 0.1: 0.073}
"""Part of all partners whose share is at most so much; of all animals together."""
