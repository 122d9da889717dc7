"""Make again what a stage left and a later one finds damaged.

Tasks give the same bytes each time, so whoever meets a damaged file does the task again that made
it, at once and in place; two that do so at once write the same.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from cnapse.errors import DamagedFileError
from cnapse_tasks import join, label
from cnapse_tasks.intact import KEY as CHECKSUMS
from cnapse_tasks.intact import start_of_chunk
from cnapse_tasks.run import LAYER_MAKERS, Run
from cnapse_tasks.stages import STAGES

__all__ = ["execute_repairing", "maker_of", "repairing"]

log = logging.getLogger("cnapse.recovery")

Found = TypeVar("Found")

# What stages leave outside of their own folder.
_TABLES = {"measures": "tabulate", "tables": "gather"}


def execute_repairing(run: Run, stage: str, index: int) -> Mapping[str, object]:
    """Do a task; files that it finds damaged are made again first.

    Parameters
    ----------
    run : Run
    stage : str
    index : int

    Returns
    -------
    mapping
        The facts of the task; ``repaired`` among them tells how many files were made again.

    Raises
    ------
    DamagedFileError
        If a file is no task's of this run, or is damaged again.
    """
    repaired: set[str] = set()
    facts = repairing(run, lambda: STAGES[stage].module.execute(run, index), repaired)
    return {**facts, "repaired": len(repaired)} if repaired else facts


def repairing(run: Run, read: Callable[[], Found], repaired: set[str] | None = None) -> Found:
    """Call a function until it finds no damaged file; each is made again once."""
    seen = set() if repaired is None else repaired
    while True:
        try:
            return read()
        except DamagedFileError as error:
            maker = maker_of(run, error.path)
            if maker is None or error.path in seen:
                raise
            seen.add(error.path)
            stage, index = maker
            log.warning("%s; doing task %d of stage %s again", error, index, stage)
            # What that task reads may be damaged, too.
            task = functools.partial(STAGES[stage].module.execute, run, index)
            _note_checksums(run, stage, index, repairing(run, task, seen))


def maker_of(run: Run, path: str) -> tuple[str, int] | None:
    """The stage and the task that made a file of a run; None if it is not known.

    A task's file is named by the task's index, at the end of its name; not so in `_MAKERS`.
    """
    inside = path.removeprefix(f"{run.output.path}/")
    folder, *rest = inside.split("/")
    if inside == path or not rest:
        return None
    if folder in LAYER_MAKERS:
        return _written_by(run, folder, rest[-1])
    if folder in _TABLES:
        return _TABLES[folder], _last_number(rest)
    if folder != ".cnapse" or len(rest) < 3 or rest[0] not in STAGES or rest[1] != "data":
        return None
    stage, _, *names = rest
    made_by = _MAKERS.get(stage)
    return stage, made_by(run, names) if made_by else _last_number(names)


def _written_by(run: Run, layer: str, name: str) -> tuple[str, int] | None:
    """The task that wrote a chunk of a layer."""
    stage, section = LAYER_MAKERS[layer]
    start = start_of_chunk(name)
    return None if start is None else (stage, int(run.grid(section).index_of(start)))


def _note_checksums(run: Run, stage: str, index: int, facts: Mapping[str, object]) -> None:
    """Chunks that were made again on another kind of processor may differ in a last digit."""
    ledger = STAGES[stage].ledger(run)
    record = ledger.record_of(index)
    if record is not None and CHECKSUMS in facts and record.get(CHECKSUMS) != facts[CHECKSUMS]:
        ledger.record(index, str(record["key"]), {**record, CHECKSUMS: facts[CHECKSUMS]})


def _joined_by(run: Run, names: list[str]) -> int:
    """What is open is named by the superblock, the rest by blocks."""
    if names[0] == "open":
        return _last_number(names)
    block = label.grid_of(run)[_last_number(names)]
    return int(join.grid_of(run).index_of(block.write.start))


def _last_number(names: list[str]) -> int:
    """``["000000000003", "part-00000007.parquet"]`` is 7."""
    return int(names[-1].partition(".")[0].rpartition("-")[2])


_MAKERS: dict[str, Callable[[Run, list[str]], int]] = {
    "join": _joined_by,
    "stitch": lambda _run, _names: 0,
}
