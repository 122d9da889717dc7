"""Doubt: its parts, how they combine, and what is unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.partners.doubt import PARTS, DoubtLimits, doubt, doubt_parts, with_doubt
from cnapse.tables import SynapseFlag

SURE: dict[str, Any] = {
    "flags": 0,
    "lost": 0.0,
    "near_cut": 0.0,
    "pre_fraction": 1.0,
    "voxels": 10**6,
    "mean_probability": 1.0,
    "disagreement": 0.0,
}


def parts_of(limits: DoubtLimits | None = None, **changes: Any) -> dict[str, float]:
    parts = doubt_parts(pd.DataFrame([{**SURE, **changes}]), limits)
    return {str(name): float(value) for name, value in parts.iloc[0].items()}


def test_there_is_nothing_to_doubt_in_a_clear_synapse() -> None:
    assert all(value < 1e-9 for value in parts_of().values())


@pytest.mark.parametrize(
    ("part", "changes", "value"),
    [
        ("unassigned", {"flags": int(SynapseFlag.NO_PRESYNAPTIC_CELL)}, 1),
        ("unassigned", {"flags": int(SynapseFlag.NO_EMITTERS)}, 1),
        ("unassigned", {"flags": int(SynapseFlag.NOTHING_HIT)}, 1),
        ("unassigned", {"flags": int(SynapseFlag.TOO_LARGE)}, 1),
        ("lost", {"lost": 0.3}, 0.3),
        ("near_cut", {"near_cut": 0.8}, 0.8),
        ("presynaptic", {"pre_fraction": 0.7}, 0.6),
        ("presynaptic", {"pre_fraction": 0.3}, 1),
        ("size", {"voxels": 100}, 1),
        ("size", {"voxels": 200}, 0.25),
        ("size", {"voxels": 5 * 10**6}, 0.25),
        ("probability", {"mean_probability": 0.6}, 1),
        ("probability", {"mean_probability": 0.8}, 0.5),
        ("border", {"flags": int(SynapseFlag.BORDER)}, 0.5),
        ("methods", {"disagreement": 0.1}, 0.1),
    ],
)
def test_each_part_comes_from_its_own_column(
    part: str, changes: dict[str, Any], value: float
) -> None:
    limits = DoubtLimits(min_voxels=100, max_voxels=10**7, threshold=0.6)
    found = parts_of(limits, **changes)
    assert found[part] == pytest.approx(value)
    assert all(other < 0.011 for name, other in found.items() if name != part)


def test_what_is_not_known_is_no_doubt() -> None:
    found = parts_of(mean_probability=np.nan, disagreement=np.nan, lost=np.nan, near_cut=np.nan)
    assert all(value < 1e-9 for value in found.values())


@given(st.lists(st.floats(0, 1), min_size=len(PARTS), max_size=len(PARTS)))
@settings(max_examples=30, deadline=None)
def test_doubt_grows_with_every_part_and_never_leaves_0_to_1(values: list[float]) -> None:
    parts = pd.DataFrame([dict(zip(PARTS, values, strict=True))])
    whole = float(doubt(parts)[0])
    assert max(values) - 1e-12 <= whole <= 1
    for name in PARTS:
        assert float(doubt(parts.assign(**{name: 1.0}))[0]) == pytest.approx(1)
        assert float(doubt(parts.assign(**{name: 0.0}))[0]) <= whole + 1e-12


def test_parts_are_named_largest_first() -> None:
    rows = [{**SURE, "lost": 0.1, "pre_fraction": 0.7, "near_cut": 0.01}, SURE]
    table = with_doubt(pd.DataFrame(rows))
    assert table["doubts"].tolist() == ["presynaptic 0.60|lost 0.10", ""]
    assert table["doubt"].iloc[0] == pytest.approx(1 - 0.4 * 0.9 * 0.99)
    assert table["doubt"].iloc[1] == pytest.approx(0, abs=1e-9)


def test_a_table_without_rows() -> None:
    table = with_doubt(pd.DataFrame([SURE]).head(0))
    assert list(table["doubt"]) == []
