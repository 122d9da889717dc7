"""The exact solution of diffusion against random walks, on varied synapses.

Each synapse has tissue of its own, made here: neurites of 120 to 350 nm, of different calibre and
slope, with walls that bend within the section and drift from one to the next; free space of a given
width between them; densities of 25 to 75 nm radius in one to four sections on a wall; emitters by
both published rules, in turn. Half of the cutouts are cut short by the volume's edge.

What is compared is what of all the transmitter each cell got (those with more than 1 % by either
method) and the lost share, in points (hundredths of the transmitter). The walks of many particles
are also cut into sets of 10^3, 10^4 and so on, which are what so many particles would have found:
their own error falls as 1/sqrt(n), and the note has that against the exact solution. Times are of
CPU.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from _rows import Row, parser, report

from cnapse.geometry import Resolution, Triple, triple
from cnapse.partners.arrivals import Arrivals
from cnapse.partners.emitters import RuleName, find_emitters
from cnapse.partners.harmonic import solve
from cnapse.partners.labels import Tissue
from cnapse.partners.montecarlo import walk_ends
from cnapse.partners.parameters import AssignParameters

Array = npt.NDArray[Any]

RESOLUTIONS: tuple[Resolution, ...] = ((4.0, 4.0, 50.0), (8.0, 8.0, 40.0), (10.0, 10.0, 10.0))
GAPS_NM = (8.0, 16.0, 24.0, 40.0)
LIMIT = 0.5
LEAST_SHARE = 0.01
SIDE_NM = 520.0
DEPTH_NM = 450.0
RULES: tuple[RuleName, ...] = ("near", "extracellular")


@dataclass(frozen=True, slots=True)
class Synapse:
    """One synapse in its cutout, and what emits."""

    tissue: Tissue
    emitters: npt.NDArray[np.int32]
    stream: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Compared:
    """What both methods found on one synapse; shares of the same cells, the lost one last."""

    exact: Array
    walked: Array
    ends: Array
    exact_ms: float
    walk_ms: float

    @property
    def counted(self) -> Array:
        """Which of the shares are compared."""
        counted: Array = np.maximum(self.exact, self.walked) > LEAST_SHARE
        counted[-1] = True
        return counted

    @property
    def points(self) -> Array:
        """Differences."""
        return 100 * (self.exact - self.walked)[self.counted]

    def points_of(self, particles: int) -> Array:
        """Errors of every set of so many particles against the exact solution, one row a set."""
        sets = len(self.ends) // particles
        columns = len(self.exact)
        keys = self.ends[: sets * particles] + columns * np.repeat(np.arange(sets), particles)
        counts = np.bincount(keys, minlength=sets * columns).reshape(sets, columns)
        return 100 * (counts / particles - self.exact)[:, self.counted]


def synapses(resolution: Resolution, gap_nm: float, count: int) -> Iterator[Synapse]:
    """So many synapses that emit; the same ones in every run."""
    made, seed = 0, 0
    while made < count:
        rng = np.random.default_rng([seed, *(int(v) for v in (*resolution, gap_nm))])
        seed += 1
        synapse = _synapse(rng, resolution, gap_nm, RULES[made % 2])
        if synapse is not None:
            made += 1
            yield synapse


def _synapse(
    rng: np.random.Generator, resolution: Resolution, gap_nm: float, rule: RuleName
) -> Synapse | None:
    """One synapse, if chance gives room for it."""
    cells, wall, at_nm = _cells(rng, resolution, gap_nm)
    radius, sections = rng.uniform(25, 75), int(rng.integers(1, 5))
    thick = max(1, round(sections * 45 / resolution[2]))
    z = (cells.shape[2] - thick) // 2
    middle = np.abs(at_nm[..., :2] - SIDE_NM / 2).max(axis=-1) < 100
    places = np.argwhere((middle & (cells > 0) & (wall < gap_nm / 2 + 12))[:, :, z])
    if not len(places):
        return None
    x, y = places[rng.integers(len(places))]
    pre_id = int(cells[x, y, z])
    near = ((at_nm[..., :2] - at_nm[x, y, z, :2]) ** 2).sum(axis=-1) <= radius**2
    density = near & (cells == pre_id) & (wall < gap_nm / 2 + rng.uniform(14, 40))
    density[:, :, :z] = density[:, :, z + thick :] = False
    low, high = _cutout(rng, density, resolution)
    cut = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    parameters = AssignParameters.cnapse(rule=rule).emitter_rule(resolution)
    tissue = Tissue(cells[cut], density[cut], (0, 0, 0), pre_id, parameters.paints, resolution)
    emitters = find_emitters(tissue.cells, tissue.density, (0, 0, 0), pre_id, parameters)
    stream = (0, int(rng.integers(2**40)))
    return Synapse(tissue, emitters, stream) if len(emitters) else None


def _cutout(
    rng: np.random.Generator, density: Array, resolution: Resolution
) -> tuple[Triple, Triple]:
    """The padded box around a density; in half of the cases one side is short of its padding."""
    found = np.argwhere(density)
    padding = triple(AssignParameters.cnapse().padding_vx(resolution))
    reach = [[p, p] for p in padding]
    if rng.random() < 0.5:
        axis = int(rng.integers(3))
        reach[axis][int(rng.integers(2))] = int(padding[axis] * rng.uniform(0, 0.5))
    ends = zip(found.min(axis=0), found.max(axis=0), reach, density.shape, strict=True)
    pairs = [(max(a - r[0], 0), min(b + r[1] + 1, n)) for a, b, r, n in ends]
    return triple([a for a, _ in pairs]), triple([b for _, b in pairs])


def _cells(
    rng: np.random.Generator, resolution: Resolution, gap_nm: float
) -> tuple[Array, Array, Array]:
    """Cells, distance to the wall (nm) and places (nm), of a piece of tissue."""
    shape = [round(s / h) for s, h in zip((SIDE_NM, SIDE_NM, DEPTH_NM), resolution, strict=True)]
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    at_nm = (np.stack(grid, axis=-1) + 0.5) * resolution
    bent = at_nm + sum(_wave(rng, at_nm) for _ in range(3))
    pitch = rng.uniform(120, 350)
    line = np.arange(-2, 3 + int(SIDE_NM / pitch))
    corners = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    sites = (corners + rng.uniform(0, 1, corners.shape)) * pitch
    slope, calibre = rng.normal(0, 0.15, sites.shape), rng.normal(0, 0.15, len(sites)) * pitch**2
    first, second = np.full(shape, np.inf), np.full(shape, np.inf)
    nearest, next_nearest = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for n in range(len(sites)):
        centre = sites[n] + slope[n] * (bent[..., 2:] - DEPTH_NM / 2)
        power = ((bent[..., :2] - centre) ** 2).sum(axis=-1) - calibre[n]
        new, other = power < first, (power < second) & (power >= first)
        next_nearest = np.where(new, nearest, np.where(other, n, next_nearest))
        second = np.where(new, first, np.where(other, power, second))
        nearest, first = np.where(new, n, nearest), np.where(new, power, first)
    apart = sites[nearest] - sites[next_nearest]
    apart = apart + (slope[nearest] - slope[next_nearest]) * (bent[..., 2:] - DEPTH_NM / 2)
    wall = (second - first) / (2 * np.linalg.norm(apart, axis=-1))
    cells = np.where(wall >= gap_nm / 2, nearest + 1, 0).astype(np.uint32, order="F")
    return cells, wall, at_nm


def _wave(rng: np.random.Generator, at_nm: Array) -> Array:
    """A smooth displacement in the plane, nm."""
    direction = rng.normal(size=3) * (1, 1, 0.5)
    length = rng.uniform(150, 400)
    phase = at_nm @ (direction / np.linalg.norm(direction)) * (2 * np.pi / length)
    moved = rng.normal(0, 5, 2)[None, :] * np.sin(phase + rng.uniform(0, 7))[..., None]
    return np.concatenate([moved, np.zeros((*at_nm.shape[:3], 1))], axis=-1)


def compare(synapse: Synapse, particles: int, threads: int) -> Compared:
    """Both methods on one synapse."""
    tissue, emitters = synapse.tissue, synapse.emitters
    how = AssignParameters.cnapse(particles=particles)
    exact_ms, found = _timed(lambda: solve(tissue, emitters, how.laplace))
    walk_ms, (ends, _) = _timed(
        lambda: walk_ends(tissue, emitters, how.walk, synapse.stream, threads=threads)
    )
    return _compared(found, ends, exact_ms, walk_ms)


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU time, ms, and the result."""
    start = time.process_time()
    result = work()
    return 1e3 * (time.process_time() - start), result


