"""The task that this process has at hand, as its ledger knows it.

A message may come twice, and a run may have two drivers. So a worker notes what it is at, and says
so again while it works; others leave the task alone until it has been silent for a lease.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from cnapse_tasks.ledger import Ledger
from cnapse_tasks.processes import is_running

__all__ = ["Claim", "claimed", "current", "taken_seconds"]


class Claim:
    """A task at hand; its methods may be called from another thread."""

    def __init__(self, ledger: Ledger, index: int) -> None:
        self.ledger = ledger
        self.index = index
        self._lock = threading.Lock()
        self._ended = False

    def renew(self, seconds: float) -> None:
        """Say that the task is still worked at, and for how long to believe it."""
        with self._lock:
            if not self._ended:
                note = self.ledger.note(self.index)
                self.ledger.put_note(self.index, note | {"until": time.time() + seconds})

    def give_up(self, error: BaseException | None = None) -> int:
        """Leave the task to another: it counts as not begun, or as failed by this error.

        Returns
        -------
        int
            How often it failed.
        """
        with self._lock:
            if self._ended:
                return 0
            self._ended = True
            if error is not None:
                return self.ledger.fail(self.index, error)
            note = self.ledger.note(self.index)
            begun = max(0, int(note.get("begun", 1)) - 1)
            self.ledger.put_note(self.index, note | {"begun": begun, "until": 0.0})
            return 0

    def end(self) -> None:
        """What comes now writes the note itself."""
        with self._lock:
            self._ended = True


_current: Claim | None = None


def current() -> Claim | None:
    """The task at hand, if there is one."""
    return _current


@contextlib.contextmanager
def claimed(ledger: Ledger, index: int) -> Iterator[Claim]:
    """Make a task the one at hand."""
    global _current  # noqa: PLW0603 - a worker has one task at hand, and threads that look after it
    claim = Claim(ledger, index)
    _current = claim
    try:
        yield claim
    finally:
        claim.end()
        _current = None


def taken_seconds(note: dict[str, Any]) -> float:
    """How long another worker still is to be believed to be at a task; 0 if there is none."""
    left = float(note.get("until", 0.0)) - time.time()
    if left <= 0:
        return 0.0
    if note.get("host") != socket.gethostname():
        return left
    pid = int(note.get("pid", 0))
    return left if pid not in (0, os.getpid()) and is_running(pid) else 0.0
