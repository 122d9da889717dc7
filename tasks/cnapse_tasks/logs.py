"""Logs of workers: lines for people, or a JSON object a line for machines."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast

from cnapse.store import local_path
from cnapse_tasks.intact import KEY as CHECKSUMS
from cnapse_tasks.run import Run, Section
from cnapse_tasks.task import Outcome, Result

__all__ = ["LogFormat", "configure", "io_bytes", "tell"]

LogFormat = Literal["text", "json"]

log = logging.getLogger("cnapse.worker")

# Which grid the index of a task counts the blocks of.
_GRIDS = {
    "detect": "detect",
    "label": "label",
    "relabel": "label",
    "measure": "measure",
    "assign": "assign",
}
_LEVELS = {Outcome.ASIDE: logging.ERROR, Outcome.AGAIN: logging.WARNING}
_IO = Path("/proc/self/io")


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info is not None and record.exc_info[1] is not None:
            line["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        return json.dumps(line, default=str)


def configure(form: LogFormat) -> None:
    """Log to standard output as JSON, or to standard error as text."""
    handler = logging.StreamHandler(sys.stdout if form == "json" else sys.stderr)
    handler.setFormatter(
        _JsonLines() if form == "json" else logging.Formatter("%(asctime)s %(process)d %(message)s")
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("cnapse").setLevel(logging.INFO)


def _is_json() -> bool:
    """Whether anybody reads more than the text."""
    return any(isinstance(h.formatter, _JsonLines) for h in logging.getLogger().handlers)


def io_bytes() -> tuple[int, int] | None:
    """Bytes that this process read and wrote through files so far; None where it is not told."""
    try:
        fields = dict(line.split(": ") for line in _IO.read_text().splitlines())
    except OSError:
        return None
    return int(fields["rchar"]), int(fields["wchar"])


def tell(result: Result, run: Run | None, before: tuple[int, int] | None) -> None:
    """One line for a task that ended.

    Parameters
    ----------
    result : Result
    run : Run, optional
        Its run: gives the block.
    before : (int, int), optional
        What `io_bytes` gave when it began. Bytes are told of runs on local disks only: sockets
        are not counted.
    """
    level = _LEVELS.get(result.outcome, logging.INFO)
    if not log.isEnabledFor(level):
        return
    facts: dict[str, object] = {
        "task": f"{result.stage}/{result.index}",
        "stage": result.stage,
        "index": result.index,
        "outcome": str(result.outcome),
        "seconds": round(result.seconds, 3),
        "tries": result.tries,
        "block": _block(run, result) if _is_json() else None,
        "bytes_read": None,
        "bytes_written": None,
        # Checksums are for machines, and long.
        "facts": {key: fact for key, fact in result.facts.items() if key != CHECKSUMS},
    }
    if result.reason:
        facts["reason"] = result.reason
    after = io_bytes()
    if run is not None and local_path(run.config.output) is not None and before and after:
        facts["bytes_read"], facts["bytes_written"] = (
            b - a for a, b in zip(before, after, strict=True)
        )
    reason = f": {result.reason}" if result.reason else ""
    text = f"{result.stage} {result.index} {result.outcome}, {result.seconds:.3f} s{reason}"
    log.log(level, "%s", text, extra={"facts": facts})


def _block(run: Run | None, result: Result) -> list[list[int]] | None:
    """The voxels that a task writes, [start, stop), where a task is a block."""
    name = _GRIDS.get(result.stage)
    if run is None or name is None or result.outcome is Outcome.PASSED:
        return None
    box = run.grid(cast("Section", name))[result.index].write
    return [list(box.start), list(box.stop)]