def _compared(found: Arrivals, ends: Array, exact_ms: float, walk_ms: float) -> Compared:
    ids = np.union1d(found.post_ids, ends[ends > 0])
    exact = np.zeros(len(ids) + 1)
    exact[np.searchsorted(ids, found.post_ids)] = found.raw_share
    exact[-1] = found.lost
    columns = np.where(ends > 0, np.searchsorted(ids, ends), len(ids))
    walked = np.bincount(columns, minlength=len(ids) + 1) / len(ends)
    return Compared(exact, walked, columns, exact_ms, walk_ms)


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _setting(name: str, results: Sequence[Compared], particles: int) -> list[Row]:
    """Rows of one setting: agreement, and time."""
    points = np.concatenate([r.points for r in results])
    sampling = [100 * np.sqrt(r.walked * (1 - r.walked) / particles)[r.counted] for r in results]
    note = (
        f"{len(results)} synapses, {len(points)} shares; largest {np.abs(points).max():.2f}; "
        f"sampling alone {_rms(np.concatenate(sampling)):.2f}"
    )
    exact = float(np.median([r.exact_ms for r in results]))
    walked = float(np.median([r.walk_ms for r in results]))
    return [
        Row(f"rms difference, {name}", _rms(points), "points", "limit", LIMIT, note),
        Row(f"a synapse, {name}", exact, "ms", f"{particles:,} particles", walked, "median"),
    ]


