"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from cnapse.errors import RunStateError
from cnapse.store import Store, local_path

__all__ = ["LOCK", "alone_in"]

LOCK = ".cnapse.lock"
"""The file that is held; one that a killed process left is nobody's."""


@contextlib.contextmanager
def alone_in(out: Store) -> Iterator[None]:
    """Hold a folder on this machine, or on a disk that several share, against other processes.

    The lock is the kernel's: a process that is killed holds nothing. Buckets know no locks: there
    nothing is held.

    Raises
    ------
    RunStateError
        If another process works there.
    """
    folder = local_path(out.path)
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    held = _hold(folder / LOCK)
    try:
        yield
    finally:
        # Before it is let go: who opened it meanwhile sees that it is gone.
        (folder / LOCK).unlink(missing_ok=True)
        os.close(held)


def _hold(path: Path) -> int:
    while True:
        held = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(held)
            raise RunStateError(
                f"{path.parent}: another process works in this folder: wait until it has ended, "
                "or give another folder"
            ) from error
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held), path.stat()):
                return held
        os.close(held)
