"""What is recorded of a run, as its report needs it; the queue's side fills it in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["RunHistory", "StageHistory", "flat"]


@dataclass(frozen=True, slots=True)
class StageHistory:
    """One stage, by the records of its tasks.

    Attributes
    ----------
    name : str
    done : int
        Tasks with a record.
    total : int or None
        All of its tasks; None where that is not known.
    set_aside : tuple of str
        Why tasks were given up, one line each.
    task_seconds : float
        Of all tasks together.
    began, ended : float or None
        Seconds since 1970; None where there are no records.
    hosts : tuple of str
        Machines that did tasks.
    counts : mapping of str to int
        What the tasks counted, added up: voxels, synapses, rows.
    sampled : int
        Records that were read; where they are fewer than `done`, the sums are estimates.
    version : int
        Of the algorithm.
    key : str
        Digest of all that the results depend on.
    parameters : mapping of str to str
        What the results depend on, flat, as text.
    """

    name: str
    done: int
    total: int | None
    set_aside: tuple[str, ...] = ()
    task_seconds: float = 0.0
    began: float | None = None
    ended: float | None = None
    hosts: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    sampled: int = 0
    version: int = 0
    key: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every task is done."""
        return self.total is not None and self.done >= self.total

    @property
    def wall_seconds(self) -> float | None:
        """From the beginning of its first task to the end of the last."""
        if self.began is None or self.ended is None:
            return None
        return max(0.0, self.ended - self.began)


@dataclass(frozen=True, slots=True)
class RunHistory:
    """All stages of a run, in their order."""

    stages: tuple[StageHistory, ...] = ()


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as ``section.key`` and text, without those that are not set."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            found[f"{prefix}{key}"] = ", ".join(map(str, value))
        elif value is not None and value != "":
            found[f"{prefix}{key}"] = str(value)
    return found
