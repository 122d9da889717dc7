"""What is done, in the store itself.

Under ``<output>/.cnapse/<stage>/``::

    stage.json            key of the stage, what the key was made of, the configuration
    done/000000017.json   written after the data of task 17
    tries/000000017.json  how often task 17 was begun, by whom, and how it failed
    aside/000000017.json  task 17 was given up: its last traceback
    data/...              what the stage hands to the next ones
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass

from cnapse.errors import one_line
from cnapse.store import Store, canonical_json

__all__ = ["Failure", "Ledger", "describe_changes", "stage_key"]

Json = Mapping[str, object]


def stage_key(components: Json) -> str:
    """Hash of all that the results of a stage depend on."""
    return hashlib.sha256(canonical_json(components)).hexdigest()


@dataclass(frozen=True, slots=True)
class Failure:
    """A task that was set aside."""

    stage: str
    index: int
    tries: int
    reason: str
    traceback: str


class Ledger:
    """The records of one stage."""

    def __init__(self, run_store: Store, stage: str) -> None:
        self.stage = stage
        self.store = run_store.child(stage)

    # --- the stage ------------------------------------------------------------------------------

    def plan(self) -> dict[str, object] | None:
        """What `open` wrote, or None before the first run."""
        plan: dict[str, object] | None = self.store.get_json("stage.json")
        return plan

    def open(self, key: str, components: Json, config: Json) -> None:
        """Make the stage ready for tasks of this key; failures of earlier runs are forgotten."""
        for index in self._indices("aside"):
            self.store.delete([_name("aside", index), _name("tries", index)])
        plan = {"key": key, "components": dict(components), "config": dict(config)}
        if self.plan() != plan:
            self.store.put_json("stage.json", plan)

    def reset(self) -> None:
        """Forget everything: records and intermediate data."""
        # The plan goes first: whatever is killed half-way then counts as not begun.
        self.store.delete(["stage.json"])
        self.store.delete_folder("")

    # --- its tasks ------------------------------------------------------------------------------

    def done(self) -> set[int]:
        """Indices of the tasks with a record."""
        return set(self._indices("done"))

    def is_done(self, index: int) -> bool:
        """Whether a task has its record."""
        return self.store.exists(_name("done", index))

    def record(self, index: int, key: str, facts: Json) -> None:
        """Write the record of a task, after its data."""
        self.store.put_json(
            _name("done", index), {"key": key, **facts, "host": socket.gethostname()}
        )
        self.store.delete([_name("tries", index)])

    def begin(self, index: int) -> int:
        """Note that a task was begun; how often it was, this time included."""
        note = self.store.get_json(_name("tries", index)) or {"begun": 0, "failed": 0}
        note |= {
            "begun": note["begun"] + 1,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "time": time.time(),
        }
        self.store.put_json(_name("tries", index), note)
        return int(note["begun"])

    def fail(self, index: int, error: BaseException) -> int:
        """Note that a task raised; how often it did."""
        note = self.store.get_json(_name("tries", index)) or {"begun": 1, "failed": 0}
        note |= {
            "failed": note["failed"] + 1,
            "reason": f"{type(error).__name__}: {one_line(error) or error}",
            "traceback": "".join(traceback.format_exception(error)),
        }
        self.store.put_json(_name("tries", index), note)
        return int(note["failed"])

    def set_aside(self, index: int, reason: str = "") -> None:
        """Give a task up; its last failure is kept."""
        note = self.store.get_json(_name("tries", index)) or {}
        note.setdefault("reason", reason)
        note.setdefault("traceback", "")
        self.store.put_json(_name("aside", index), note)

    def aside(self) -> list[Failure]:
        """The tasks that were given up."""
        failures = []
        for index in self._indices("aside"):
            note = self.store.get_json(_name("aside", index)) or {}
            failures.append(
                Failure(
                    stage=self.stage,
                    index=index,
                    tries=int(note.get("begun", 0)),
                    reason=str(note.get("reason", "")),
                    traceback=str(note.get("traceback", "")),
                )
            )
        return failures

    def begun_by(self, pid: int) -> list[int]:
        """Tasks that a process of this machine began and did not end."""
        found = []
        for index in self._indices("tries"):
            note = self.store.get_json(_name("tries", index)) or {}
            if note.get("pid") == pid and note.get("host") == socket.gethostname():
                found.append(index)
        return found

    def _indices(self, folder: str) -> list[int]:
        return [int(name.partition(".")[0]) for name in self.store.names(folder)]


def describe_changes(old: Json, new: Json, prefix: str = "") -> list[str]:
    """The differences of two sets of components, as ``place: old -> new``.

    Of files that are known by a digest: ``place: its content``.
    """
    lines: list[str] = []
    for name in sorted({*old, *new}):
        place = f"{prefix}{name}"
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += describe_changes(before, after, f"{place}.")
        elif before != after:
            told = (
                "its content" if _is_digest(before) or _is_digest(after) else f"{before} -> {after}"
            )
            lines.append(f"{place}: {told}")
    return lines


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _name(folder: str, index: int) -> str:
    return f"{folder}/{index:012d}.json"
