"""Processes of this machine, and what one does beside its work."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence

__all__ = ["is_running", "repeated"]


def is_running(pid: int) -> bool:
    """Whether this machine has a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def repeated(
    seconds: float, actions: Sequence[Callable[[], object]], log: logging.Logger, failing: str
) -> Iterator[None]:
    """Call functions again and again, from a thread, until the block ends.

    Parameters
    ----------
    seconds : float
        From one time to the next, and to the first one.
    actions : sequence of callable
        What one raises is logged; it is called again the next time.
    log : Logger
    failing : str
        What it means when one raises.
    """
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(seconds):
            for action in actions:
                try:
                    action()
                except Exception as error:
                    log.warning("%s: %s", failing, error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
