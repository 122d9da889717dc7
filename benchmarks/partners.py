"""Measure and assign 200 synapses; and the same number in four times the volume.

The tissue is made here: columns of cells that wander through the sections, 16 nm of free space
between them, densities of 40 to 60 nm radius on the walls, of two to four sections. Everything of
ours runs on one core (nothing in it is parallel), from label arrays to rows, finding the bounding
boxes included.

``--seed PATH`` is a checkout of Cnapse: its two scripts run unchanged in a process of their own, on
the same arrays; what is timed starts when its arrays are loaded. (Its ``utils.py`` does not import
tifffile, so the process that runs it does.)
"""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import tifffile
from _rows import Row, absent, parser, report
from numba import njit

from cnapse.geometry import Box, Triple, triple
from cnapse.partners.assign import AssignParameters, assign_many
from cnapse.partners.emitters import find_emitters
from cnapse.partners.harmonic import solve
from cnapse.partners.labels import Tissue
from cnapse.partners.montecarlo import walk
from cnapse.partners.parameters import Method
from cnapse.synapses.measure import measure

Labels = npt.NDArray[np.uint32]

RESOLUTION = (4.0, 4.0, 50.0)
SMALL: Triple = (768, 768, 40)
LARGE: Triple = (1536, 1536, 40)
SYNAPSES = 200
QUICK_SEED_SYNAPSES = {SMALL: 8, LARGE: 3}
PITCH_VX = 56
COMPARED: tuple[Method, ...] = ("harmonic", "montecarlo")

_SEED_RUNNER = """
import runpy, sys, time
sys.path.insert(0, sys.argv[1])
import tifffile, utils
utils.tif = tifffile
loaded, load = [0.0], utils.load_volume
def timed(*args):
    volume = load(*args)
    loaded[0] = time.perf_counter()
    return volume
utils.load_volume = timed
script, sys.argv = sys.argv[2], sys.argv[2:]
runpy.run_path(script, run_name="__main__")
print("SECONDS", time.perf_counter() - loaded[0])
"""


@dataclass(frozen=True, slots=True)
class Volume:
    """Synapse and cell labels [x, y, z] with the box that they cover."""

    synapses: Labels
    cells: Labels
    box: Box

    @property
    def name(self) -> str:
        return "x".join(str(n) for n in self.box.shape)


@dataclass(frozen=True, slots=True)
class Seed:
    """What the seed took, seconds for SYNAPSES synapses, and how its answers compare."""

    measured: float
    assigned: float
    notes: dict[Method, str]

    @property
    def both(self) -> float:
        return self.measured + self.assigned


@njit(nogil=True, cache=True)
def _grow(centres: Any, gap_vx: float, cells: Any, wall: Any) -> None:
    """Label each voxel by the nearest centre of its section; 0 within half a gap of the wall."""
    columns, rows = centres.shape[0], centres.shape[1]
    for z in range(cells.shape[2]):
        for y in range(cells.shape[1]):
            for x in range(cells.shape[0]):
                a, b = x // PITCH_VX + 2, y // PITCH_VX + 2
                first, second, best_i, best_j, next_i, next_j = 1e18, 1e18, 0, 0, 0, 0
                for i in range(max(a - 2, 0), min(a + 3, columns)):
                    for j in range(max(b - 2, 0), min(b + 3, rows)):
                        d = (centres[i, j, z, 0] - x) ** 2 + (centres[i, j, z, 1] - y) ** 2
                        if d < first:
                            second, next_i, next_j = first, best_i, best_j
                            first, best_i, best_j = d, i, j
                        elif d < second:
                            second, next_i, next_j = d, i, j
                dx = centres[best_i, best_j, z, 0] - centres[next_i, next_j, z, 0]
                dy = centres[best_i, best_j, z, 1] - centres[next_i, next_j, z, 1]
                apart = (second - first) / (2 * np.sqrt(dx * dx + dy * dy))
                wall[x, y, z] = apart
                if apart >= gap_vx / 2:
                    cells[x, y, z] = 1 + best_i + columns * best_j


