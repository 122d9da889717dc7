"""Bring a run to its end: enqueue what is missing, wait for the records, go on to the next stage.

The store is the truth. A queue only hands tasks out: what it loses is enqueued again, what it gives
twice is passed over or gives the same bytes.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from taskqueue import TaskQueue

from cnapse.config import Config
from cnapse.errors import RunStateError, StorageError, TasksFailedError
from cnapse.store import local_path
from cnapse_tasks.ledger import Failure, Ledger, describe_changes, stage_key
from cnapse_tasks.pool import WorkerPool
from cnapse_tasks.run import Run
from cnapse_tasks.stages import Cost, Stage, components_of, stage_named, stages_of
from cnapse_tasks.worker import open_queue, run_task

__all__ = [
    "Options",
    "Progress",
    "StageStatus",
    "plan_costs",
    "run_stages",
    "status",
]

log = logging.getLogger("cnapse.driver")

_POLL_SECONDS = (0.02, 0.3)
_PROBE_SECONDS = 2.0


class Progress(Protocol):
    """What a driver tells while it works."""

    def begin(self, stage: str, total: int, done: int) -> None:
        """A stage begins, some of it done in earlier runs."""

    def update(self, done: int) -> None:
        """So many tasks of the stage are done."""

    def end(self) -> None:
        """The stage is complete, or given up."""


class _Silent:
    def begin(self, stage: str, total: int, done: int) -> None: ...
    def update(self, done: int) -> None: ...
    def end(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Options:
    """Which part of a run, and how.

    Parameters
    ----------
    first, last : str, optional
        Stages to begin and end with; default all.
    workers : int
        Processes on this machine; 0 leaves the work to the workers of a given queue.
    redo : bool
        Make again the stages whose parameters changed, and those after them; with `first`, that
        stage and those after it in any case.
    queue : str, optional
        URL of a queue that workers poll; default one of its own.
    """

    first: str | None = None
    last: str | None = None
    workers: int = 1
    redo: bool = False
    queue: str | None = None


@dataclass(frozen=True, slots=True)
class StageStatus:
    """How far a stage is."""

    stage: str
    total: int | None
    """None where it is known only after the stage before."""
    done: int
    aside: list[Failure] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every task has its record."""
        return self.total is not None and self.done >= self.total


def status(config: Config) -> list[StageStatus]:
    """How far each stage of a run is, by the records in its store."""
    run = Run(config)
    return [_stage_status(run, stage) for stage in stages_of(run)]


def _stage_status(run: Run, stage: Stage) -> StageStatus:
    ledger = stage.ledger(run)
    done = ledger.done()
    known = ledger.plan() is not None
    total = len(stage.module.indices(run)) if known else stage.module.cost(run).tasks
    return StageStatus(stage.name, total, len(done), ledger.aside())


def plan_costs(config: Config, options: Options) -> list[tuple[str, Cost]]:
    """What the chosen stages will read and write."""
    run = Run(config)
    run.check_overlap()
    return [(stage.name, stage.module.cost(run)) for stage in _chosen(run, options)]


def run_stages(config: Config, options: Options, progress: Progress | None = None) -> None:
    """Do what is missing of a run.

    Raises
    ------
    RunStateError
        If parameters changed since results were made, and `options.redo` is not set; or if stages
        before `options.first` are not complete.
    TasksFailedError
        If tasks of a stage were set aside; later stages are then not begun.
    StorageError
        If the output's disk is full or cannot be written to, before or while workers work.
    """
    run = Run(config)
    run.check_overlap()
    stages = _chosen(run, options)
    components = components_of(run)
    _check_upstream_complete(run, stages)
    run.output.check_writable()
    _forget_changed(run, stages, components, options)
    with _workplace(run, options) as (queue, pool):
        driver = _Driver(run, queue, pool, progress or _Silent())
        for stage in stages:
            driver.do(stage, components[stage.name])


def _chosen(run: Run, options: Options) -> list[Stage]:
    stages = stages_of(run)
    names = [stage.name for stage in stages]
    first = names.index(stage_named(options.first, run).name) if options.first else 0
    last = names.index(stage_named(options.last, run).name) if options.last else len(names) - 1
    if first > last:
        raise RunStateError(f"stage {names[first]} comes after {names[last]}: nothing to do")
    return stages[first : last + 1]


def _check_upstream_complete(run: Run, chosen: Sequence[Stage]) -> None:
    names = {stage.name for stage in chosen}
    present = {stage.name: stage for stage in stages_of(run)}
    needed = {up for stage in chosen for up in stage.upstream if up in present} - names
    for name in needed:
        state = _stage_status(run, present[name])
        if not state.complete:
            raise RunStateError(
                f"stage {name} is not complete ({state.done} of {state.total}), and "
                f"{chosen[0].name} needs it: begin with --from {name}"
            )


