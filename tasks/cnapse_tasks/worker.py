"""Work off a queue: leases, signals, memory and logs round python-task-queue.

python-task-queue alone retries for ever, lets leases run out under a long task, dies on SIGTERM
with its lease held, and dies of a message that is no task.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from taskqueue import TaskQueue

from cnapse.errors import CnapseError
from cnapse_tasks import logs, queues
from cnapse_tasks.attendant import Watch
from cnapse_tasks.claims import current
from cnapse_tasks.failures import Kind, kind_of, tries_of, wait_seconds
from cnapse_tasks.processes import repeated
from cnapse_tasks.queues import Message, open_queue
from cnapse_tasks.task import Outcome, Result, run_of, run_task

__all__ = ["GRACE_SECONDS", "WorkerReport", "open_queue", "run_task", "work"]

log = logging.getLogger("cnapse.worker")

GRACE_SECONDS = 25.0
"""How long a task may still take after SIGTERM: clusters kill 30 s after it."""
_SHORTEST_PAUSE = 0.02
_LONG_POLL_SECONDS = 10.0
# What is no task of ours comes back later: somebody may want it, and it must not keep us busy.
_FOREIGN_SECONDS = 600
# Of a stage that this worker does not do: another one is to find it soon.
_OTHER_STAGE_SECONDS = 2
# Where the ledger cannot be read or written, another moment is better.
_NO_LEDGER_SECONDS = 5
_OUTAGE_TRIES = 20
_KEY = (run_task.__module__, run_task.__name__)


@dataclass
class WorkerReport:
    """What a worker did."""

    executed: int = 0
    failed: int = 0


def work(
    url: str,
    *,
    lease_seconds: int = 60,
    idle_seconds: float | None = None,
    with_parent: bool = False,
    grace_seconds: float = GRACE_SECONDS,
    memory_gb: float | None = None,
    stages: Sequence[str] = (),
    longest_pause: float = 0.25,
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
    grace_seconds : float
        How long a task may take after SIGTERM, until it is given back.
    memory_gb : float, optional
        End when this process uses more, its task counted as failed.
    stages : sequence of str
        Do tasks of these stages only.
    longest_pause : float
        Seconds between looks into an empty folder; they double up to this.

    Raises
    ------
    ConfigError
        If there is no such queue.
    StorageError
        If it cannot be reached for some minutes, or refuses.
    """
    worker = _Worker(open_queue(url), lease_seconds, frozenset(stages))
    parent = os.getppid()
    idle_since = time.monotonic()
    pause, outages = _SHORTEST_PAUSE, 0
    with Watch(
        worker.give_back,
        grace_seconds=grace_seconds,
        memory_bytes=None if memory_gb is None else int(memory_gb * 1e9),
    ) as watch:
        while not watch.stop and not (with_parent and os.getppid() != parent):
            idle = time.monotonic() - idle_since
            left = None if idle_seconds is None else idle_seconds - idle
            try:
                wait = _LONG_POLL_SECONDS if left is None else min(left, _LONG_POLL_SECONDS)
                message = queues.lease(worker.queue, lease_seconds, wait)
                outages = 0
            except CnapseError as error:
                outages += 1
                if kind_of(error) is Kind.PERMANENT or outages > _OUTAGE_TRIES:
                    raise
                log.warning("%s: trying again", error)
                time.sleep(wait_seconds(Kind.TRANSIENT, outages))
                continue
            if message is not None and worker.serve(message):
                idle_since, pause = time.monotonic(), _SHORTEST_PAUSE
            elif left is not None and left < 0:
                break
            else:
                time.sleep(pause)
                pause = min(2 * pause, longest_pause)
    return worker.report


