"""One driver at a time decides what is made again, in any store, without a lock of the system.

Lamport's bakery: each driver draws a number one above all it sees, and goes in when nobody has a
smaller one. It needs a store where a file that was written is read and listed at once, as disks, S3
and Google's are. A driver that fell silent is passed over; silence is measured by the watcher's
clock, so clocks need not agree.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from cnapse.errors import FormatError
from cnapse.store import Store
from cnapse_tasks.processes import is_running, repeated

__all__ = ["one_at_a_time"]

log = logging.getLogger("cnapse.driver")

_BEAT_SECONDS = 5.0
_SILENT_SECONDS = 30.0
_LOOK_SECONDS = (0.05, 1.0)
_FOLDER = "entrance"


@contextlib.contextmanager
def one_at_a_time(store: Store) -> Iterator[None]:
    """Be the only driver of a run inside the block; others wait at its beginning."""
    ticket = _Ticket(store)
    try:
        ticket.draw()
        ticket.wait()
        with ticket.kept():
            yield
    finally:
        ticket.discard()


class _Ticket:
    def __init__(self, store: Store) -> None:
        self._store = store.child(_FOLDER)
        self._name = f"{uuid.uuid4().hex}.json"
        self._number = 0
        self._beat = 0
        self._seen: dict[str, tuple[object, float]] = {}

    def draw(self) -> None:
        """Take a number above all others'."""
        self._put(number=0)
        numbers = [int(note["number"]) for note in self._others().values()]
        self._number = 1 + max(numbers, default=0)
        self._put(number=self._number)

    def wait(self) -> None:
        """Wait until nobody with a smaller number is there, nor draws one."""
        told = False
        pause, longest = _LOOK_SECONDS
        beat_at = time.monotonic()
        while before := self._before():
            if not told:
                log.warning("waiting for another driver of this run (%s)", before)
                told = True
            if time.monotonic() - beat_at > _BEAT_SECONDS:
                self._put(number=self._number)
                beat_at = time.monotonic()
            time.sleep(pause)
            pause = min(2 * pause, longest)

    def _before(self) -> str:
        """Who goes first, if anybody does."""
        own = (self._number, self._name)
        for name, note in self._others().items():
            if int(note["number"]) == 0 or (int(note["number"]), name) < own:
                return f"process {note['pid']} on {note['host']}"
        return ""

    def _others(self) -> dict[str, dict[str, Any]]:
        """The notes of the others that were not silent for long."""
        found = {}
        now = time.monotonic()
        for name in self._store.names():
            if name == self._name:
                continue
            try:
                note = self._store.get_json(name)
            except FormatError:
                note = None
            if not isinstance(note, dict) or _is_gone(note):
                continue
            mark = (note.get("number"), note.get("beat"))
            if name not in self._seen or self._seen[name][0] != mark:
                self._seen[name] = (mark, now)
            if now - self._seen[name][1] < _SILENT_SECONDS:
                found[name] = note
        return found

    def kept(self) -> AbstractContextManager[None]:
        """Say again and again that this driver is alive."""
        tell = functools.partial(self._put, self._number)
        return repeated(_BEAT_SECONDS, [tell], log, "could not say that this driver is alive")

    def discard(self) -> None:
        """Leave."""
        with contextlib.suppress(Exception):
            self._store.delete([self._name])

    def _put(self, number: int) -> None:
        self._beat += 1
        note = {"number": number, "beat": self._beat, "pid": os.getpid()}
        self._store.put_json(self._name, note | {"host": socket.gethostname()})


def _is_gone(note: dict[str, Any]) -> bool:
    """Whether it was a process of this machine, and is no more: killed, it left its note."""
    return note.get("host") == socket.gethostname() and not is_running(int(note["pid"]))