def _forget_changed(
    run: Run,
    chosen: Sequence[Stage],
    components: dict[str, dict[str, object]],
    options: Options,
) -> None:
    """Compare with what earlier runs left; forget what differs if that is wanted."""
    changes: list[str] = []
    outdated: set[str] = set()
    for stage in stages_of(run):
        plan = stage.ledger(run).plan()
        new = components[stage.name]
        if plan is not None and plan["key"] != stage_key(new):
            outdated.add(stage.name)
            old = plan["components"]
            if isinstance(old, dict):
                own = {k: v for k, v in old.items() if k != "upstream"}
                now = {k: v for k, v in new.items() if k != "upstream"}
                changes += describe_changes(own, now, f"{stage.name}.")
    if outdated and not options.redo:
        raise RunStateError(
            f"parameters changed since {run.config.output} was made: "
            f"{'; '.join(changes) or ', '.join(sorted(outdated))}. "
            "Take them back, choose another output, or make it again with --redo"
        )
    # What would be forgotten must be among what is made again, or the rest would read nothing.
    names = [stage.name for stage in stages_of(run)]
    early = [name for name in names[: names.index(chosen[0].name)] if name in outdated]
    if early:
        raise RunStateError(
            f"parameters of stage {early[0]} changed ({'; '.join(changes)}), and it comes before "
            f"{chosen[0].name}: begin with --from {early[0]} --redo"
        )
    if options.redo and options.first:
        outdated |= {chosen[0].name}
    for stage in stages_of(run):
        if outdated.intersection(stage.upstream):
            outdated.add(stage.name)
        if stage.name in outdated:
            _reset(run, stage)


def _reset(run: Run, stage: Stage) -> None:
    stage.ledger(run).reset()
    forget = getattr(stage.module, "forget", None)
    if forget is not None:
        forget(run)


@contextlib.contextmanager
def _workplace(run: Run, options: Options) -> Iterator[tuple[TaskQueue, WorkerPool | None]]:
    """A queue, and workers on this machine unless others poll it."""
    if options.queue is not None:
        yield open_queue(options.queue), None
        return
    store = local_path(run.store.path)
    folder = (
        Path(tempfile.mkdtemp(prefix="cnapse-queue-"))
        if store is None
        else store / "queue" / uuid.uuid4().hex
    )
    folder.mkdir(parents=True, exist_ok=True)
    url = f"fq://{folder}"
    try:
        with WorkerPool(url, options.workers, run.config.tasks.lease_seconds, folder) as pool:
            yield open_queue(url), pool
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()


@dataclass
class _Driver:
    """One stage after the other, on a queue."""

    run: Run
    queue: TaskQueue
    pool: WorkerPool | None
    progress: Progress

    def do(self, stage: Stage, components: dict[str, object]) -> None:
        """Do what is missing of a stage."""
        ledger = stage.ledger(self.run)
        key = stage_key(components)
        indices = stage.module.indices(self.run)
        missing = set(indices) - ledger.done()
        if missing:
            stage.module.prepare(self.run)
            if self.pool is not None:
                self.pool.start()
        ledger.open(key, components, self.run.config.model_dump(mode="json"))
        self.progress.begin(stage.name, len(indices), len(indices) - len(missing))
        try:
            self._insert(stage, key, sorted(missing))
            self._wait(stage, key, missing, len(indices))
        finally:
            self.progress.end()
        _raise_if_aside(ledger, len(indices))

    def _insert(self, stage: Stage, key: str, indices: Iterable[int]) -> None:
        output = self.run.config.output
        self.queue.insert(
            functools.partial(run_task, output, stage.name, index, key) for index in indices
        )

    def _wait(self, stage: Stage, key: str, missing: set[int], total: int) -> None:
        """Wait for the records of the missing tasks; enqueue again what got lost."""
        ledger = stage.ledger(self.run)
        lease = self.run.config.tasks.lease_seconds
        pause = _POLL_SECONDS[0]
        empty_since: float | None = None
        probe_at = time.monotonic() + _PROBE_SECONDS
        while True:
            left = missing - ledger.done()
            self.progress.update(total - len(left))
            failures = ledger.aside()
            left -= {failure.index for failure in failures}
            # What the disk refuses to one task it refuses to the others.
            if not left or any(f.reason.startswith(StorageError.__name__) for f in failures):
                return
            for pid in self.pool.replace_dead() if self.pool else ():
                # Its lease would keep the task from the others for a while.
                self._insert(stage, key, left.intersection(ledger.begun_by(pid)))
            now = time.monotonic()
            if now > probe_at:
                # On a full disk workers cannot even note that they failed.
                self.run.output.check_writable()
                probe_at = now + _PROBE_SECONDS
            empty_since = None if self.queue.enqueued else empty_since or now
            if empty_since and now - empty_since > lease:
                log.warning("%s: the queue lost %d tasks; enqueued again", stage.name, len(left))
                self._insert(stage, key, sorted(left))
                empty_since = None
            time.sleep(pause)
            pause = min(1.5 * pause, _POLL_SECONDS[1])


def _raise_if_aside(ledger: Ledger, total: int) -> None:
    failures = ledger.aside()
    if failures:
        first = failures[0]
        tries = "1 try" if first.tries == 1 else f"{first.tries} tries"
        raise TasksFailedError(
            f"stage {ledger.stage}: {len(failures)} of {total} tasks were set aside; task "
            f"{first.index} after {tries}: {first.reason}; all with their tracebacks: "
            "cnapse status. Run again to try them anew"
        )