class _Worker:
    """One queue, and at most one message of it at hand."""

    def __init__(self, queue: TaskQueue, lease_seconds: int, stages: frozenset[str]) -> None:
        self.queue = queue
        self.report = WorkerReport()
        self._lease = lease_seconds
        self._stages = stages
        self._message: Message | None = None

    def serve(self, message: Message) -> bool:
        """Do what a message asks for; False if it was left to workers of other stages."""
        do = _function_of(message)
        if do is None:
            log.error(
                "%s holds a message that is no task of cnapse's (%s): passed over; `cnapse queue "
                "%s --purge` empties the queue", self.queue.qurl, message.problem or "foreign",
                self.queue.qurl,
            )  # fmt: skip
            self._settle(message, _FOREIGN_SECONDS)
            return True
        if self._stages and _stage_of(message) not in self._stages:
            self._settle(message, _OTHER_STAGE_SECONDS)
            return False
        self._message = message
        try:
            self._execute(message, do)
        finally:
            self._message = None
        return True

    def _execute(self, message: Message, do: Callable[[], object]) -> None:
        before = logs.io_bytes()
        renewals = [
            functools.partial(queues.renew, self.queue, message, self._lease),
            functools.partial(_renew_claim, self._lease),
        ]
        try:
            with repeated(self._lease / 3, renewals, log, "could not renew the lease"):
                result = do()
        except Exception as error:
            # Not the task's own failure, which its ledger has: the ledger could not be written.
            self.report.failed += 1
            log.exception("a task failed and will be tried again")
            self._settle(message, max(_NO_LEDGER_SECONDS, wait_seconds(kind_of(error), 1)))
            return
        except SystemExit:
            self._settle(message, 0)
            raise
        if not isinstance(result, Result):
            self.report.executed += 1
            self._settle(message, None)
            return
        self._tell(message, result, before)
        if result.outcome in (Outcome.AGAIN, Outcome.TAKEN):
            self.report.failed += result.outcome is Outcome.AGAIN
            self._settle(message, result.wait)
        else:
            self.report.executed += 1
            self._settle(message, None)

    def _tell(self, message: Message, result: Result, before: tuple[int, int] | None) -> None:
        output, stage, _, key = message.task.args
        try:
            run = run_of(output, stage, key)
            logs.tell(result, run, before)
        except Exception as error:
            log.warning("no log line for %s %d: %s", result.stage, result.index, error)

    def _settle(self, message: Message, seconds: float | None) -> None:
        """Delete a message, or show it to others after so many seconds."""
        try:
            if seconds is None:
                queues.delete(self.queue, message)
            else:
                queues.renew(self.queue, message, seconds)
        except Exception as error:
            # It comes back when its lease ends, and is passed over if it was done.
            log.warning("a message was neither deleted nor given back: %s", error)

    def give_back(self, error: BaseException | None) -> None:
        """Leave the task at hand to another worker; called from another thread."""
        message, claim = self._message, current()
        if message is None:
            return
        wait = 0.0
        if claim is not None:
            failed = claim.give_up(error)
            if error is not None:
                run = run_of(*_place(message))
                tries = run.config.tasks.tries if run is not None else 1
                wait = wait_seconds(kind_of(error), failed)
                if failed >= tries_of(kind_of(error), tries):
                    claim.ledger.set_aside(claim.index)
                    self._settle(message, None)
                    return
        self._settle(message, wait)


def _renew_claim(seconds: float) -> None:
    claim = current()
    if claim is not None:
        claim.renew(seconds)


def _function_of(message: Message) -> Callable[[], object] | None:
    """What to call, if this process knows it."""
    from taskqueue.queueablefns import UnregisteredFunctionError

    if message.task is None:
        return None
    try:
        function: Callable[[], object] = message.task.tofunc()
    except (Exception, UnregisteredFunctionError):
        return None
    return function if _is_well_formed(message.task) else None


def _is_well_formed(task: Any) -> bool:
    """Whether a task of ours has the arguments it needs."""
    if task.key != _KEY:
        return True
    kinds = (str, str, int, str)
    return len(task.args) == len(kinds) and all(map(isinstance, task.args, kinds))


def _stage_of(message: Message) -> str:
    return str(message.task.args[1]) if message.task.key == _KEY else ""


def _place(message: Message) -> tuple[str, str, str]:
    output, stage, _, key = message.task.args
    return output, stage, key