def make_volume(shape: Triple, seed: int) -> Volume:
    """Tissue with SYNAPSES densities on the walls of its cells."""
    rng = np.random.default_rng(seed)
    columns, rows = (n // PITCH_VX + 5 for n in shape[:2])
    corner = (np.stack(np.mgrid[:columns, :rows], axis=-1) - 2) * PITCH_VX
    start = corner + rng.uniform(0, PITCH_VX, corner.shape)
    drift = rng.normal(0, 1.0, (columns, rows, shape[2], 2)).cumsum(axis=2)
    cells = np.zeros(shape, np.uint32, order="F")
    wall = np.zeros(shape, np.float32, order="F")
    _grow(start[:, :, None] + drift, 4.0, cells, wall)
    synapses = np.zeros(shape, np.uint32, order="F")
    made, tries = 0, 0
    while made < SYNAPSES and tries < 100 * SYNAPSES:
        tries += 1
        made += _place(rng, cells, wall, synapses, made + 1)
    if made < SYNAPSES:
        raise SystemExit(f"only {made} of {SYNAPSES} synapses found room")
    return Volume(synapses, cells, Box.from_shape(shape, RESOLUTION))


def _place(rng: np.random.Generator, cells: Any, wall: Any, synapses: Any, number: int) -> bool:
    """Paint one density into a cell where it meets a wall, if there is room."""
    radius, sections = int(rng.integers(10, 16)), int(rng.integers(2, 5))
    x, y = (int(rng.integers(radius + 26, n - radius - 26)) for n in cells.shape[:2])
    z = int(rng.integers(2, cells.shape[2] - 2 - sections))
    pre = cells[x, y, z]
    if pre == 0 or wall[x, y, z] > 6:
        return False
    around = (slice(x - radius, x + radius + 1), slice(y - radius, y + radius + 1))
    cut = (*around, slice(z, z + sections))
    if synapses[cut].any():
        return False
    dx, dy = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = (dx * dx + dy * dy <= radius * radius)[:, :, None]
    mask = disk & (cells[cut] == pre) & (wall[cut] < 9)
    synapses[cut][mask] = number
    return True


def best_of(times: int, work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the fastest run, and what it gave."""
    best, result = float("inf"), None
    for _ in range(times):
        start = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - start)
    return best, result


def one_read(volume: Volume) -> None:
    """What no method can do without: every label looked at once."""
    int(volume.synapses.max())
    int(volume.cells.max())


@dataclass(frozen=True, slots=True)
class Ours:
    """Seconds to read the arrays once, to measure, and to assign by each method; both tables."""

    read: float
    measured: float
    assigned: dict[Method, float]
    table: pd.DataFrame
    rows: dict[Method, pd.DataFrame]


def ours(volume: Volume, times: int) -> Ours:
    """Both steps, by both methods."""
    read, _ = best_of(times, lambda: one_read(volume))
    measured, table = best_of(times, lambda: measure(volume.synapses, volume.cells, volume.box))
    assigned, rows = {}, {}
    for method in COMPARED:
        how = AssignParameters.cnapse(method=method)
        assigned[method], (rows[method], _) = best_of(
            times,
            functools.partial(assign_many, volume.synapses, volume.cells, volume.box, table, how),
        )
    return Ours(read, measured, assigned, table, rows)


def parts(volume: Volume, table: pd.DataFrame) -> dict[str, float]:
    """Milliseconds a synapse to find the emitters, to solve, and for 1000 particles to walk."""
    parameters = AssignParameters.cnapse()
    rule = parameters.emitter_rule(RESOLUTION)
    spent = dict.fromkeys(("emitters", "exact solution", "1000 particles"), 0.0)
    for row in table.itertuples():
        start = triple([row.start_x, row.start_y, row.start_z])
        extent = Box(start, triple([row.stop_x, row.stop_y, row.stop_z]), RESOLUTION)
        cutout = parameters.cutout(extent, volume.box)
        cells = volume.cells[cutout.slices(volume.box)]
        density = volume.synapses[extent.slices(volume.box)] == row.syn_id
        at = triple([a - b for a, b in zip(start, cutout.start, strict=True)])
        times = [time.perf_counter()]
        emitters = find_emitters(cells, density, at, row.pre_id, rule)
        times.append(time.perf_counter())
        tissue = Tissue(cells, density, at, row.pre_id, rule.paints, RESOLUTION)
        solve(tissue, emitters, parameters.laplace)
        times.append(time.perf_counter())
        walk(tissue, emitters, parameters.walk, (0, row.first_voxel))
        times.append(time.perf_counter())
        for name, (begun, done) in zip(spent, itertools.pairwise(times), strict=True):
            spent[name] += done - begun
    return {name: 1e3 * seconds / len(table) for name, seconds in spent.items()}


def theirs(
    checkout: Path, volume: Volume, table: pd.DataFrame, count: int
) -> tuple[float, float, pd.DataFrame]:
    """Seconds of the seed's two scripts: all objects measured, `count` assigned; its rows."""
    folder = checkout / "Cnapse"
    with tempfile.TemporaryDirectory() as name:
        there = Path(name)
        for kind in ("synapses", "cells"):
            tifffile.imwrite(there / f"{kind}.tif", np.ascontiguousarray(getattr(volume, kind)))
        table[["syn_id", "pre_id", "size"]].head(count).to_csv(there / "info.csv", index=False)
        arrays = ["--syn_seg", str(there / "synapses.tif"), "--cell_seg", str(there / "cells.tif")]
        out = ["--outpath", str(there / "out.csv")]
        measured = _seed_seconds(
            folder, "synapse_getinfo.py", [*arrays, *out, "--res", "4", "4", "50"]
        )
        info = ["--mip", "0", "--syn_info", str(there / "info.csv")]
        assigned = _seed_seconds(folder, "synapse_diffuse.py", [*arrays, *out, *info])
        return measured, assigned, pd.read_csv(there / "out.csv")


def _seed_seconds(folder: Path, script: str, options: list[str]) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _SEED_RUNNER, str(folder), str(folder / script), *options],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout.rpartition("SECONDS")[2])


