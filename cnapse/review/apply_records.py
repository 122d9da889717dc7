"""Records of applying a log: what decisions are applied to, what comes of them, and conflicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy.typing as npt

from cnapse.geometry import Box
from cnapse.review.apply_carry import Carrier
from cnapse.review.apply_objects import Objects
from cnapse.review.decisions import AddDecision, Decision, PartnersDecision, VerdictDecision
from cnapse.store import Store

__all__ = [
    "Cells",
    "Conflict",
    "ConflictKind",
    "Outcome",
    "Plan",
    "Predictions",
    "Settings",
    "Source",
]

ConflictKind = Literal[
    "gone", "ambiguous", "contradiction", "prediction", "impossible", "dust", "partner"
]
Cells = tuple[int, frozenset[int]]
Predictions = Callable[[int], Cells]
"""Gives the presynaptic cell and the partners that the run found for a synapse of its table."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How decisions are applied.

    Parameters
    ----------
    unsure
        Whether synapses of which a reviewer was not sure are kept.
    threshold, min_voxels
        Of the run's objects.
    """

    unsure: Literal["keep", "drop"] = "keep"
    threshold: float = 0.5
    min_voxels: int = 1


@dataclass(frozen=True, slots=True)
class Source:
    """A run, as far as decisions need it.

    Parameters
    ----------
    objects : Objects
        Of its layer, not edited yet.
    carrier : Carrier
        Of its table.
    predicted : callable
        What it says of a synapse's cells.
    probability : callable, optional
        Gives the probability over a box, uint8.
    repaints : Store
        The folder in which repainted boxes are kept.
    """

    objects: Objects
    carrier: Carrier
    predicted: Predictions
    probability: Callable[[Box], npt.NDArray[Any]] | None
    repaints: Store


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a decision: the objects it is about now, and what was done."""

    decision: Decision
    now: tuple[int, ...]
    matched: str
    what: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """What a person should look at again."""

    decision: Decision
    now: int
    kind: ConflictKind
    what: str


@dataclass(slots=True)
class Plan:
    """What is to be made of the run.

    Attributes
    ----------
    objects : Objects
        After all edits.
    confirmed, partners : dict of synapse id to decision
        Verdicts "true", and cells, of synapses that there are then.
    added : dict of synapse id to decision
    edited : dict of synapse id to decision
        The last decision that changed an object's voxels.
    outcomes, conflicts : list
    """

    objects: Objects
    confirmed: dict[int, VerdictDecision] = field(default_factory=dict)
    partners: dict[int, PartnersDecision] = field(default_factory=dict)
    added: dict[int, AddDecision] = field(default_factory=dict)
    edited: dict[int, Decision] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
