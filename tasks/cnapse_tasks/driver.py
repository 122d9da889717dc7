"""Bring a run to its end: enqueue what is missing, wait for the records, go on to the next stage.

The store is the truth. A queue only hands tasks out: what it loses is enqueued again, what it gives
twice is passed over or gives the same bytes.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cnapse.config import Config
from cnapse.errors import RunStateError, TasksFailedError
from cnapse.store import local_path
from cnapse_tasks.dispatch import Dispatch, Place, Progress
from cnapse_tasks.entrance import one_at_a_time
from cnapse_tasks.ledger import Failure, Ledger, describe_changes, stage_key
from cnapse_tasks.outputs import check_output
from cnapse_tasks.pending import Pending
from cnapse_tasks.pool import WorkerPool
from cnapse_tasks.queues import open_queue
from cnapse_tasks.run import Run
from cnapse_tasks.stages import STAGES, Cost, Stage, components_of, stage_named, stages_of
from cnapse_tasks.task import CANCELLED, IN_FORCE_SECONDS

__all__ = [
    "Options",
    "Progress",
    "StageStatus",
    "cancel",
    "plan_costs",
    "retry",
    "run_stages",
    "status",
]

log = logging.getLogger("cnapse.driver")

_GPU_STAGES = frozenset({"detect"})
_STRAGGLER_LOOK_SECONDS = 1.0
_RATE_SECONDS = 600.0
_RATE_SAMPLE = 200


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
    gpu_queue : str, optional
        URL of a queue for `detect` alone, polled by workers that have a GPU.
    """

    first: str | None = None
    last: str | None = None
    workers: int = 1
    redo: bool = False
    queue: str | None = None
    gpu_queue: str | None = None


@dataclass(frozen=True, slots=True)
class StageStatus:
    """How far a stage is."""

    stage: str
    total: int | None
    """None where it is known only after the stage before."""
    done: int
    aside: list[Failure] = field(default_factory=list)
    tasks_per_second: float = 0.0
    """Over the last minutes; 0 where nothing was done in them."""

    @property
    def seconds_left(self) -> float | None:
        """How long it takes on at this rate; None where that is not known, or it is complete."""
        if self.total is None or self.complete or not self.tasks_per_second:
            return None
        return (self.total - self.done) / self.tasks_per_second

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
    rate = 0.0 if total is None or len(done) >= total else _rate(ledger, sorted(done))
    return StageStatus(stage.name, total, len(done), ledger.aside(), rate)


