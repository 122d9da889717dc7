"""Annotation layers: speed, memory and size, beside neuroglancer's own writer and ngsidekick.

    python benchmarks/annotations.py --quick
    python benchmarks/annotations.py [--ngsidekick VENV/bin/python] [--json rows.json]

The work is a table of lines from presynaptic to postsynaptic side, in memory: four properties
(size, share, colour, flags) and three relationships (presynaptic cell, postsynaptic cell, synapse).
All write it with every index of the format. Each writer runs in a process of its own, which makes
the table, writes a small one first (what is compiled or imported late is then there), and measures
the second call. Memory is the highest resident size of that process, its table included.

neuroglancer's `AnnotationWriter` puts each annotation into a file of its own, and all of them into
one cell of the spatial index; ngsidekick writes shards and levels as we do. It brings packages of
its own, so it is given by the Python that has it (`pip install ngsidekick` in a venv).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from _rows import Row, absent, parser, report

Array = npt.NDArray[Any]

_FULL, _SIDE_BY_SIDE, _SINGLE_FILES = 10_000_000, 1_000_000, 100_000
_QUICK, _QUICK_SINGLE_FILES = 200_000, 5_000
_WARM_UP = 2_000
_NM = 1e-9
_GB = 1e9
# As dense as synapses in the cortex of a mouse, about one in a cubic micrometre.
_DENSITY = 1e-9
_LINES_PER_CELL = 100
_RELATIONSHIPS = ("presynaptic_cell", "postsynaptic_cell", "synapse")


class Lines(NamedTuple):
    """The table: positions in nm, shape (n, 3)."""

    ids: Array
    pre: Array
    post: Array
    size: Array
    share: Array
    colour: Array
    flags: Array
    cells: tuple[Array, Array, Array]


def make_lines(n: int) -> Lines:
    rng = np.random.default_rng(7)
    side = (n / _DENSITY) ** (1 / 3)
    pre = (rng.random((n, 3), np.float32) * np.float32(side)).astype(np.float32)
    ids = np.arange(1, n + 1, dtype=np.uint64)
    cells = [rng.integers(1, n // _LINES_PER_CELL + 2, n).astype(np.uint64) for _ in range(2)]
    return Lines(
        ids,
        pre,
        pre + rng.normal(0, 150, (n, 3)).astype(np.float32),
        rng.random(n, np.float32),
        rng.random(n, np.float32),
        rng.integers(0, 256, (n, 3), np.uint8),
        rng.integers(0, 512, n, np.uint16),
        (cells[0], cells[1], ids),
    )


def write_ours(lines: Lines, folder: Path) -> None:
    from cnapse.viewing.annotations import (
        AnnotationSchema,
        AnnotationTable,
        Property,
        write_annotations,
    )

    schema = AnnotationSchema(
        "LINE",
        (
            Property("size", "float32"),
            Property("share", "float32"),
            Property("colour", "rgb"),
            Property("flags", "uint16"),
        ),
        _RELATIONSHIPS,
    )
    table = AnnotationTable(
        lines.ids,
        np.stack([lines.pre, lines.post], axis=1),
        {"size": lines.size, "share": lines.share, "colour": lines.colour, "flags": lines.flags},
        dict(zip(_RELATIONSHIPS, lines.cells, strict=True)),
    )
    write_annotations(folder, schema, table)


def write_neuroglancer(lines: Lines, folder: Path) -> None:
    from neuroglancer import AnnotationPropertySpec, CoordinateSpace
    from neuroglancer.write_annotations import AnnotationWriter

    names = ("size", "share", "colour", "flags")
    types = ("float32", "float32", "rgb", "uint16")
    writer = AnnotationWriter(
        CoordinateSpace(names=["x", "y", "z"], scales=[1, 1, 1], units="nm"),
        "line",
        _RELATIONSHIPS,
        [AnnotationPropertySpec(id=n, type=t) for n, t in zip(names, types, strict=True)],
    )
    columns = [values.tolist() for values in (lines.ids, *lines.cells, lines.size, lines.share)]
    rows = zip(*columns, lines.colour, lines.flags.tolist(), lines.pre, lines.post, strict=True)
    for i, pre, post, synapse, size, share, colour, flags, a, b in rows:
        related = dict(zip(_RELATIONSHIPS, (pre, post, synapse), strict=True))
        writer.add_line(a, b, i, size=size, share=share, colour=colour, flags=flags, **related)
    writer.write(folder)


def write_ngsidekick(lines: Lines, folder: Path) -> None:
    import pandas as pd
    from ngsidekick.annotations.precomputed import (  # type: ignore[import-not-found]
        write_precomputed_annotations,
    )

    columns = {f"{axis}a": lines.pre[:, i] for i, axis in enumerate("xyz")}
    columns |= {f"{axis}b": lines.post[:, i] for i, axis in enumerate("xyz")}
    columns |= {f"colour_{c}": lines.colour[:, i] for i, c in enumerate("rgb")}
    columns |= {"size": lines.size, "share": lines.share, "flags": lines.flags}
    columns |= dict(zip(_RELATIONSHIPS, lines.cells, strict=True))
    write_precomputed_annotations(
        pd.DataFrame(columns, index=pd.Index(lines.ids)),
        "xyz",
        "line",
        ["size", "share", "colour", "flags"],
        list(_RELATIONSHIPS),
        str(folder),
    )


WRITERS: dict[str, Callable[[Lines, Path], None]] = {
    "ours": write_ours,
    "neuroglancer": write_neuroglancer,
    "ngsidekick": write_ngsidekick,
}


class Measured(NamedTuple):
    """One writer on one table."""

    seconds: float
    gigabytes: float
    files: int
    stored: int


def run_child(writer: str, n: int, folder: Path) -> None:
    """Write in this process, and print what it took as JSON."""
    WRITERS[writer](make_lines(_WARM_UP), folder / "warm")
    lines = make_lines(n)
    os.sync()  # What another writer left to the disk's cache is not this one's to wait for.
    start = time.perf_counter()
    WRITERS[writer](lines, folder / "layer")
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _GB
    sizes = [path.stat().st_size for path in (folder / "layer").rglob("*") if path.is_file()]
    print(json.dumps(Measured(seconds, peak, len(sizes), sum(sizes))))


def measured(writer: str, n: int, python: Path, folder: Path | None) -> Measured | None:
    """A writer in a process of its own; None if it failed, and why on standard error."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        command = [str(python), __file__, "--child", writer, str(n), place]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        absent(writer, done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it died")
        return None
    return Measured(*json.loads(done.stdout.splitlines()[-1]))


