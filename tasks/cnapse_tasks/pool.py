"""Worker processes on this machine, replaced when they die."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Self

from cnapse.errors import RunStateError

__all__ = ["WorkerPool"]

# Malloc keeps big arrays instead of mapping them anew for each layer of a network: 1.5-2x there.
_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**33),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**28),
}
_STOP_SECONDS = 30
_DEATHS_IN_A_ROW = 20


class WorkerPool:
    """N worker processes that poll a queue, from `start` on; a context manager.

    Parameters
    ----------
    url : str
        The queue.
    count : int
        Number of processes.
    lease_seconds : int
    folder : Path
        Where their logs go.
    """

    def __init__(self, url: str, count: int, lease_seconds: int, folder: Path) -> None:
        self._command = [sys.executable, "-m", "cnapse_tasks", url, str(lease_seconds)]
        self._count = count
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._deaths = 0

    def __enter__(self) -> Self:
        return self

    def start(self) -> None:
        """Start the processes, unless they run already."""
        if not self._processes:
            self._processes = [self._start() for _ in range(self._count)]

    def __exit__(self, *exc: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def replace_dead(self) -> list[int]:
        """Start a new process for each that died; their process ids.

        Raises
        ------
        RunStateError
            If they keep dying: most likely they cannot start at all.
        """
        dead = [process for process in self._processes if process.poll() is not None]
        if not dead:
            return []
        self._deaths += len(dead)
        if self._deaths > _DEATHS_IN_A_ROW * self._count:
            raise RunStateError(f"workers keep dying; the last words of one: {self._last_words()}")
        self._processes = [p for p in self._processes if p.poll() is None]
        self._processes += [self._start() for _ in dead]
        return [process.pid for process in dead]

    def _start(self) -> subprocess.Popen[bytes]:
        threads = str(max(1, (os.cpu_count() or 1) // self._count))
        environment = {
            **_MEMORY,
            "OMP_NUM_THREADS": threads,
            "OMP_WAIT_POLICY": "PASSIVE",
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        with (self._folder / "workers.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )

    def _last_words(self) -> str:
        lines = (self._folder / "workers.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "none"
