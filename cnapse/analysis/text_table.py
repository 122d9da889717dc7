"""Tables of text: labels to the left, figures to the right, columns as wide as they must be."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cnapse.analysis.matching import Score

__all__ = ["aligned", "counts", "figure", "interval"]

_GAP = 2


def aligned(rows: Sequence[Sequence[str]], labels: int = 1, least: int = 8) -> list[str]:
    """Lines of a table.

    Parameters
    ----------
    rows
        Cells of each row; a row may end early.
    labels
        The first columns, aligned to the left.
    least
        Least width of the others.
    """
    n = max((len(row) for row in rows), default=0)
    cells = [[*row, *[""] * (n - len(row))] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(n)]
    lines = []
    for row in cells:
        left = [text.ljust(width) for text, width in zip(row[:labels], widths, strict=False)]
        right = [
            text.rjust(max(width, least))
            for text, width in zip(row[labels:], widths[labels:], strict=True)
        ]
        lines.append((" " * _GAP).join([*left, *right]).rstrip())
    return lines


def figure(value: float | None) -> str:
    """Three decimals; ``-`` for what is not defined."""
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def interval(ends: tuple[float, float] | None) -> str:
    """``0.912-0.974``."""
    return "-" if ends is None else f"{ends[0]:.3f}-{ends[1]:.3f}"


def counts(score: Score) -> str:
    """Right, false and missed."""
    numbers = (score.true_positives, score.false_positives, score.false_negatives)
    return " / ".join(str(number) for number in numbers)
