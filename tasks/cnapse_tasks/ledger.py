"""What is done, in the store itself.

Under ``<output>/.cnapse/<stage>/``::

    stage.json                     key of the stage, what the key was made of, the configuration
    done/000000/000000000017.json  written after the data of task 17; a thousand tasks a folder
    tries/000000000017.json        how often task 17 was begun, by whom, and how it failed
    aside/000000000017.json        task 17 was given up: its last traceback
    data/...                       what the stage hands to the next ones

``stage.json`` and the records carry a checksum; one that does not fit counts as absent.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import socket
import time
import traceback
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cnapse
from cnapse.errors import FormatError, one_line
from cnapse.store import Store, canonical_json, local_path

__all__ = ["FOLDER_TASKS", "Failure", "Ledger", "describe_changes", "stage_key"]

log = logging.getLogger("cnapse.ledger")

Json = Mapping[str, object]

FOLDER_TASKS = 1000
"""Records in a folder: one listing of a bucket gives as many names."""
_READERS = 16
_SEAL = "sha256"


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
        """What `open` wrote, or None before the first run, or where it is damaged."""
        return self._sealed("stage.json")

    def open(self, key: str, components: Json, config: Json) -> str:
        """Make the stage ready for tasks of this key; failures of earlier runs are forgotten.

        Returns
        -------
        str
            Which making of the stage this is: another one after a `reset`. Drivers open a stage one
            at a time, or each would draw its own.
        """
        self.retry()
        plan = {"key": key, "components": dict(components), "config": dict(config)}
        known = self.plan() or {}
        making = str(known.get("making", "")) or uuid.uuid4().hex
        plan["making"] = making
        if known != plan:
            self.store.put_json("stage.json", _seal(plan))
        return making

    def close(self) -> None:
        """Take the plan away: whoever reads the stage then finds it not begun."""
        self.store.delete(["stage.json"])

    def reset(self) -> None:
        """Forget everything: records and intermediate data."""
        # The plan goes first: whatever is killed half-way then counts as not begun.
        self.close()
        self.store.delete_folder("")

    # --- what is done ---------------------------------------------------------------------------

    def done(self) -> set[int]:
        """Indices of the tasks with a record."""
        return set(_indices(self.store.names("done")))

    def done_in(self, folder: int) -> list[int]:
        """Indices of the tasks with a record among `FOLDER_TASKS` of them."""
        return _indices(self.store.names(f"done/{folder:09d}"))

    def is_done(self, index: int) -> bool:
        """Whether a task has its record."""
        return self.store.exists(_record_name(index))

    def whole(self, folder: int, key: str) -> list[int]:
        """Like `done_in`, but every record is read; the damaged and those of other keys go."""
        found = self.done_in(folder)
        good = [self._is_whole(index, key) for index in found] if self.store_is_local else []
        if not good and found:
            with ThreadPoolExecutor(_READERS) as readers:
                good = list(readers.map(lambda index: self._is_whole(index, key), found))
        bad = [index for index, fine in zip(found, good, strict=True) if not fine]
        self.store.delete([_record_name(index) for index in bad])
        return [index for index, fine in zip(found, good, strict=True) if fine]

    @property
    def store_is_local(self) -> bool:
        """Whether reading a record costs microseconds, not a request."""
        return local_path(self.store.path) is not None

    def _is_whole(self, index: int, key: str) -> bool:
        record = self.record_of(index)
        if record is not None and record["key"] != key:
            log.warning("%s %d: its record is of other parameters: made again", self.stage, index)
        return record is not None and record["key"] == key

    def record(self, index: int, key: str, facts: Json) -> None:
        """Write the record of a task, after its data."""
        made = {"host": socket.gethostname(), "cnapse": cnapse.__version__, "ended": time.time()}
        record = {"key": key, **facts, **made}
        self.store.put_json(_record_name(index), _seal(record))
        self.store.delete([_name("tries", index)])

    def record_of(self, index: int) -> dict[str, object] | None:
        """The record of a task, or None where there is none, or a damaged one."""
        return self._sealed(_record_name(index))

    # --- tries ----------------------------------------------------------------------------------

    def note(self, index: int) -> dict[str, Any]:
        """How often a task was begun, by whom, how it failed; empty before it was."""
        return self._note(_name("tries", index))

    def put_note(self, index: int, note: Json) -> None:
        """Replace the note of a task."""
        self.store.put_json(_name("tries", index), note)

    def begin(self, index: int, seconds: float) -> int:
        """Note that this process has a task at hand; how often it was begun, this time included.

        Parameters
        ----------
        index : int
        seconds : float
            How long the others leave it to this process, unless it says more.
        """
        note = {"begun": 0, "failed": 0} | self.note(index)
        note |= {"begun": int(note["begun"]) + 1, "pid": os.getpid(), "host": socket.gethostname()}
        self.put_note(index, note | {"until": time.time() + seconds})
        return int(note["begun"])

    def fail(self, index: int, error: BaseException) -> int:
        """Note that a task raised; how often it did."""
        note = {"begun": 1, "failed": 0} | self.note(index)
        note |= {
            "failed": int(note["failed"]) + 1,
            "until": 0.0,
            "reason": f"{type(error).__name__}: {one_line(error) or error}",
            "traceback": "".join(traceback.format_exception(error)),
        }
        self.put_note(index, note)
        return int(note["failed"])

    def begun_by(self, pid: int) -> list[int]:
        """Tasks that a process of this machine began and did not end."""
        found = []
        for index in _indices(self.store.names("tries")):
            note = self.note(index)
            if note.get("pid") == pid and note.get("host") == socket.gethostname():
                found.append(index)
        return found

    def at_hand(self) -> list[int]:
        """Tasks that workers are at, as far as they still say so."""
        now = time.time()
        return [
            index
            for index in _indices(self.store.names("tries"))
            if float(self.note(index).get("until", 0.0)) > now
        ]

    # --- given up -------------------------------------------------------------------------------

    def forget(self, indices: Iterable[int]) -> None:
        """Delete the records of tasks, so that they are done again."""
        self.store.delete([_record_name(index) for index in indices])

    def set_aside(self, index: int, reason: str = "") -> None:
        """Give a task up; its last failure is kept."""
        note = {"reason": reason, "traceback": ""} | self.note(index)
        self.store.put_json(_name("aside", index), note)

    def aside_indices(self) -> list[int]:
        """Indices of the tasks that were given up."""
        return _indices(self.store.names("aside"))

    def aside(self, indices: Iterable[int] | None = None) -> list[Failure]:
        """The tasks that were given up; of these only, if indices are given."""
        failures = []
        for index in self.aside_indices() if indices is None else indices:
            note = self._note(_name("aside", index))
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

    def retry(self) -> int:
        """Forget what was given up: those tasks are new again. How many they are."""
        found = self.aside_indices()
        # The note of the tries goes first: killed half-way, the task is still known as given up.
        for folder in ("tries", "aside"):
            self.store.delete([_name(folder, index) for index in found])
        return len(found)

    # --- files ----------------------------------------------------------------------------------

    def _note(self, name: str) -> dict[str, Any]:
        try:
            note = self.store.get_json(name)
        except FormatError as error:
            log.warning("%s: %s", self.stage, error)
            return {}
        return note if isinstance(note, dict) else {}

    def _sealed(self, name: str) -> dict[str, object] | None:
        try:
            value = self.store.get_json(name)
        except FormatError as error:
            log.warning("%s is made again: %s", self.stage, error)
            return None
        if value is None or _is_sealed(value):
            return None if value is None else {k: v for k, v in value.items() if k != _SEAL}
        log.warning(
            "%s is made again: %s/%s is damaged (its checksum does not fit)",
            self.stage, self.store.path, name,
        )  # fmt: skip
        return None


def folders_of(indices: Sequence[int]) -> Iterator[int]:
    """The folders that the records of some tasks lie in, in order; `indices` ascend."""
    last = -1
    position = 0
    while position < len(indices):
        folder = indices[position] // FOLDER_TASKS
        if folder != last:
            yield folder
            last = folder
        if isinstance(indices, range) and indices.step == 1:
            position += (folder + 1) * FOLDER_TASKS - indices[position]
        else:
            position += 1


def _seal(value: Json) -> dict[str, object]:
    return {**value, _SEAL: hashlib.sha256(canonical_json(value)).hexdigest()}


def _is_sealed(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    content = {k: v for k, v in value.items() if k != _SEAL}
    return value.get(_SEAL) == hashlib.sha256(canonical_json(content)).hexdigest()


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


def _indices(names: Iterable[str]) -> list[int]:
    return [
        int(name.rpartition("/")[2].partition(".")[0]) for name in names if name.endswith(".json")
    ]


def _name(folder: str, index: int) -> str:
    return f"{folder}/{index:012d}.json"


def _record_name(index: int) -> str:
    return f"done/{index // FOLDER_TASKS:09d}/{index:012d}.json"
