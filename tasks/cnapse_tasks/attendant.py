"""What looks after a worker's task from outside of it: signals, memory.

It runs in a thread, so it works while the task is in compiled code.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

__all__ = ["Watch", "resident_bytes"]

log = logging.getLogger("cnapse.worker")

_STOPS = (signal.SIGTERM, signal.SIGINT)
_LOOK_SECONDS = 0.25
_STATM = Path("/proc/self/statm")


def resident_bytes() -> int | None:
    """Memory of this process that is in use, in bytes; None where the system does not tell."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


class Watch:
    """Signals and memory of a worker.

    The first SIGTERM or SIGINT sets `stop`: the worker ends after the task at hand. If that takes
    longer than the grace, or at a second signal, the task is given back and the process ends at
    once; so it does when it uses more memory than it may, with the task counted as failed.

    Parameters
    ----------
    give_back : callable
        Gives the task at hand back; gets the error that it failed with, or None.
    grace_seconds : float
    memory_bytes : int, optional
        Resident memory that the process may use.
    """

    def __init__(
        self,
        give_back: Callable[[BaseException | None], None],
        *,
        grace_seconds: float,
        memory_bytes: int | None = None,
    ) -> None:
        self.stop = False
        self._give_back = give_back
        self._grace = grace_seconds
        self._memory = memory_bytes
        self._previous: dict[int, Any] = {}
        self._previous_fd = -1
        self._ended = threading.Event()
        self._reader, self._writer = socket.socketpair()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        for end in (self._reader, self._writer):
            end.setblocking(False)
        if threading.current_thread() is threading.main_thread():
            # The number is written even while the main thread is in compiled code.
            self._previous_fd = signal.set_wakeup_fd(
                self._writer.fileno(), warn_on_full_buffer=False
            )
            for number in _STOPS:
                self._previous[number] = signal.signal(number, self._note)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        if self._previous:
            signal.set_wakeup_fd(self._previous_fd)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._thread.join()
        self._reader.close()
        self._writer.close()

    def _note(self, _number: int, _frame: object) -> None:
        self.stop = True

    def _watch(self) -> None:
        until: float | None = None
        while not self._ended.is_set():
            for number in self._signals():
                if until is not None:
                    self._leave(128 + number, None)
                self.stop = True
                until = time.monotonic() + self._grace
                log.info("stopping after this task; once more to stop at once")
            if until is not None and time.monotonic() > until:
                log.warning("the task was given back: it did not end in %g s", self._grace)
                self._leave(128 + signal.SIGTERM, None)
            self._check_memory()

    def _signals(self) -> list[int]:
        ready, _, _ = select.select([self._reader], [], [], _LOOK_SECONDS)
        return [number for number in (self._reader.recv(64) if ready else b"") if number in _STOPS]

    def _check_memory(self) -> None:
        used = resident_bytes() if self._memory else None
        if used is None or self._memory is None or used <= self._memory:
            return
        error = MemoryError(
            f"the worker used {used / 1e9:.2f} GB, and its limit is {self._memory / 1e9:.2f} GB"
        )
        log.error("%s: the worker ends, its task is tried again", error)
        self._leave(1, error)

    def _leave(self, code: int, error: BaseException | None) -> None:
        try:
            self._give_back(error)
        except Exception as failure:
            log.warning("the task at hand could not be given back: %s", failure)
        finally:
            logging.shutdown()
            sys.stdout.flush()
            # The main thread may be in compiled code for minutes, and heeds no exception there.
            os._exit(code)
