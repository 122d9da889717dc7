"""Requests to an object store, and what a stage does beside its records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cnapse_tasks.planning.spans import Spans

__all__ = ["Counted", "Requests"]


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests to the object store, by the kinds that are paid for; expected numbers."""

    get: float = 0.0
    """HEAD included: it costs the same."""
    put: float = 0.0
    list: float = 0.0
    delete: float = 0.0

    def __add__(self, other: Requests) -> Requests:
        return Requests(
            self.get + other.get,
            self.put + other.put,
            self.list + other.list,
            self.delete + other.delete,
        )

    def times(self, n: float) -> Requests:
        """So many of them."""
        return Requests(n * self.get, n * self.put, n * self.list, n * self.delete)


@dataclass(frozen=True, slots=True)
class Counted:
    """What a stage does beside its records."""

    voxels: int
    requests: Requests
    work: Mapping[str, float]
    block: Spans | None = None
    """The boxes that one task holds, for its memory."""
    predicted: int = 0
    """Voxels that `detect` gives a probability."""
    bytes_read: float = 0.0
    bytes_written: float = 0.0