def compared(volume: Volume, mine: Ours, seed: Seed | None) -> list[Row]:
    """Rows of one volume."""
    works = [("measure", mine.measured, seed and seed.measured, "")]
    for method in COMPARED:
        seconds = mine.assigned[method]
        note = seed.notes[method] if seed else ""
        works += [
            (f"partners, {method}", seconds, seed and seed.assigned, note),
            (f"both, {method}", mine.measured + seconds, seed and seed.both, ""),
        ]
    return [
        Row(f"{work}, {volume.name}", 1e3 * own / SYNAPSES, "ms a synapse")
        if their is None
        else Row(
            f"{work}, {volume.name}", 1e3 * own / SYNAPSES, "ms a synapse",
            "Cnapse", 1e3 * their / SYNAPSES, note,
        )
        for work, own, their, note in works
    ]  # fmt: skip


def run_seed(checkout: Path, volume: Volume, mine: Ours, count: int) -> Seed:
    """The seed on `count` of the synapses, and how far its partners are ours."""
    measured, assigned, found = theirs(checkout, volume, mine.table, count)
    notes: dict[Method, str] = {
        method: f"seed timed on {count}; {agreement(mine.table.head(count), rows, found)}"
        for method, rows in mine.rows.items()
    }
    return Seed(measured, assigned * SYNAPSES / count, notes)


def agreement(table: pd.DataFrame, rows: pd.DataFrame, found: pd.DataFrame) -> str:
    """How far the seed's partners of some synapses are ours."""
    ours_of, theirs_of = (t.groupby("syn_id")["post_id"].agg(set) for t in (rows, found))
    same = sum(ours_of.get(i, set()) == theirs_of.get(i, set()) for i in table["syn_id"])
    own = rows[rows["syn_id"].isin(table["syn_id"])]
    both = own.merge(found, on=["syn_id", "post_id"], how="outer", suffixes=("", "_seed"))
    volume_of = both["syn_id"].map(table.set_index("syn_id")["size"])
    our_share, their_share = both["share"].fillna(0), both["size_seed"].fillna(0) / volume_of
    apart = our_share - their_share
    disputed = np.maximum(our_share, their_share)[(our_share == 0) | (their_share == 0)]
    return (
        f"same partner set in {same} of them, largest share in dispute "
        f"{100 * max(disputed, default=0.0):.2g} %, rms difference of shares "
        f"{100 * float(np.sqrt((apart**2).mean())):.2g} points"
    )


def main() -> None:
    description = __doc__.partition("\n")[0] if __doc__ else ""
    options = parser(description, {"seed": "a checkout of Cnapse"}).parse_args()
    checkout: Path | None = options.seed
    if checkout is None or not (checkout / "Cnapse" / "synapse_diffuse.py").is_file():
        absent("Cnapse", f"--seed {checkout}: no Cnapse/synapse_diffuse.py there")
        checkout = None
    ours(make_volume(SMALL, 0), 1)  # compiles

    rows: list[Row] = []
    found: list[Ours] = []
    for shape in (SMALL, LARGE):
        volume = make_volume(shape, 1)
        mine = ours(volume, 3)
        seed = None
        if checkout is not None:
            quick = QUICK_SEED_SYNAPSES[shape]
            seed = run_seed(checkout, volume, mine, quick if options.quick else SYNAPSES // 4)
        rows += compared(volume, mine, seed)
        rows += [
            Row(f"  of that, {name}, {volume.name}", spent, "ms a synapse")
            for name, spent in parts(volume, mine.table).items()
        ]
        rows.append(
            Row(f"one read of the arrays, {volume.name}", mine.read, "s", note="numpy's maximum")
        )
        found.append(mine)
    small, large = found
    note = f"one read of the arrays by numpy {large.read - small.read:+.3f} s"
    added = large.measured - small.measured
    rows.append(Row("added to measure by four times the volume", added, "s", note=note))
    report(rows, options.json)


if __name__ == "__main__":
    main()