def _rate(ledger: Ledger, done: Sequence[int]) -> float:
    """Tasks a second over the last minutes, from the records of some of the tasks."""
    sample = done[:: max(1, len(done) // _RATE_SAMPLE)]
    now = time.time()
    ended = [float(str(r["ended"])) for i in sample if (r := ledger.record_of(i)) and "ended" in r]
    recent = [at for at in ended if now - at < _RATE_SECONDS]
    if not recent:
        return 0.0
    return len(recent) / len(ended) * len(done) / max(1.0, now - min(recent))


def plan_costs(config: Config, options: Options) -> list[tuple[str, Cost]]:
    """What the chosen stages will read and write."""
    run = Run(config)
    run.check_overlap()
    return [(stage.name, stage.module.cost(run)) for stage in _chosen(run, options)]


def run_stages(config: Config, options: Options, progress: Progress | None = None) -> None:
    """Do what is missing of a run.

    Several drivers may work on one run: what one has enqueued or made, the others find.

    Raises
    ------
    RunStateError
        If parameters changed since results were made, and `options.redo` is not set; if stages
        before `options.first` are not complete; if somebody cancels the run, or makes it anew.
    TasksFailedError
        If tasks of a stage were set aside; later stages are then not begun.
    StorageError
        If the output's disk is full or cannot be written to, before or while workers work.
    LayerExistsError
        If the output has layers or tables that no run made, and `options.redo` is not set.
    """
    run = Run(config)
    run.check_overlap()
    stages = _chosen(run, options)
    components = components_of(run)
    check_output(run, redo=options.redo)
    _check_upstream_complete(run, stages)
    run.output.check_writable()
    with _workplaces(run, options) as places:
        with one_at_a_time(run.store):
            run.store.delete([CANCELLED])
            _forget_changed(run, stages, components, options)
        driver = _Driver(run, components, places, progress or _Silent())
        for stage in stages:
            driver.do(stage)


def cancel(config: Config) -> None:
    """Stop a run wherever its drivers and workers are; the next one goes on with it.

    Drivers end within seconds, workers pass over the tasks that are left in queues.
    """
    run = Run(config)
    if not run.store.names():
        raise RunStateError(f"{config.output} has no run to cancel: check `output` in cnapse.toml")
    run.store.put_json(CANCELLED, {"time": time.time()})


def retry(config: Config) -> dict[str, int]:
    """Make tasks that were set aside new again, for a driver at work or the next run.

    Returns
    -------
    dict of str to int
        How many, by stage.
    """
    run = Run(config)
    found = {stage.name: stage.ledger(run).retry() for stage in stages_of(run)}
    return {name: number for name, number in found.items() if number}


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
    # Also what an earlier run made and this one does not, such as meshes: it would be stale.
    for stage in STAGES.values():
        if outdated.intersection(stage.upstream):
            outdated.add(stage.name)
    _reset(
        run,
        [
            stage
            for stage in STAGES.values()
            if stage.name in outdated and (stage.name in names or stage.ledger(run).store.names())
        ],
        options,
    )


def _reset(run: Run, stages: Sequence[Stage], options: Options) -> None:
    """Forget stages; workers that are at them still are waited for."""
    known = [stage for stage in stages if stage.ledger(run).store.names()]
    for stage in known:
        stage.ledger(run).close()
    _wait_for_stragglers(run, known, is_shared=options.queue is not None)
    for stage in stages:
        stage.ledger(run).reset()
        forget = getattr(stage.module, "forget", None)
        if forget is not None:
            forget(run)


def _wait_for_stragglers(run: Run, stages: Sequence[Stage], *, is_shared: bool) -> None:
    """Wait until no worker writes what is to be made anew."""
    if is_shared and stages:
        # Workers may believe for so long that the stage is still to be made.
        time.sleep(IN_FORCE_SECONDS)
    told = False
    while any(stage.ledger(run).at_hand() for stage in stages):
        if not told:
            log.warning("waiting for workers that are still at tasks of older parameters")
            told = True
        time.sleep(_STRAGGLER_LOOK_SECONDS)


@contextlib.contextmanager
def _workplaces(run: Run, options: Options) -> Iterator[Mapping[str, Place]]:
    """Queues by what stages need; with workers on this machine, unless others poll them."""
    if options.queue is not None:
        place = Place(open_queue(options.queue))
        gpu = Place(open_queue(options.gpu_queue)) if options.gpu_queue else place
        yield {"cpu": place, "gpu": gpu}
        return
    store = local_path(run.store.path)
    folder = (
        Path(tempfile.mkdtemp(prefix="cnapse-queue-"))
        if store is None
        else store / "queue" / uuid.uuid4().hex
    )
    folder.mkdir(parents=True, exist_ok=True)
    url = f"fq://{folder}"
    told = {"lease_seconds": run.config.tasks.lease_seconds, "with_parent": True}
    try:
        with WorkerPool(url, options.workers, told, folder) as pool:
            place = Place(open_queue(url), pool)
            yield {"cpu": place, "gpu": place}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()


@dataclass
class _Driver:
    """One stage after the other."""

    run: Run
    components: Mapping[str, dict[str, object]]
    places: Mapping[str, Place]
    progress: Progress

    def do(self, stage: Stage) -> None:
        """Do what is missing of a stage."""
        ledger = stage.ledger(self.run)
        components = self.components[stage.name]
        key = stage_key(components)
        pending = Pending(ledger, stage.module.indices(self.run))
        pending.verify(key)
        place = self.places["gpu" if stage.name in _GPU_STAGES else "cpu"]
        if pending.left:
            stage.module.prepare(self.run)
            if place.pool is not None:
                place.pool.start()
        # Of two drivers that find no plan, one makes it.
        with one_at_a_time(self.run.store):
            making = ledger.open(key, components, self.run.config.model_dump(mode="json"))
        self.progress.begin(stage.name, len(pending), pending.done)
        try:
            Dispatch(self.run, stage, key, making, place).finish(pending, self.progress)
        finally:
            self.progress.end()
        _raise_if_aside(stage.name, list(pending.failures.values()), len(pending))
        finish = getattr(stage.module, "finish", None)
        if finish is not None:
            finish(self.run)


def _raise_if_aside(stage: str, failures: Sequence[Failure], total: int) -> None:
    if failures:
        first = min(failures, key=lambda failure: failure.index)
        tries = "1 try" if first.tries == 1 else f"{first.tries} tries"
        raise TasksFailedError(
            f"stage {stage}: {len(failures)} of {total} tasks were set aside; task "
            f"{first.index} after {tries}: {first.reason}; all with their tracebacks: "
            "cnapse status. Run again to try them anew"
        )
