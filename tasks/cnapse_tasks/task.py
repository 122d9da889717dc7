"""One task: whether it is still wanted, its data, its record, and what is noted if it fails."""

from __future__ import annotations

import logging
import math
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from taskqueue import queueable

import cnapse
from cnapse.config import Config
from cnapse.errors import RunStateError
from cnapse.store import Store
from cnapse_tasks.claims import claimed, taken_seconds
from cnapse_tasks.failures import kind_of, tries_of, wait_seconds
from cnapse_tasks.ledger import Ledger
from cnapse_tasks.missing import KEY
from cnapse_tasks.recovery import execute_repairing
from cnapse_tasks.run import Run
from cnapse_tasks.stages import STAGES

__all__ = [
    "CANCELLED",
    "IN_FORCE_SECONDS",
    "Outcome",
    "Result",
    "forget_contexts",
    "run_of",
    "run_task",
]

log = logging.getLogger("cnapse.worker")

CANCELLED = "cancelled.json"
"""Lies in ``.cnapse`` while a run is cancelled: its tasks are passed over."""

# A process that is killed cannot say why; a task that kills many is set aside all the same.
_DEATHS_PER_TRY = 3
# So long a worker believes what it read of a stage: it may be cancelled or made with another key.
IN_FORCE_SECONDS = 2.0
_MOST_RUNS = 32


class Outcome(StrEnum):
    """What became of a task."""

    DONE = "done"
    PASSED = "passed over"
    """It was done already, or nobody wants it any more."""
    TAKEN = "taken"
    """Another worker is at it."""
    AGAIN = "again"
    """It failed, and will be tried again."""
    ASIDE = "set aside"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a task, and what is known of it."""

    outcome: Outcome
    stage: str
    index: int
    seconds: float = 0.0
    tries: int = 0
    wait: float = 0.0
    """Seconds until it should be given to a worker again."""
    reason: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)


class _Context(NamedTuple):
    """What is known of a stage: when it was read, its run if it is in force, and its version."""

    read_at: float
    run: Run | None
    version: object


_contexts: dict[tuple[str, str, str], _Context] = {}


def run_of(output: str, stage: str, key: str) -> Run | None:
    """The run of a task, or None if it was cancelled, or is being made with another key by now."""
    return _context_of(output, stage, key).run


def _context_of(output: str, stage: str, key: str) -> _Context:
    place = (output, stage, key)
    now = time.monotonic()
    context = _contexts.get(place, _Context(-math.inf, None, None))
    if now - context.read_at < IN_FORCE_SECONDS:
        return context
    _, run, version = context
    records = Store(output).child(".cnapse")
    plan = None if records.exists(CANCELLED) else Ledger(records, stage).plan()
    if plan is None or plan["key"] != key:
        run = None
    elif run is None:
        components: Any = plan["components"]
        config: Any = plan["config"]
        version = components.get("version")
        run = Run(Config.from_dict(config, f"{output}/.cnapse/{stage}/stage.json"))
    if len(_contexts) >= _MOST_RUNS:
        _contexts.clear()
    _contexts[place] = context = _Context(now, run, version)
    return context


def forget_contexts() -> None:
    """Read the stages anew before the next task."""
    _contexts.clear()


def _check_version(stage: str, wanted: object) -> None:
    """Refuse a stage that another cnapse began, whose results would not be ours."""
    own = STAGES[stage].version
    if wanted is not None and wanted != own:
        raise RunStateError(
            f"the worker on {socket.gethostname()}, cnapse {cnapse.__version__}, has version {own} "
            f"of stage {stage}, the run was begun with version {wanted}: give workers and driver "
            "the same cnapse, then `cnapse retry`"
        )


@queueable  # type: ignore[untyped-decorator]
def run_task(output: str, stage: str, index: int, key: str) -> Result:
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

    Returns
    -------
    Result
        A task that fails raises nothing: its ledger has the traceback.
    """
    _, run, version = _context_of(output, stage, key)
    if run is None:
        return Result(Outcome.PASSED, stage, index, reason="cancelled, or of older parameters")
    ledger = STAGES[stage].ledger(run)
    if ledger.is_done(index):
        return Result(Outcome.PASSED, stage, index, reason="done already")
    taken = taken_seconds(ledger.note(index))
    if taken:
        return Result(Outcome.TAKEN, stage, index, wait=taken, reason="another worker is at it")
    begun = ledger.begin(index, run.config.tasks.lease_seconds)
    if begun > _DEATHS_PER_TRY * run.config.tasks.tries:
        reason = "the worker died each time (killed, or out of memory)"
        ledger.set_aside(index, reason)
        return Result(Outcome.ASIDE, stage, index, tries=begun, reason=reason)
    return _execute(run, ledger, index, key, begun, version)


def _execute(run: Run, ledger: Ledger, index: int, key: str, begun: int, version: object) -> Result:
    stage = ledger.stage
    started = time.perf_counter()
    with claimed(ledger, index) as claim:
        try:
            _check_version(stage, version)
            facts = execute_repairing(run, stage, index)
        except Exception as error:
            claim.end()
            seconds = time.perf_counter() - started
            return _failed(ledger, index, error, run.config.tasks.tries, seconds)
        seconds = round(time.perf_counter() - started, 3)
        if missing := run.taken_missing():
            facts = {**facts, KEY: missing}
        claim.end()
        if run_of(run.config.output, stage, key) is None:
            # Somebody began to make the stage anew meanwhile.
            return Result(Outcome.PASSED, stage, index, seconds, reason="of older parameters")
        ledger.record(index, key, {**facts, "seconds": seconds})
    return Result(Outcome.DONE, stage, index, seconds, begun, facts=facts)


def _failed(ledger: Ledger, index: int, error: Exception, tries: int, seconds: float) -> Result:
    kind = kind_of(error)
    failed = ledger.fail(index, error)
    reason = f"{type(error).__name__}: {error}"
    if failed >= tries_of(kind, tries):
        ledger.set_aside(index)
        log.error("%s %d was set aside: %s", ledger.stage, index, reason)
        return Result(Outcome.ASIDE, ledger.stage, index, seconds, failed, reason=reason)
    log.warning("%s %d failed (%d), %s: %s", ledger.stage, index, failed, kind, reason)
    wait = wait_seconds(kind, failed)
    return Result(Outcome.AGAIN, ledger.stage, index, seconds, failed, wait, reason)