def _errors(results: Sequence[Compared], particles: int) -> list[Row]:
    """Rows of how walks of few particles do, and how fast their own error falls."""
    sizes = [10**power for power in range(3, 9) if 10 * 10**power <= particles]
    rows, own = [], []
    for size in sizes:
        errors = [r.points_of(size) for r in results]
        # The sets are a part of what they are compared with.
        apart = [(e - e.mean(axis=0)) / np.sqrt(1 - size / particles) for e in errors]
        own.append(_rms(np.concatenate([a.ravel() for a in apart])))
        against = _rms(np.concatenate([e.ravel() for e in errors]))
        note = f"against exact {against:.3f}"
        wanted = [(r.exact * (1 - r.exact))[r.counted] for r in results]
        theory = 100 * float(np.sqrt(np.mean(np.concatenate(wanted)) / size))
        rows.append(Row(f"error of {size:,} particles", own[-1], "points", "theory", theory, note))
    if len(sizes) > 1:
        order = float(np.polyfit(np.log(sizes), np.log(own), 1)[0])
        rows.append(Row("power of their number", order, "", "1/sqrt(n)", -0.5))
    return rows


def main() -> None:
    options = parser(str(__doc__).splitlines()[0], {})
    options.add_argument("--threads", type=int, default=2, help="of the walks")
    options.add_argument("--synapses", type=int, default=17, help="per setting")
    options.add_argument("--particles", type=int, default=1_000_000)
    args = options.parse_args()
    count, particles = (3, 100_000) if args.quick else (args.synapses, args.particles)
    compare(next(synapses(RESOLUTIONS[0], GAPS_NM[0], 1)), 10, 1)
    rows: list[Row] = []
    results: list[Compared] = []
    for resolution in RESOLUTIONS:
        for gap_nm in GAPS_NM:
            name = f"{'x'.join(f'{h:g}' for h in resolution)} nm, gap {gap_nm:g} nm"
            made = synapses(resolution, gap_nm, count)
            here = [compare(synapse, particles, args.threads) for synapse in made]
            rows += _setting(name, here, particles)
            print(f"{name}: {rows[-2].ours:.3f} points ({rows[-2].note})", file=sys.stderr)
            results += here
    report(rows + _errors(results, particles), args.json)


if __name__ == "__main__":
    main()
