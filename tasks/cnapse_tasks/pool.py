"""Worker processes on this machine, replaced when they die."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from cnapse.errors import RunStateError

__all__ = ["WorkerPool", "work_in_processes"]

# Malloc keeps big arrays instead of mapping them anew for each layer of a network: 1.5-2x there.
_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**33),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**28),
}
_STOP_SECONDS = 30
_DEATHS_IN_A_ROW = 20
_LOOK_SECONDS = 0.2
# Processes that die sooner cannot start; those that die later die of their tasks.
_SHORT_LIFE_SECONDS = 10.0
_SHORT_LIVES = 5


class WorkerPool:
    """N worker processes that poll a queue, from `start` on; a context manager.

    Parameters
    ----------
    url : str
        The queue.
    count : int
        Number of processes.
    options : mapping
        Keywords of `cnapse_tasks.worker.work`, and ``log_format``.
    folder : Path, optional
        Where their logs go; default this process's own output.
    apart : bool
        Whether Ctrl-C in the terminal reaches this process only.
    """

    def __init__(
        self,
        url: str,
        count: int,
        options: Mapping[str, object],
        folder: Path | None = None,
        *,
        apart: bool = False,
    ) -> None:
        told = json.dumps(dict(options))
        self._command = [sys.executable, "-m", "cnapse_tasks", url, told]
        self._count = count
        self._folder = folder
        self._apart = apart
        self._processes: list[subprocess.Popen[bytes]] = []
        self._deaths = 0

    def __enter__(self) -> Self:
        return self

    def start(self) -> None:
        """Start the processes, unless they run already."""
        if not self._processes:
            self._processes = [self._start() for _ in range(self._count)]

    def __exit__(self, *exc: object) -> None:
        self.signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def signal(self, number: int) -> None:
        """Send a signal to every process."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(number)

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

    def ended(self) -> list[int]:
        """Take the processes that ended out of the pool; their exit codes."""
        codes = [code for process in self._processes if (code := process.poll()) is not None]
        self._processes = [p for p in self._processes if p.poll() is None]
        return codes

    def add(self) -> None:
        """Start one more process."""
        self._processes.append(self._start())

    def __len__(self) -> int:
        """How many there are."""
        return len(self._processes)

    def _start(self) -> subprocess.Popen[bytes]:
        threads = str(max(1, (os.cpu_count() or 1) // self._count))
        environment = {
            **_MEMORY,
            "OMP_NUM_THREADS": threads,
            "OMP_WAIT_POLICY": "PASSIVE",
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        with contextlib.ExitStack() as stack:
            log: Any = None
            if self._folder is not None:
                log = stack.enter_context((self._folder / "workers.log").open("ab"))
            return subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=self._apart,
            )

    def _last_words(self) -> str:
        if self._folder is None:
            return "see above"
        lines = (self._folder / "workers.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "none"


def work_in_processes(url: str, count: int, options: Mapping[str, object]) -> None:
    """Work off a queue with several processes, until they end or a signal comes.

    SIGTERM and SIGINT are passed on: the first lets each process end its task, the second does
    not. A process that dies, or used more memory than it may, is replaced.

    Parameters
    ----------
    url : str
    count : int
    options : mapping
        Keywords of `cnapse_tasks.worker.work`, and ``log_format``.

    Raises
    ------
    RunStateError
        If processes keep dying as soon as they start.
    """
    received: list[int] = []
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for stop in (signal.SIGTERM, signal.SIGINT):
            previous[stop] = signal.signal(stop, lambda n, _: received.append(n))
    short_lives = 0
    passed_on = 0
    try:
        with WorkerPool(url, count, {**options, "with_parent": True}, apart=True) as pool:
            pool.start()
            started = time.monotonic()
            while len(pool):
                while passed_on < len(received):
                    pool.signal(signal.SIGTERM)
                    passed_on += 1
                for code in pool.ended():
                    if code == 0 or received:
                        continue
                    is_short = time.monotonic() - started < _SHORT_LIFE_SECONDS
                    short_lives = short_lives + 1 if is_short else 0
                    if short_lives > _SHORT_LIVES * count:
                        raise RunStateError(
                            f"workers keep dying as soon as they start (exit code {code}): "
                            "see what they said above"
                        )
                    started = time.monotonic()
                    pool.add()
                time.sleep(_LOOK_SECONDS)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
