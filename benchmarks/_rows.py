"""The one form in which benchmarks report (design, section 7): rows as JSON, and a table.

A row is ``{"work", "ours", "unit", "peer", "theirs", "ratio", "note"}``; ratio > 1 means that ours
is better. A figure of ours without a peer has an empty ``peer``, and null for ``theirs`` and
``ratio``. A peer that is absent gives no row, and says so on standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ABSENT = "no row for"


@dataclass(frozen=True, slots=True)
class Row:
    """A figure of ours on some work, and that of a peer on the same."""

    work: str
    ours: float
    unit: str
    peer: str = ""
    theirs: float | None = None
    note: str = ""
    more_is_better: bool | None = None

    @property
    def ratio(self) -> float | None:
        """How much better ours is. A unit in ``/s`` is a rate, others are costs, unless said."""
        if self.theirs is None:
            return None
        rate = self.unit.endswith("/s") if self.more_is_better is None else self.more_is_better
        better, worse = (self.ours, self.theirs) if rate else (self.theirs, self.ours)
        return better / worse if worse else float("inf")

    def as_json(self) -> dict[str, object]:
        """The row as it is written, figures to six digits."""
        return {
            "work": self.work,
            "ours": _short(self.ours),
            "unit": self.unit,
            "peer": self.peer,
            "theirs": _short(self.theirs),
            "ratio": _short(self.ratio),
            "note": self.note,
        }


def parser(description: str, peers: dict[str, str]) -> argparse.ArgumentParser:
    """The options that every benchmark has, and one option a peer that is given by its path."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--quick", action="store_true", help="under 50 s on 2 cores")
    result.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    for name, what in peers.items():
        result.add_argument(f"--{name}", type=Path, metavar="PATH", help=what)
    return result


def absent(peer: str, why: str) -> None:
    """Say that a peer gives no row."""
    print(f"{ABSENT} {peer}: {why}", file=sys.stderr)


def report(rows: Sequence[Row], json_path: Path | None) -> None:
    """Print the rows as a table; write them as JSON if asked to."""
    if json_path is not None:
        json_path.write_text(json.dumps([row.as_json() for row in rows], indent=1) + "\n")
    head = ("work", "ours", "unit", "peer", "theirs", "ratio", "note")
    lines = [head] + [tuple(_cell(v) for v in row.as_json().values()) for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        cells = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
