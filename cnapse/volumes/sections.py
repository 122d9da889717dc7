"""Stacks that come as one file a section: which files, in which order, and is one missing."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from cnapse.errors import FormatError, LayerNotFoundError

__all__ = ["check_numbering", "check_same", "find_sections"]

_NUMBER = re.compile(r"\d+")


def find_sections(path: str | Path, suffixes: Sequence[str]) -> list[Path]:
    """The files of a folder or a glob, in natural order (``s2`` before ``s10``).

    Parameters
    ----------
    path
        A file, a folder, or a pattern with ``*``, ``?`` or ``[...]``.
    suffixes
        Endings, in lower case, of the files that count in a folder; a pattern takes what it finds.

    Raises
    ------
    LayerNotFoundError
        If there is none.
    """
    from natsort import natsorted, ns

    place = Path(path).expanduser()
    if place.is_file():
        return [place]
    if place.is_dir():
        found = [p for p in place.iterdir() if p.suffix.lower() in suffixes and p.is_file()]
        # What file managers leave beside the files on foreign disks.
        found = [p for p in found if not p.name.startswith(".")]
    else:
        found = [p for p in map(Path, glob.glob(str(place))) if p.is_file()]  # noqa: PTH207
    if not found:
        raise LayerNotFoundError(_nothing_found(place))
    return list(natsorted(found, key=str, alg=ns.PATH))


def _nothing_found(place: Path) -> str:
    if place.is_dir():
        return f"{place}: no TIFF or PNG sections, Zarr, N5 or layer in this folder: check the path"
    if glob.has_magic(str(place)):
        return f"{place}: no file matches this pattern: check it with `ls`"
    return f"{place}: no such file or folder: check the path"


def check_numbering(files: Sequence[Path]) -> None:
    """Check that the names of sections, in order, count up without a gap.

    Names must be alike but for their numbers, and from each to the next some number must rise by
    exactly one. Names without numbers are taken as they are.

    Raises
    ------
    FormatError
        If a section seems to be missing, or the files are of two kinds.
    """
    _check_one_kind(files)
    numbers = [[int(n) for n in _NUMBER.findall(p.stem)] for p in files]
    for (left, a), (right, b) in pairwise(zip(files, numbers, strict=True)):
        steps = [q - p for p, q in zip(a, b, strict=True)]
        if a and 1 not in steps:
            raise FormatError(_gap(left, right, a, steps))


def _check_one_kind(files: Sequence[Path]) -> None:
    kinds = _counted(_NUMBER.sub("#", p.stem) + p.suffix for p in files)
    numbered = {kind: count for kind, count in kinds.items() if "#" in kind}
    if numbered and len(kinds) > 1:
        found = " and ".join(f"{kind} ({count})" for kind, count in list(kinds.items())[:3])
        raise FormatError(
            f"{files[0].parent}: files of different kinds, {found}: give a pattern that takes one "
            "kind, or --any-names if they are one stack in this order"
        )


def _counted(values: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts


def _gap(left: Path, right: Path, numbers: Sequence[int], steps: Sequence[int]) -> str:
    moved = [(n, step) for n, step in zip(numbers, steps, strict=True) if step]
    where = f"between {left.name} and {right.name}"
    way_out = "or give --any-names if they are neighbours all the same"
    if len(moved) != 1 or moved[0][1] < 0:
        return f"{left.parent}: no number rises by one {where}: check the names, {way_out}"
    number, step = moved[0]
    first, last = number + 1, number + step - 1
    missing = f"section {first} is" if first == last else f"sections {first} to {last} are"
    return f"{left.parent}: {missing} missing {where}: add what is missing, {way_out}"


def check_same(name: str, found: tuple[Any, Any], other: str, expected: tuple[Any, Any]) -> None:
    """Check that a section has the shape (y, x) and dtype of another.

    Raises
    ------
    FormatError
        If it has not: both are named.
    """
    if found == expected:
        return
    (shape, dtype), (expected_shape, expected_dtype) = found, expected
    raise FormatError(
        f"{name} has {shape[1]} x {shape[0]} pixels of {dtype}, but {other} has "
        f"{expected_shape[1]} x {expected_shape[0]} of {expected_dtype}: all must be alike"
    )