def rows_of_ours(n: int, found: Measured) -> list[Row]:
    work = f"{n:,} lines"
    return [
        Row(work, n / found.seconds, "lines/s", note="4 properties, 3 relationships"),
        Row(work, found.gigabytes, "GB", note="highest resident size, table included"),
        Row(work, found.files, "files"),
        Row(work, found.stored / n, "bytes/line", note="in all indexes"),
    ]


def beside(n: int, ours: Measured, peer: str, theirs: Measured) -> list[Row]:
    work = f"{n:,} lines"
    return [
        Row(work, n / ours.seconds, "lines/s", peer, n / theirs.seconds),
        Row(work, ours.gigabytes, "GB", peer, theirs.gigabytes),
        Row(work, ours.files, "files", peer, theirs.files),
    ]


def main() -> None:
    options = parser(__doc__ or "", {"ngsidekick": "a Python that has ngsidekick"})
    options.add_argument("--folder", type=Path, help="where to write, and delete again")
    options.add_argument(
        "--child", nargs=3, metavar=("WRITER", "N", "FOLDER"), help=argparse.SUPPRESS
    )
    chosen = options.parse_args()
    if chosen.child:
        run_child(chosen.child[0], int(chosen.child[1]), Path(chosen.child[2]))
        return
    full, side, single = (_FULL, _SIDE_BY_SIDE, _SINGLE_FILES)
    if chosen.quick:
        full, side, single = (_QUICK, _QUICK, _QUICK_SINGLE_FILES)
    here, rows = Path(sys.executable), []
    found = {n: measured("ours", n, here, chosen.folder) for n in {full, side, single}}
    if (ours := found[full]) is not None:
        rows += rows_of_ours(full, ours)
    peers = [("neuroglancer", single, here)]
    if chosen.ngsidekick is None:
        absent("ngsidekick", "give a Python that has it with --ngsidekick")
    else:
        peers.append(("ngsidekick", side, chosen.ngsidekick))
    for peer, n, python in peers:
        ours, theirs = found[n], measured(peer, n, python, chosen.folder)
        if ours is not None and theirs is not None:
            rows += beside(n, ours, peer, theirs)
    report(rows, chosen.json)


if __name__ == "__main__":
    main()
