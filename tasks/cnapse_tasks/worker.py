"""Work off a queue: tries, lease renewal, signals and records round python-task-queue.

python-task-queue alone retries for ever, lets leases run out under a long task and dies on SIGTERM
with its lease held.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from taskqueue import QueueEmptyError, TaskQueue, queueable

from cnapse.config import Config
from cnapse.errors import CnapseError, ConfigError
from cnapse.store import Store
from cnapse_tasks.ledger import Ledger
from cnapse_tasks.run import Run
from cnapse_tasks.stages import STAGES

__all__ = ["WorkerReport", "open_queue", "run_task", "work"]

log = logging.getLogger("cnapse.worker")

_IDLE_PAUSE = (0.02, 0.25)
# A process that is killed cannot say why; a task that kills many is set aside all the same.
_DEATHS_PER_TRY = 3


@functools.lru_cache(maxsize=8)
def _context(output: str, stage: str, key: str) -> Run | None:
    """The run of a task, or None if the stage is being made with another key by now."""
    plan = Ledger(Store(output).child(".cnapse"), stage).plan()
    if plan is None or plan["key"] != key:
        return None
    config: Any = plan["config"]
    return Run(Config.from_dict(config, f"{output}/.cnapse/{stage}/stage.json"))


@queueable  # type: ignore[untyped-decorator]
def run_task(output: str, stage: str, index: int, key: str) -> None:
    """Do one task of a stage and leave its record; the unit that lies in a queue.

    Parameters
    ----------
    output : str
        Where the run keeps its results.
    stage : str
    index : int
        The task's number; its boxes follow from the configuration.
    key : str
        Key of the stage when the task was made: tasks of an older key are passed over.
    """
    run = _context(output, stage, key)
    if run is None:
        log.warning("%s %d: made for parameters that are no longer in force", stage, index)
        return
    ledger = STAGES[stage].ledger(run)
    if ledger.is_done(index):
        return
    tries = run.config.tasks.tries
    if ledger.begin(index) > _DEATHS_PER_TRY * tries:
        ledger.set_aside(index, "the worker died each time (killed, or out of memory)")
        return
    started = time.perf_counter()
    try:
        facts = STAGES[stage].module.execute(run, index)
    except Exception as error:
        # What cnapse says itself does not change by trying again.
        if ledger.fail(index, error) >= tries or isinstance(error, CnapseError):
            ledger.set_aside(index)
            log.error("%s %d was set aside: %s", stage, index, error)  # noqa: TRY400 - kept in the ledger
            return
        raise
    ledger.record(index, key, {**facts, "seconds": round(time.perf_counter() - started, 3)})


@dataclass
class WorkerReport:
    """What a worker did."""

    executed: int = 0
    failed: int = 0


@dataclass
class _Signals:
    """SIGTERM and SIGINT: finish the task at hand, then stop; the second one stops at once."""

    stop: bool = False
    previous: dict[int, Any] = field(default_factory=dict)

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self.previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: object) -> None:
        if self.stop:
            raise SystemExit(128 + number)
        self.stop = True
        log.info("stopping after this task; once more to stop at once")


@contextlib.contextmanager
def _lease_kept(queue: TaskQueue, task: Any, seconds: int) -> Iterator[None]:
    """Renew a task's lease while it runs."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(seconds / 3):
            try:
                queue.renew(task, seconds)
            except Exception as error:
                log.warning("could not renew the lease: %s", error)

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def open_queue(url: str) -> TaskQueue:
    """A queue by its URL: ``fq://folder``, ``sqs://name``.

    Raises
    ------
    ConfigError
        If the URL is of no protocol that python-task-queue has.
    """
    from taskqueue.taskqueue import UnsupportedProtocolError

    if "://" not in url:
        raise ConfigError(f"{url!r} is no queue: give fq://FOLDER or sqs://NAME")
    try:
        return TaskQueue(url, progress=False, n_threads=1)
    except UnsupportedProtocolError as error:
        raise ConfigError(f"{url!r} is no queue: give fq://FOLDER or sqs://NAME") from error


def work(
    url: str,
    *,
    lease_seconds: int = 60,
    idle_seconds: float | None = None,
    with_parent: bool = False,
) -> WorkerReport:
    """Work off a queue until a signal comes, or it was empty for a while.

    Parameters
    ----------
    url : str
        ``fq://folder`` or ``sqs://name``.
    lease_seconds : int
        How long a task is out of others' sight; renewed while it runs.
    idle_seconds : float, optional
        Stop when the queue gave nothing for so long; None waits for ever.
    with_parent : bool
        Stop when the process that started this one is gone.
    """
    queue = open_queue(url)
    report = WorkerReport()
    parent = os.getppid()
    idle_since = time.monotonic()
    pause = _IDLE_PAUSE[0]
    with _Signals() as signals:
        while not signals.stop and not (with_parent and os.getppid() != parent):
            try:
                task = queue.lease(seconds=lease_seconds)
            except QueueEmptyError:
                if idle_seconds is not None and time.monotonic() - idle_since > idle_seconds:
                    break
                time.sleep(pause)
                pause = min(2 * pause, _IDLE_PAUSE[1])
                continue
            except ValueError as error:
                raise ConfigError(f"{url} holds a message that is no task: {error}") from error
            _execute(queue, task, lease_seconds, report)
            idle_since, pause = time.monotonic(), _IDLE_PAUSE[0]
    return report


def _execute(queue: TaskQueue, task: Any, lease_seconds: int, report: WorkerReport) -> None:
    from taskqueue.queueablefns import UnregisteredFunctionError

    try:
        with _lease_kept(queue, task, lease_seconds):
            task.execute()
    except UnregisteredFunctionError as error:
        queue.cancel(task)
        raise ConfigError(f"{queue.qurl} holds tasks that are not cnapse's: {error}") from error
    except Exception:
        report.failed += 1
        log.exception("a task failed and will be tried again")
        queue.cancel(task)
    except SystemExit:
        queue.cancel(task)
        raise
    else:
        report.executed += 1
        queue.delete(task)


def main() -> None:
    """Work as a driver's local worker: ``python -m cnapse_tasks URL LEASE_SECONDS``."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(message)s")
    work(sys.argv[1], lease_seconds=int(sys.argv[2]), with_parent=True)
