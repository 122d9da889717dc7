"""One stage on a queue: enqueue what is missing bit by bit, and wait for its records.

The store is the truth. A queue only hands tasks out: what it loses is enqueued again, what it gives
twice is passed over or gives the same bytes. SQS cannot count, so nothing here trusts its counts.
"""

from __future__ import annotations

import functools
import logging
import time
from dataclasses import dataclass, field
from typing import Protocol

from taskqueue import TaskQueue

from cnapse.errors import RunStateError, StorageError
from cnapse.store import local_path
from cnapse_tasks import queues
from cnapse_tasks.failures import Kind, kind_of, wait_seconds
from cnapse_tasks.ledger import Ledger
from cnapse_tasks.pending import Pending
from cnapse_tasks.pool import WorkerPool
from cnapse_tasks.run import Run
from cnapse_tasks.stages import Stage
from cnapse_tasks.task import CANCELLED, run_task

__all__ = ["Dispatch", "Place", "Progress"]

log = logging.getLogger("cnapse.driver")

_SHORTEST_PAUSE = 0.02
_LONGEST_PAUSE = {"here": 0.3, "elsewhere": 5.0}
# Listing takes at most this part of the driver's time.
_LISTING_SHARE = 0.25
_PROBE_SECONDS = 2.0
_BATCH = 2000
# Enough for thousands of workers; a folder of more files is slow to list, SQS has no such limit.
_IN_FLIGHT = {"fq": 20_000, "sqs": 100_000}
# SQS counts may be a minute late.
_COUNTS_LATE_SECONDS = 90.0
_SILENCE_SECONDS = 600.0
_OUTAGE_TRIES = 30


class Progress(Protocol):
    """What a driver tells while it works."""

    def begin(self, stage: str, total: int, done: int) -> None:
        """A stage begins, some of it done in earlier runs."""

    def update(self, done: int) -> None:
        """So many tasks of the stage are done."""

    def end(self) -> None:
        """The stage is complete, or given up."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where tasks are worked at: a queue, and the workers of this machine that poll it, if any."""

    queue: TaskQueue
    pool: WorkerPool | None = None


@dataclass
class _Lost:
    """Suspects that the queue lost tasks: it is empty, or nothing came for long."""

    lease: float
    is_sqs: bool
    empty_since: float | None = None
    news_at: float = field(default_factory=time.monotonic)
    silence: float = 0.0
    count: int = -1

    def __post_init__(self) -> None:
        self.silence = max(_SILENCE_SECONDS, 10 * self.lease)

    def note(self, left: int) -> None:
        """So many tasks are left now."""
        if left != self.count:
            self.count, self.news_at = left, time.monotonic()

    def is_empty(self, enqueued: int) -> bool:
        """Whether the queue was empty for so long that what is awaited is not in it."""
        now = time.monotonic()
        self.empty_since = None if enqueued else self.empty_since or now
        late = _COUNTS_LATE_SECONDS if self.is_sqs else 0.0
        if self.empty_since is None or now - self.empty_since <= self.lease + late:
            return False
        self.empty_since = None
        return True

    def is_silent(self) -> bool:
        """Whether nothing came for long; twice as long the next time."""
        if time.monotonic() - self.news_at <= self.silence:
            return False
        self.silence *= 2
        self.news_at = time.monotonic()
        return True


class Dispatch:
    """The tasks of one stage, from the first to the last record."""

    def __init__(self, run: Run, stage: Stage, key: str, making: str, place: Place) -> None:
        self._run = run
        self._stage = stage
        self._key = key
        self._making = making
        self._place = place
        self._ledger: Ledger = stage.ledger(run)
        is_sqs = queues.is_sqs(place.queue.qurl)
        self._window = _IN_FLIGHT["sqs" if is_sqs else "fq"]
        self._lost = _Lost(run.config.tasks.lease_seconds, is_sqs)
        self._probe_at = time.monotonic()

    def finish(self, pending: Pending, progress: Progress) -> None:
        """Enqueue what is missing, and wait until each task is done or given up.

        Raises
        ------
        RunStateError
            If the run was cancelled, or another driver makes the stage anew.
        StorageError
            If the disk is full, or store or queue cannot be reached for long.
        """
        pause, outages = _SHORTEST_PAUSE, 0
        longest = _LONGEST_PAUSE["here" if self._place.pool else "elsewhere"]
        while True:
            try:
                began = time.monotonic()
                pending.refresh()
                listing = time.monotonic() - began
                progress.update(pending.done)
                # What the disk refuses to one task it refuses to the others.
                if not pending.left or _is_refused(pending):
                    return
                self._look_after(pending)
                batch = pending.unsent(min(_BATCH, self._window - pending.in_flight))
                self._insert(pending, batch)
                outages = 0
            except Exception as error:
                outages += 1
                if kind_of(error) is not Kind.TRANSIENT or outages > _OUTAGE_TRIES:
                    raise
                log.warning("%s: trying again", error)
                time.sleep(wait_seconds(Kind.TRANSIENT, outages))
                continue
            if len(batch) == _BATCH:
                continue
            time.sleep(max(pause, listing / _LISTING_SHARE))
            pause = min(1.5 * pause, longest)

    def _insert(self, pending: Pending, batch: list[int]) -> None:
        output = self._run.config.output
        tasks = (
            functools.partial(run_task, output, self._stage.name, index, self._key)
            for index in batch
        )
        try:
            if batch:
                queues.insert(self._place.queue, tasks)
        except BaseException:
            pending.lost(batch)
            raise

    def _look_after(self, pending: Pending) -> None:
        """Notice dead workers, what the queue lost, a full disk, and other drivers."""
        for pid in self._place.pool.replace_dead() if self._place.pool else ():
            # Its lease would keep the task from the others for a while.
            pending.lost(self._ledger.begun_by(pid))
        now = time.monotonic()
        self._lost.note(pending.left)
        if now < self._probe_at:
            return
        self._probe_at = now + _PROBE_SECONDS
        # On a full disk workers cannot even note that they failed. A bucket does not fill.
        if local_path(self._run.output.path) is not None:
            self._run.output.check_writable()
        self.check_in_force()
        enqueued = queues.count(self._place.queue)
        lost = 0
        if self._lost.is_empty(enqueued.waiting + enqueued.leased + enqueued.delayed):
            lost = pending.all_lost()
        elif self._lost.is_silent():
            lost = pending.all_lost(but=self._ledger.at_hand())
        if lost:
            log.warning("%s: the queue lost %d tasks; enqueued again", self._stage.name, lost)

    def check_in_force(self) -> None:
        """Check that nobody cancelled the run, or makes the stage anew.

        Raises
        ------
        RunStateError
            If somebody does.
        """
        if self._run.store.exists(CANCELLED):
            raise RunStateError(
                f"the run {self._run.config.output} was cancelled: `cnapse run` goes on with it"
            )
        plan = self._ledger.plan()
        if plan is None or plan.get("making") != self._making:
            raise RunStateError(
                f"stage {self._stage.name} of {self._run.config.output} is being made anew by "
                "another driver: this one stops; run the same command again to join it"
            )


def _is_refused(pending: Pending) -> bool:
    refused = f"{StorageError.__name__}:"
    return any(failure.reason.startswith(refused) for failure in pending.failures.values())
