"""Which tasks of a stage are left: three bits a task, whatever their number.

Records are looked for by listing folders of a thousand, and only those in which something is
awaited; the list of all tasks is never made.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cnapse_tasks.ledger import FOLDER_TASKS, Failure, Ledger, folders_of

__all__ = ["Pending"]

_LISTERS = 16


class Pending:
    """The tasks of a stage, by what became of them.

    Parameters
    ----------
    ledger : Ledger
    indices : sequence of int
        All tasks of the stage, ascending; a range is not expanded.
    """

    def __init__(self, ledger: Ledger, indices: Sequence[int]) -> None:
        self._ledger = ledger
        self._indices = indices
        self._done = np.zeros(len(indices), np.bool_)
        self._sent = np.zeros(len(indices), np.bool_)
        self._aside = np.zeros(len(indices), np.bool_)
        self.failures: dict[int, Failure] = {}

    def __len__(self) -> int:
        """How many tasks the stage has."""
        return len(self._indices)

    @property
    def done(self) -> int:
        """How many have their record."""
        return int(np.count_nonzero(self._done))

    @property
    def left(self) -> int:
        """How many are neither done nor given up."""
        return len(self) - int(np.count_nonzero(self._done | self._aside))

    @property
    def in_flight(self) -> int:
        """How many were enqueued and are awaited."""
        return int(np.count_nonzero(self._sent & ~self._done & ~self._aside))

    def verify(self, key: str) -> None:
        """Read the records that are there: damaged ones, and those of another key, are deleted."""
        for folder in folders_of(self._indices):
            self._mark_done(self._ledger.whole(folder, key))

    def refresh(self) -> None:
        """Look which of the enqueued tasks are done or given up by now."""
        awaited = np.flatnonzero(self._sent & ~self._done)
        if awaited.size:
            self._list(np.unique(awaited // FOLDER_TASKS).tolist())
        now_aside = set(self._ledger.aside_indices())
        self.failures = {i: f for i, f in self.failures.items() if i in now_aside}
        for failure in self._ledger.aside(sorted(now_aside - self.failures.keys())):
            self.failures[failure.index] = failure
        before = self._aside.copy()
        self._aside[:] = False
        self._aside[self._positions(now_aside)] = True
        # What is no longer given up is to be tried again.
        self._sent &= ~(before & ~self._aside)

    def _list(self, parts: list[int]) -> None:
        """List the folders that hold so-and-so-many-th thousands of tasks."""
        folders: list[int] = []
        for part in parts:
            first = part * FOLDER_TASKS
            folders += folders_of(self._indices[first : first + FOLDER_TASKS])
        folders = sorted(set(folders))
        if len(folders) == 1 or self._ledger.store_is_local:
            for folder in folders:
                self._mark_done(self._ledger.done_in(folder))
            return
        with ThreadPoolExecutor(_LISTERS) as listers:
            for found in listers.map(self._ledger.done_in, folders):
                self._mark_done(found)

    def unsent(self, most: int) -> list[int]:
        """Indices of tasks to enqueue, in order, at most so many; they count as enqueued now."""
        waiting = np.flatnonzero(~(self._sent | self._done | self._aside))[: max(0, most)]
        self._sent[waiting] = True
        return [self._indices[position] for position in waiting.tolist()]

    def lost(self, indices: Iterable[int]) -> int:
        """Enqueue these tasks again, as far as they are awaited; how many they are."""
        chosen = self._positions(indices)
        chosen = chosen[self._sent[chosen] & ~self._done[chosen] & ~self._aside[chosen]]
        self._sent[chosen] = False
        return int(chosen.size)

    def all_lost(self, but: Iterable[int] = ()) -> int:
        """Enqueue all awaited tasks again, but for these; how many they are."""
        chosen = self._sent & ~self._done & ~self._aside
        chosen[self._positions(but)] = False
        self._sent &= ~chosen
        return int(np.count_nonzero(chosen))

    def _mark_done(self, indices: Iterable[int]) -> None:
        self._done[self._positions(indices)] = True

    def _positions(self, indices: Iterable[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        found = []
        for index in indices:
            position = bisect.bisect_left(self._indices, index)
            if position < len(self._indices) and self._indices[position] == index:
                found.append(position)
        return np.asarray(found, np.int64)
